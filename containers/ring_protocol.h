// SPDX-License-Identifier: Apache-2.0
//
// The protocol of a ring with one writer and one reader: positions only, no pointers
// and no system calls.
//
//              read                    write
//   ────────────┼────────────────────────┼──────────────────────────▶ position
//   consumed    │ readable: write - read │ free: capacity - readable
//
// Both sides are one and the same: each may go on up to a limit that the other's
// position sets. The reader's limit is the writer's position; the writer's limit is
// the reader's position plus the capacity. What lies between a side's own position
// and its limit is available to it: items to read, or free slots.
//
// Each side holds its own position in a cursor, and beside it the limit as it last
// saw it. It loads the other's position only when what it saw is too little for what
// it was asked: on a ring that is neither full nor empty the two sides rarely touch
// each other's line. On one that is, RingPacing says how long to leave the other's
// line alone before the next look.
//
// So there are two classes. A RingCursor is what every item needs: small, and never
// passed by its address, so that it lives in registers. A RingWatch is what a look
// needs besides: one a side, in memory.
//
// Invariants:
//   1. Each side stores its own words only. It stores its position with release
//      order, after its last access to the items that it hands over.
//   2. Each side loads the other's position once a look, with acquire order, before
//      its first access to the items that it was handed. Every decision rests on that
//      one value.
//   3. A position that cannot be true (it goes back, or further than the capacity
//      allows) is not believed: the cursor stays with what it knew, and says lied()
//      from then on. It never believes in more than `capacity` items.
//   4. Differences are taken modulo 2^64: a position that passes 2^64 is no lie. It takes
//      centuries; of a ring whose bytes are no power of two a later handle would take
//      another place for it than the one before.
//   5. Who waits is woken: after BeforeSleep gave kSleep, the Publish of the other side
//      that makes it enough says so to its caller, once for each wish.
//
// Why acquire and release are enough for the items: a slot is written by the writer,
// then read by the reader, then written again. The first hand-over is ordered by the
// writer's position (1 and 2), the second by the reader's. No decision rests on both
// positions at one moment.
//
// Why waiting needs fences: the one side stores its wish and then loads the position,
// the other stores its position and then loads the wish. With a fence between the two
// on both sides, one of them sees the other's store. That is all the order that waiting
// needs: who reads a wish too early to see how to wake has stored its position early
// enough to be seen, and nobody sleeps.
//
// Thread safety: a cursor belongs to one thread at a time; the words are shared.
// Errors: none.
//
// Example:
//   auto watch = RingWatch<>::Writer(&header.writer, &header.reader, 512);
//   RingCursor<> writer(&watch);
//   if (writer.AvailableFor(1) >= 1) {
//     slots[writer.position() % 512] = item;
//     writer.Stage(1);
//     if (writer.Publish()) Wake(reader);
//   }

#ifndef DOPPEL_CONTAINERS_RING_PROTOCOL_H_
#define DOPPEL_CONTAINERS_RING_PROTOCOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_layout.h"

namespace doppel {

// Where the reader whose words these are goes on: behind what it has finished, handed
// back or not. Of items that it handed back at once the position alone tells.
template <class Atomics>
uint64_t NextToRead(const RingSide<Atomics>& reader, uint64_t capacity) {
  const uint64_t position = reader.position.load(std::memory_order_relaxed);
  const uint64_t finished = reader.finished.load(std::memory_order_relaxed);
  return finished - position <= capacity ? finished : position;
}

// How one side looks at the other. Goes on living when its cursor ends.
template <class Atomics = StdAtomics>
class RingWatch {
 public:
  using Side = RingSide<Atomics>;
  using Pacing = internal::RingPacing;

  static RingWatch Writer(Side* writer, const Side* reader, uint64_t capacity,
                          const Pacing& pacing = {}) {
    return RingWatch(writer, reader, capacity, capacity, pacing);
  }
  static RingWatch Reader(Side* reader, const Side* writer, uint64_t capacity,
                          const Pacing& pacing = {}) {
    return RingWatch(reader, writer, capacity, 0, pacing);
  }

  Side* mine() const { return mine_; }
  const Side* theirs() const { return theirs_; }
  uint64_t capacity() const { return capacity_; }

