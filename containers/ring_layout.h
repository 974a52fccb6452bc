// SPDX-License-Identifier: Apache-2.0
//
// The bytes that the two sides of a ring share: within a process, or between two
// processes that map one file. PROTOCOL.md says what they mean and what is seen when
// one side dies between any two stores.
//
//   RingHeader, on a page of its own                      RingSide
//   offset 0    RingIdentity  written once               offset 0    position
//          128  RingSide      the writer's words                128  wish
//          512  RingSide      the reader's words                136  wake_by, fenced
//          896  end                                             256  signal, closed
//   the items, elsewhere in the file, shown twice               264  finished
//                                                               272  statistics
//                                                               296  link
//
// Invariants:
//   1. Every word has one owner that stores to it, and whoever loads it loads it once
//      a decision. A RingSide's words are all stored by its own side, so that each
//      side can have a file of its own which the other maps for reading only.
//   2. A position is alone on a line of 128 bytes: two lines of 64, because
//      processors fetch lines in pairs. The number is part of the layout and does not
//      follow the compiler's idea of the machine.
//   3. Bytes that are all zero are a valid RingSide: of an empty, open ring in which
//      nobody waits.
//   4. Numbers are stored in the machine's own byte order; both sides run on it.
//
// Thread safety: the words are atomic. RingIdentity is written before the file is
//   given away, and after that only if a ring in an arena's file ends: its number is 0
//   then.
// Errors: CheckIdentity says what does not fit.
//
// Example:
//   auto* header = new (page) RingHeader<>();
//   header->writer.position.load(std::memory_order_acquire);

#ifndef DOPPEL_CONTAINERS_RING_LAYOUT_H_
#define DOPPEL_CONTAINERS_RING_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace doppel {

inline constexpr size_t kRingLineBytes = 128;

// "doppring" as bytes on a little-endian machine.
inline constexpr uint64_t kRingMagic = 0x676e697270706f64;
inline constexpr uint32_t kRingVersion = 3;

// How the words are made. A model checker puts its own atomic in place.
struct StdAtomics {
  template <class T>
  using Atomic = std::atomic<T>;

  // Orders this thread's stores before its later loads, as a sequentially consistent
  // fence would, against threads that make the heavy fence between theirs: the
  // kernel's membarrier(2), which puts a fence into every running thread. So the side
  // that never sleeps pays nothing.
  static void LightFence() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
};

// How a side that waits is to be woken: it sleeps in futex(2) on the other's signal, or
// in poll(2) on a descriptor that the other can make readable.
enum class WakeBy : uint32_t { kFutex = 0, kEvent = 1 };

// The words that one side stores. "Other" is the other side, which loads them.
template <class Atomics = StdAtomics>
struct RingSide {
  template <class T>
  using Atomic = typename Atomics::template Atomic<T>;

  // Items handed over (writer) or handed back (reader) since the ring was made.
  alignas(kRingLineBytes) Atomic<uint64_t> position{0};

  // 0: this side does not wait. Else twice the other's position to be woken at, plus 1.
  // The other looks after each of its stores, and finds the line in its own cache
  // unless a wait began.
  alignas(kRingLineBytes) Atomic<uint64_t> wish{0};
  Atomic<WakeBy> wake_by{WakeBy::kFutex};
  // Whether this side's process takes part in fences that another one makes
  // (membarrier(2)): kFencedHere, kUnfencedHere; 0: no process has had the side. Of no
  // matter within one process.
  Atomic<uint32_t> fenced{0};

  // The other side sleeps on this word (futex(2)). Changes before each wake.
  alignas(kRingLineBytes) Atomic<uint32_t> signal{0};
  Atomic<uint32_t> closed{0};  // 1: this side has ended.
  // Reader: where it is ahead of `position`, the items that it is done with and has not
  // handed back. Stored before the items' bytes are touched, so that who comes after a
  // reader that died does not read them.
  Atomic<uint64_t> finished{0};
  // Statistics. They change on slow paths only.
  Atomic<uint64_t> stalls{0};      // Times that it became full, or empty.
  Atomic<uint64_t> refusals{0};    // Calls that found it so.
  Atomic<uint64_t> high_water{0};  // Most items in the ring that a look found.
  // By which link this side's process wakes and is woken (ring_invitation.h); 0: none.
  Atomic<uint64_t> link{0};
};

