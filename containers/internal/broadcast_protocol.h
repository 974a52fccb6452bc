// SPDX-License-Identifier: Apache-2.0
//
// The protocol of a ring with one writer and many readers, each of which sees every
// item, and for the slowest of which the writer waits: positions only, no pointers to
// items and no system calls.
//
//          slowest reader      others          write
//   ────────────┼────────────────┼───────────────┼─────────┼────▶ position
//               │                                │   free  │ limit
//               └──────────────── capacity ────────────────┘
//
// A reader is a RingCursor, as in any ring. The writer's limit is the least of the
// readers' positions, plus the capacity; it loads them only when the limit that it
// knows is too little. Readers join and leave at any time: where there is none, the
// position is kNoReader.
//
// Invariants:
//   1. Each word has one side that stores to it.
//   2. The writer's position is stored with release order, after the items; readers
//      load it with acquire order, before them. A reader's position is stored with
//      release order after its last access to what it hands back, also when it joins
//      and leaves; the writer loads it with acquire order, before it uses the slots.
//   3. The writer never passes the position of a reader by more than the capacity.
//   4. The writer's wish, and with it how it waits, is that of any ring
//      (ring_protocol.h): the reader that comes to stand at it says so to its caller, once.
//      Who joins or leaves may be the one that the writer waits for: its caller wakes the
//      writer whatever the wish is.
//   5. Positions count items from 0. They do not reach 2^64: that takes 58 years at ten
//      items a nanosecond.
//
// Why joining is safe. The writer stores its position, makes a fence, and loads the
// readers'. Who joins stores a position, makes a fence, and loads the writer's. If the
// writer did not see the reader, then its fence came first, and so the reader saw the
// position that the writer looked from, and begins there or later. What the writer took
// for its limit was at most a capacity above that position.
//
// Thread safety: a cursor belongs to one thread at a time; the words are shared.
// Errors: none.
//
// Example:
//   BroadcastCursor<> writer(&watch);
//   if (writer.AvailableFor(1) >= 1) {
//     slots[writer.position() % 512] = item;
//     writer.Stage(1);
//     writer.Publish();
//   }

#ifndef DOPPEL_CONTAINERS_INTERNAL_BROADCAST_PROTOCOL_H_
#define DOPPEL_CONTAINERS_INTERNAL_BROADCAST_PROTOCOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <span>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_fences.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// The position of a seat that no reader holds.
inline constexpr uint64_t kNoReader = std::numeric_limits<uint64_t>::max();

// The first half of joining: from now on the reader counts, and begins at some position
// that the writer had.
template <class Atomics>
void AnnounceReader(RingSide<Atomics>& reader,
                    const RingSide<Atomics>& writer) {
  // Release: whoever held the seat before has read what it read.
  reader.position.store(writer.position.load(std::memory_order_relaxed),
                        std::memory_order_release);
}

// Enters a reader, whose seat the caller holds, at the newest position. A thread that is
// stopped in here holds the writer up.
template <class Atomics = StdAtomics, class Fences = StdFences>
void JoinBroadcast(RingSide<Atomics>& reader, const RingSide<Atomics>& writer) {
  AnnounceReader(reader, writer);
  Fences::Full();
  const uint64_t begin = writer.position.load(std::memory_order_relaxed);
  reader.finished.store(begin, std::memory_order_relaxed);
  // Relaxed: what the seat's holder before has read is behind the fence, too.
  reader.position.store(begin, std::memory_order_relaxed);
}

// Whether the writer waits. To be asked after joining and after leaving.
template <class Atomics>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool WriterWaits(
    const RingSide<Atomics>& writer) {
  Atomics::LightFence();
  return writer.wish.load(std::memory_order_relaxed) != 0;
}

// Ends it, after its last access to items.
template <class Atomics>
void LeaveBroadcast(RingSide<Atomics>& reader) {
  reader.position.store(kNoReader, std::memory_order_release);
}

// How the writer looks at its readers. Goes on living when its cursor ends.
template <class Atomics = StdAtomics, class Fences = StdFences>
class BroadcastWatch {
 public:
  using Side = RingSide<Atomics>;