  // How far the limit is ahead of the other's position.
  uint64_t credit() const { return credit_; }

  // Whether the other side stored a position that cannot be true.
  bool lied() const { return lied_; }

  // Before each wake of the other side: whoever is about to sleep then does not.
  void ChangeSignal() {
    const uint32_t signal = mine_->signal.load(std::memory_order_relaxed);
    mine_->signal.store(signal + 1, std::memory_order_release);
  }

  // A position to be woken at. Never 0, which says that nobody waits.
  static uint64_t WishFor(uint64_t position) { return 2 * position + 1; }

  // Whether a side that stands at `position` fulfils the other's wish, and has not said
  // so before.
  ABSL_ATTRIBUTE_NOINLINE bool Grants(uint64_t wish, uint64_t position) {
    // Whoever waits stands still, so that this side cannot be far beyond.
    if (wish == granted_ || WishFor(position) - wish > 2 * capacity_) {
      return false;
    }
    granted_ = wish;
    return true;
  }

  // The limit now, for a side that stands at `position` and knew of `limit`.
  ABSL_ATTRIBUTE_NOINLINE uint64_t Look(uint64_t position, uint64_t limit) {
    const uint64_t now =
        theirs_->position.load(std::memory_order_acquire) + credit_;
    if (now - limit > position + capacity_ - limit || lied_) {
      lied_ = true;
      return limit;
    }
    const uint64_t known = now - position;
    const uint64_t items = credit_ == 0 ? known : capacity_ - known;
    if (items > high_water_) {
      // Another process may have had this side since the watch was made.
      high_water_ =
          std::max(items, mine_->high_water.load(std::memory_order_relaxed));
      mine_->high_water.store(high_water_, std::memory_order_relaxed);
    }
    return now;
  }

  // The same, at the pace that suits.
  ABSL_ATTRIBUTE_NOINLINE uint64_t LookAtPace(uint64_t wanted,
                                              uint64_t position,
                                              uint64_t limit) {
    for (uint32_t i = pacing_.pauses(); i > 0; --i) internal::Pause();
    limit = Look(position, limit);
    pacing_.Found(limit - position);
    if (limit - position >= wanted) EndStall();
    return limit;
  }

  // The same, counted if fewer than `wanted` are there.
  ABSL_ATTRIBUTE_NOINLINE uint64_t LookFor(uint64_t wanted, uint64_t position,
                                           uint64_t limit) {
    limit = LookAtPace(wanted, position, limit);
    if (limit - position < wanted) {
      internal::AddTo(mine_->refusals, 1);
      if (!stalled_) internal::AddTo(mine_->stalls, 1);
      stalled_ = true;
    }
    return limit;
  }

  // As many as were wanted are there again.
  void EndStall() { stalled_ = false; }

 private:
  RingWatch(Side* mine, const Side* theirs, uint64_t capacity, uint64_t credit,
            const Pacing& pacing)
      : mine_(mine),
        theirs_(theirs),
        capacity_(capacity),
        credit_(credit),
        high_water_(mine->high_water.load(std::memory_order_relaxed)),
        pacing_(pacing) {}

  Side* mine_;           // Stored by this side.
  const Side* theirs_;   // Loaded by this side.
  uint64_t capacity_;    // Copied: where it comes from may be shared.
  uint64_t credit_;      // Writer: the capacity. Reader: 0.
  uint64_t high_water_;  // What mine_->high_water holds.
  Pacing pacing_;
  uint64_t granted_ = 0;  // The other's wish that was fulfilled last.
  bool stalled_ = false;  // Whether the last look found too little.
  bool lied_ = false;     // Never reset.
};

template <class Atomics = StdAtomics>
class RingCursor {
 public:
  using Side = RingSide<Atomics>;
  using Watch = RingWatch<Atomics>;

  // Writer: goes on at its position. Reader: goes on after what it has finished.
  // Knows of nothing that is available at first.
  explicit RingCursor(Watch* watch)
      : mine_(watch->mine()),
        theirs_(watch->theirs()),
        watch_(watch),
        position_(watch->credit() == 0
                      ? NextToRead(*mine_, watch->capacity())
                      : mine_->position.load(std::memory_order_relaxed)),
        limit_(position_) {}