inline constexpr uint32_t kFencedHere = 1;
inline constexpr uint32_t kUnfencedHere = 2;

// What kind of ring it is, where its items are, and who may attach.
struct RingIdentity {
  uint64_t magic = kRingMagic;
  uint32_t version = kRingVersion;
  uint32_t page_bytes = 0;  // Of the file: what everything is aligned to.
  uint64_t items_offset_bytes = 0;  // In the file: where the items begin.
  uint64_t capacity_bytes = 0;      // Of the items: what is shown twice.
  uint64_t item_bytes = 0;          // Positions count items of this size.
  uint32_t sides = 0;  // Whose words are here: kWriterHere, kReaderHere.
  uint32_t no_meaning = 0;
  // SharedRing: other rings on the same pages, earlier and later, have others.
  uint64_t number = 0;
  // Up to the next line. Zero. (Not by alignas: an identity is copied to the stack.)
  uint64_t reserved[9] = {};
};

inline constexpr uint32_t kWriterHere = 1;
inline constexpr uint32_t kReaderHere = 2;

template <class Atomics = StdAtomics>
struct RingHeader {
  RingIdentity identity;
  RingSide<Atomics> writer;
  RingSide<Atomics> reader;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<uint32_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t) &&
              sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
static_assert(std::is_standard_layout_v<RingHeader<>>);

static_assert(offsetof(RingSide<>, position) == 0);
static_assert(offsetof(RingSide<>, wish) == kRingLineBytes);
static_assert(offsetof(RingSide<>, wake_by) == kRingLineBytes + 8);
static_assert(offsetof(RingSide<>, fenced) == kRingLineBytes + 12);
static_assert(offsetof(RingSide<>, signal) == 2 * kRingLineBytes);
static_assert(offsetof(RingSide<>, closed) == 2 * kRingLineBytes + 4);
static_assert(offsetof(RingSide<>, finished) == 2 * kRingLineBytes + 8);
static_assert(offsetof(RingSide<>, stalls) == 2 * kRingLineBytes + 16);
static_assert(offsetof(RingSide<>, refusals) == 2 * kRingLineBytes + 24);
static_assert(offsetof(RingSide<>, high_water) == 2 * kRingLineBytes + 32);
static_assert(offsetof(RingSide<>, link) == 2 * kRingLineBytes + 40);
static_assert(sizeof(RingSide<>) == 3 * kRingLineBytes);

static_assert(offsetof(RingIdentity, magic) == 0);
static_assert(offsetof(RingIdentity, version) == 8);
static_assert(offsetof(RingIdentity, page_bytes) == 12);
static_assert(offsetof(RingIdentity, items_offset_bytes) == 16);
static_assert(offsetof(RingIdentity, capacity_bytes) == 24);
static_assert(offsetof(RingIdentity, item_bytes) == 32);
static_assert(offsetof(RingIdentity, sides) == 40);
static_assert(offsetof(RingIdentity, number) == 48);
static_assert(sizeof(RingIdentity) == kRingLineBytes);

static_assert(offsetof(RingHeader<>, identity) == 0);
static_assert(offsetof(RingHeader<>, writer) == kRingLineBytes);
static_assert(offsetof(RingHeader<>, reader) == 4 * kRingLineBytes);
static_assert(sizeof(RingHeader<>) == 7 * kRingLineBytes);

namespace internal {

// REQUIRES: the caller's side alone stores to the count.
template <class Count>
void AddTo(Count& count, uint64_t n) {
  count.store(count.load(std::memory_order_relaxed) + n,
              std::memory_order_relaxed);
}

}  // namespace internal

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_LAYOUT_H_
