// SPDX-License-Identifier: Apache-2.0
//
// The protocol of a single-producer, single-consumer ring: positions only, no
// pointers and no system calls.
//
//              read                    write
//   ────────────┼────────────────────────┼──────────────────────────▶ position
//   consumed    │ readable: write - read │ free: capacity - readable
//
// Each side holds its own position in a cursor, and beside it what it last saw of
// the other's. It loads the other's position only when what it saw is too little
// for what it was asked: on a ring that is neither full nor empty the two sides
// rarely touch each other's line. On one that is, SpscPacing says how long to leave
// the other's line alone before the next look.
//
// Invariants:
//   1. Each side stores its own position only, with release order, after its last
//      access to the items that it hands over.
//   2. Each side loads the other's position once a look, with acquire order,
//      before its first access to the items that it was handed. Every decision
//      rests on that one value.
//   3. A cursor never believes in more than `capacity` items, whatever the other's
//      position says: a position that cannot be true counts as "none".
//   4. Differences are taken modulo 2^64, so a position may pass 2^64.
//
// Why acquire and release are enough: a slot is written by the writer, then read by
// the reader, then written again. The first hand-over is ordered by write_position
// (1 and 2), the second by read_position. No decision rests on both positions at
// one moment, so no sequentially consistent order is needed.
//
// The atomic type is a parameter, so that the same code runs under a model checker.
//
// Thread safety: a cursor belongs to one thread at a time; the positions are shared.
// Errors: none.
//
// Example:
//   SpscWriterCursor writer(&shared.write_position, &shared.read_position, 512);
//   if (writer.FreeFor(1) >= 1) { slots[writer.position() % 512] = item;
//                                 writer.Publish(1); }

#ifndef DOPPEL_CONTAINERS_INTERNAL_SPSC_PROTOCOL_H_
#define DOPPEL_CONTAINERS_INTERNAL_SPSC_PROTOCOL_H_

#include <atomic>
#include <cstdint>

#include "absl/base/optimization.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/spsc_pacing.h"

namespace doppel::internal {

// The writer's side. `Position` is std::atomic<uint64_t> or behaves like it.
template <class Position = std::atomic<uint64_t>>
class SpscWriterCursor {
 public:
  // Continues at the position that stands in `*mine`; sees no free slot at first.
  SpscWriterCursor(Position* mine, const Position* theirs, uint64_t capacity,
                   const SpscPacing& pacing = {})
      : mine_(mine),
        theirs_(theirs),
        capacity_(capacity),
        position_(mine->load(std::memory_order_relaxed)),
        limit_(position_),
        pacing_(pacing) {}

  uint64_t position() const { return position_; }
  uint64_t capacity() const { return capacity_; }

  // Free slots that are known of. Loads nothing shared.
  uint64_t known_free() const { return limit_ - position_; }

  // Free slots, of which there may be fewer or more than `wanted`. Loads the
  // reader's position only if fewer than `wanted` are known of.
  uint64_t FreeFor(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(known_free() < wanted)) {
      for (uint32_t i = pacing_.pauses(); i > 0; --i) Pause();
      Look();
      pacing_.Found(known_free());
    }
    return known_free();
  }

  // Loads the reader's position.
  void Look() {
    const uint64_t read = theirs_->load(std::memory_order_acquire);
    const uint64_t used = position_ - read;
    limit_ = used <= capacity_ ? read + capacity_ : position_;
  }

  // Hands `n` items to the reader. REQUIRES: n <= known_free().
  void Publish(uint64_t n) {
    position_ += n;
    mine_->store(position_, std::memory_order_release);
  }

 private:
  Position* mine_;          // Stored by this side.
  const Position* theirs_;  // Loaded by this side.
  uint64_t capacity_;       // Copied: the object that has it is shared.
  uint64_t position_;       // What *mine_ holds, without loading it.
  uint64_t limit_;          // The position that must not be passed.
  SpscPacing pacing_;
};

// The reader's side.
template <class Position = std::atomic<uint64_t>>
class SpscReaderCursor {
 public:
  // Continues at the position that stands in `*mine`; sees no item at first.
  SpscReaderCursor(Position* mine, const Position* theirs, uint64_t capacity,
                   const SpscPacing& pacing = {})
      : mine_(mine),
        theirs_(theirs),
        capacity_(capacity),
        position_(mine->load(std::memory_order_relaxed)),
        limit_(position_),
        pacing_(pacing) {}

  uint64_t position() const { return position_; }
  uint64_t capacity() const { return capacity_; }

  // Readable items that are known of. Loads nothing shared.
  uint64_t known_readable() const { return limit_ - position_; }

  // Readable items, of which there may be fewer or more than `wanted`. Loads the
  // writer's position only if fewer than `wanted` are known of.
  uint64_t ReadableFor(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(known_readable() < wanted)) {
      for (uint32_t i = pacing_.pauses(); i > 0; --i) Pause();
      Look();
      pacing_.Found(known_readable());
    }
    return known_readable();
  }

  // Loads the writer's position.
  void Look() {
    const uint64_t written = theirs_->load(std::memory_order_acquire);
    limit_ = written - position_ <= capacity_ ? written : position_;
  }

  // Hands `n` slots back to the writer. REQUIRES: n <= known_readable().
  void Release(uint64_t n) {
    position_ += n;
    mine_->store(position_, std::memory_order_release);
  }

 private:
  Position* mine_;          // Stored by this side.
  const Position* theirs_;  // Loaded by this side.
  uint64_t capacity_;       // Copied: the object that has it is shared.
  uint64_t position_;       // What *mine_ holds, without loading it.
  uint64_t limit_;          // The position that must not be passed.
  SpscPacing pacing_;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SPSC_PROTOCOL_H_