  // Of the next item: what is staged counts as done.
  uint64_t position() const { return position_; }
  uint64_t capacity() const { return watch_->capacity(); }
  bool lied() const { return watch_->lied(); }

  // Items, or free slots, that are known of. Loads nothing shared.
  uint64_t known() const { return limit_ - position_; }

  // The same, of which there may be fewer or more than `wanted`. Loads the other's
  // position only if fewer than `wanted` are known of.
  uint64_t AvailableFor(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(known() < wanted)) {
      limit_ = watch_->LookFor(wanted, position_, limit_);
    }
    return known();
  }

  // Whoever waits looks so: it is one call that found too little.
  uint64_t LookAtPace(uint64_t wanted) {
    limit_ = watch_->LookAtPace(wanted, position_, limit_);
    return known();
  }

  // Loads the other's position.
  void Look() { limit_ = watch_->Look(position_, limit_); }

  // Writer: goes on by `n` items, without handing them over. REQUIRES: n <= known().
  void Stage(uint64_t n) { position_ += n; }

  // Reader: goes on by `n` items that are handed back at once, and whose bytes do not
  // change before: the position alone says so. REQUIRES: n <= known().
  void Take(uint64_t n) { position_ += n; }

  // Reader: the same, of items that are handed back later, or whose bytes change before.
  // Whoever reads after this side died goes on behind them. REQUIRES: n <= known().
  void Finish(uint64_t n) {
    position_ += n;
    mine_->finished.store(position_, std::memory_order_relaxed);
    // A process dies between two instructions: their order is all that counts.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  // Hands over all that is staged or finished. True if the other side waits and has
  // enough now: the caller wakes it, then or soon.
  [[nodiscard]] bool Publish() {
    mine_->position.store(position_, std::memory_order_release);
    Atomics::LightFence();
    const uint64_t wish = theirs_->wish.load(std::memory_order_relaxed);
    return ABSL_PREDICT_FALSE(wish != 0) && watch_->Grants(wish, position_);
  }

  enum class Next : uint8_t { kGoOn, kEnd, kSleep };

  // One round of waiting until `wanted` are available, with the fence that
  // LightFence stands against; without one the sleep has to end by itself.
  // kGoOn: they are. kEnd: they are not, and the other side has closed or lied.
  // kSleep: sleep while theirs()->signal holds `signal`, then EndWaitIf or this again.
  // Whoever stops waiting after kSleep calls EndWait.
  template <class HeavyFence>
  Next BeforeSleep(uint64_t wanted, WakeBy by, uint32_t& signal,
                   HeavyFence heavy_fence) {
    signal = theirs_->signal.load(std::memory_order_relaxed);
    mine_->wake_by.store(by, std::memory_order_relaxed);
    mine_->wish.store(Watch::WishFor(position_ + wanted - watch_->credit()),
                      std::memory_order_relaxed);
    heavy_fence();
    // Before the look, which then finds all that was handed over until the end.
    const bool ended = closed();
    if (EndWaitIf(wanted)) return Next::kGoOn;
    if (!ended && !lied()) return Next::kSleep;
    EndWait();
    return Next::kEnd;
  }

  // For whoever was woken: ends the wait, and says so, if `wanted` are available.
  bool EndWaitIf(uint64_t wanted) {
    Look();
    if (known() < wanted) return false;
    EndWait();
    watch_->EndStall();
    return true;
  }

  // Nobody waits on this side any more.
  void EndWait() { mine_->wish.store(0, std::memory_order_relaxed); }

  // Opens this side, which a handle before may have closed, or left while it waited.
  void Open() {
    mine_->closed.store(0, std::memory_order_relaxed);
    EndWait();
  }

  // Ends this side. The caller wakes the other side after it.
  void Close() { mine_->closed.store(1, std::memory_order_release); }

  // Whether the other side has ended. What it had handed over before is found by a
  // look that comes after.
  bool closed() const {
    return theirs_->closed.load(std::memory_order_acquire) != 0;
  }

  Side* mine() const { return mine_; }
  const Side* theirs() const { return theirs_; }

 private:
  Side* mine_;
  const Side* theirs_;
  Watch* watch_;
  uint64_t position_;  // Of the next item.
  uint64_t limit_;     // The position that must not be passed.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_PROTOCOL_H_
