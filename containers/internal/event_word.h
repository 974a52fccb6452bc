// SPDX-License-Identifier: Apache-2.0
//
// The protocol of an event count: threads that wait until something is so, and threads
// that may have made it so; one word, no system calls.
//
//   waits                              goes on
//   Announce: word |= 1 ── fence       stores what it is about ── fence ── odd?
//        │                                  │ yes
//        ▼ looks: not so                    ▼
//   futex(2) while the word is         Advance: odd ──▶ the next even ── wakes all
//   what Announce returned
//
//   word   6 ── Announce ──▶ 7 ── Advance ──▶ 8       even: nobody waits
//
// An event count knows nothing of the condition, and so serves any: who waits looks
// itself, after it has announced that it will sleep. (D. Vyukov's eventcount, and folly's.)
// The mark and the count are one word: telling who waits and starting a new count is one
// step, and each announcement costs those that go on one wake, however often they do.
//
// Invariants:
//   1. Nobody sleeps who was not woken and whose condition came to be so, if who makes it
//      so calls Waited() after its store, and who waits looks after Announce.
//   2. Waited() is one load, of a word that nobody stores to while nobody waits.
//   3. Advance is true for one caller an announcement. That caller wakes all; until it
//      has done so nobody else does, so that a wake is as late as the thread that owes it.
//   4. Who stops waiting owes nothing. The mark stays until the next Advance.
//
// Why the fences are enough. Both sides store and then load, with a fence between. If the
// one that goes on does not see the mark, its fence came first, and who waits sees its
// store. If it sees the mark, but not the word's newest value when it advances, then
// another has advanced and wakes those who slept; whoever announced itself after that was
// not seen, and so sees the store.
//
// Why marking is a release, and advancing an acquire. Who advances wakes for others, too,
// whose stores it knows nothing of: so it must know of all sleepers and events whose mark
// it takes away, even if its own fence came before theirs.
//
// A word that goes through all its values while a thread falls asleep (2^31 wakes) is not
// thought of, as with every futex.
//
// Thread safety: all functions; the flag of an event belongs to one thread that waits.
// Errors: none.
//
// Example:
//   item.store(7, std::memory_order_release);
//   if (word.Waited() && word.Advance()) WakeAll();

#ifndef DOPPEL_CONTAINERS_INTERNAL_EVENT_WORD_H_
#define DOPPEL_CONTAINERS_INTERNAL_EVENT_WORD_H_

#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

template <class Atomics = StdAtomics>
class EventWord {
 public:
  using Word = typename Atomics::template Atomic<uint32_t>;

  // --- Who goes on, after each store that somebody may wait for. ---

  // Whether anybody waits.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool Waited() const {
    Atomics::LightFence();
    return (word_.load(std::memory_order_relaxed) & kMark) != 0;
  }

  // Ends the count that those who wait saw. Whether the caller is to wake them.
  bool Advance() {
    uint32_t seen = word_.load(std::memory_order_relaxed);
    return (seen & kMark) != 0 && word_.compare_exchange_strong(
                                      seen, seen + 1, std::memory_order_acquire,
                                      std::memory_order_relaxed);
  }

  // After Advance, whether anybody may sleep on the word.
  bool HasSleepers() const {
    return sleepers_.load(std::memory_order_relaxed) != 0;
  }

  // --- Who waits. ---

  // Around all its announcements, unless it has an event.
  void Enter() { sleepers_.fetch_add(1, std::memory_order_relaxed); }
  void Leave() { sleepers_.fetch_sub(1, std::memory_order_relaxed); }

  // Before the look, with the fence that LightFence stands against. If the look is in
  // vain, the caller sleeps while the word holds what this returns.
  template <class HeavyFence>
  uint32_t Announce(HeavyFence heavy_fence) {
    const uint32_t seen = word_.fetch_or(kMark, std::memory_order_release);
    heavy_fence();
    return seen | kMark;
  }

  // What to sleep on.
  const Word& word() const { return word_; }

 private:
  static constexpr uint32_t kMark = 1;

  Word word_{0};      // Odd: somebody waits.
  Word sleepers_{0};  // Threads between Enter and Leave.
};

// Whether an event is to be told: what an announcement is to a thread that polls.
template <class Atomics = StdAtomics>
class EventFlag {
 public:
  // Before Announce.
  void Arm() { armed_.store(1, std::memory_order_relaxed); }
  void Disarm() { armed_.store(0, std::memory_order_relaxed); }

  // After Advance. Whether the caller is to tell the event.
  bool Take() {
    return armed_.load(std::memory_order_relaxed) != 0 &&
           armed_.exchange(0, std::memory_order_relaxed) != 0;
  }

 private:
  typename Atomics::template Atomic<uint32_t> armed_{0};
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_EVENT_WORD_H_