  BroadcastWatch(Side* writer, std::span<const Side> readers, uint64_t capacity,
                 const RingPacing& pacing = {})
      : mine_(writer),
        readers_(readers),
        capacity_(capacity),
        pacing_(pacing) {}

  Side* mine() const { return mine_; }
  uint64_t capacity() const { return capacity_; }

  // The limit now, for a writer that knew of `limit`.
  ABSL_ATTRIBUTE_NOINLINE uint64_t Look(uint64_t limit) {
    const uint64_t published = mine_->position.load(std::memory_order_relaxed);
    Fences::Full();
    uint64_t slowest = published;
    for (const Side& reader : readers_) {
      const uint64_t at = reader.position.load(std::memory_order_acquire);
      slowest = std::min(slowest, at);  // kNoReader is above all.
    }
    const uint64_t items = std::min(published - slowest, capacity_);
    if (items > high_water_) {
      high_water_ = items;
      mine_->high_water.store(items, std::memory_order_relaxed);
    }
    // Who is about to join may stand far behind for a moment. What was free before is
    // free: it will not begin there.
    return std::max(limit, slowest + capacity_);
  }

  // The same, at the pace that suits, and counted if fewer than `wanted` are free.
  ABSL_ATTRIBUTE_NOINLINE uint64_t LookFor(uint64_t wanted, uint64_t position,
                                           uint64_t limit) {
    for (uint32_t i = pacing_.pauses(); i > 0; --i) Pause();
    limit = Look(limit);
    pacing_.Found(limit - position);
    const bool refuses = limit - position < wanted;
    if (refuses) {
      AddTo(mine_->refusals, 1);
      if (!stalled_) AddTo(mine_->stalls, 1);
    }
    stalled_ = refuses;
    return limit;
  }

 private:
  Side* mine_;                     // Stored by the writer.
  std::span<const Side> readers_;  // Loaded by it: one for each seat.
  uint64_t capacity_;
  uint64_t high_water_ = 0;  // What mine_->high_water holds.
  RingPacing pacing_;
  bool stalled_ = false;  // Whether the last look found too little.
};

template <class Atomics = StdAtomics, class Fences = StdFences>
class BroadcastCursor {
 public:
  using Watch = BroadcastWatch<Atomics, Fences>;

  // Goes on at the writer's position. Knows of no free slot at first.
  explicit BroadcastCursor(Watch* watch)
      : mine_(watch->mine()),
        watch_(watch),
        position_(mine_->position.load(std::memory_order_relaxed)),
        limit_(position_) {}

  // Of the next item: what is staged counts as done.
  uint64_t position() const { return position_; }
  uint64_t capacity() const { return watch_->capacity(); }

  // Free slots that are known of. Loads nothing shared.
  uint64_t known() const { return limit_ - position_; }

  // The same, of which there may be fewer or more than `wanted`. Looks at the readers
  // only if fewer than `wanted` are known of.
  uint64_t AvailableFor(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(known() < wanted)) {
      limit_ = watch_->LookFor(wanted, position_, limit_);
    }
    return known();
  }

  void Look() { limit_ = watch_->Look(limit_); }

  // Goes on by `n` items, without handing them over. REQUIRES: n <= known().
  void Stage(uint64_t n) { position_ += n; }

  // Hands over all that is staged.
  void Publish() {
    mine_->position.store(position_, std::memory_order_release);
  }

  // Asks that each reader that does not yet leave `wanted` slots free says so when it
  // does. Before the heavy fence, and that before the look.
  void Wish(uint64_t wanted) {
    // Not 0, which says that nobody waits.
    mine_->wish.store(2 * (position_ + wanted - capacity()) + 1,
                      std::memory_order_relaxed);
  }
  void EndWish() { mine_->wish.store(0, std::memory_order_relaxed); }

  // Opens the ring, which a handle before may have closed, or left with a wish.
  void Open() {
    mine_->closed.store(0, std::memory_order_relaxed);
    EndWish();
  }

  // Ends it: nothing comes after what is published.
  void Close() { mine_->closed.store(1, std::memory_order_release); }

 private:
  RingSide<Atomics>* mine_;
  Watch* watch_;
  uint64_t position_;  // Of the next item.
  uint64_t limit_;     // The position that must not be passed.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_BROADCAST_PROTOCOL_H_
