// SPDX-License-Identifier: Apache-2.0
//
// What a ring with one writer and one reader must do, as its headers promise it.
//
//   released      finished          published          written
//      │ unreleased  │ readable         │ staged          │
//   ───┴─────────────┴──────────────────┴─────────────────┴──▶ position
//                    └─ numbers of items ─────────────────┘
//
// Invariants:
//   1. It knows of each side what the handle knows: a side looks at the other only if
//      it knows of too little, so that spans and statistics are told to the item.
//   2. It holds numbers of items, never the ring's memory.
//
// Thread safety: one thread.
// Errors: none.
//
// Example:
//   const uint64_t room = model.Available(model.writer(), 1);
//   Require(handle.try_push(item) == (room >= 1), "full");
//   if (room >= 1) { model.Stage(number, 1); model.Publish(); }

#ifndef DOPPEL_TESTS_FUZZ_RING_MODEL_H_
#define DOPPEL_TESTS_FUZZ_RING_MODEL_H_

#include <algorithm>
#include <cstdint>

#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {

class RingModel {
 public:
  struct Side {
    bool writes;
    uint64_t known = 0;  // Items or slots that the handle knows of.
    bool closed = false;
    bool stalled = false;
    uint64_t refusals = 0;
    uint64_t stalls = 0;
    uint64_t high_water = 0;
    bool armed = false;      // The event is to tell of `wish`, or of the end.
    uint64_t wish = 0;       // A position of the other side.
    bool event_due = false;  // It has come about.
  };

  explicit RingModel(uint64_t capacity) : capacity_(capacity) {}

  uint64_t capacity() const { return capacity_; }
  Side& writer() { return writer_; }
  Side& reader() { return reader_; }
  Side& OtherOf(const Side& side) { return side.writes ? reader_ : writer_; }
  const NumberQueue& readable() const { return readable_; }

  uint64_t released() const { return released_; }
  uint64_t finished() const { return finished_; }
  uint64_t published() const { return finished_ + readable_.size(); }
  uint64_t written() const { return published() + staged_.size(); }
  uint64_t size() const { return published() - released_; }

  // What a look finds.
  uint64_t Look(Side& side) {
    side.known =
        side.writes ? capacity_ - (written() - released_) : readable_.size();
    const uint64_t items = side.writes ? capacity_ - side.known : side.known;
    side.high_water = std::max(side.high_water, items);
    return side.known;
  }

  // What the handle has for who wants so many.
  uint64_t Available(Side& side, uint64_t wanted) {
    if (side.known >= wanted) return side.known;
    Look(side);
    const bool refuses = side.known < wanted;
    if (refuses) {
      ++side.refusals;
      side.stalls += side.stalled ? 0 : 1;
    }
    side.stalled = refuses;
    return side.known;
  }

  // The writer goes on by items of these numbers.
  void Stage(uint64_t first, uint64_t n) {
    staged_.Push(first, n);
    Require(n <= writer_.known, "the model has room");
    writer_.known -= n;
  }

  void Publish() {
    readable_.Take(staged_);
    Tell(reader_);
  }

  // The reader goes on by the n oldest items.
  void Finish(uint64_t n) {
    readable_.Pop(n);
    reader_.known -= n;
    finished_ += n;
  }

  void Release() {
    released_ = finished_;
    Tell(writer_);
  }

  void HandOver(const Side& side) { side.writes ? Publish() : Release(); }

  // How a wait ends whose deadline has passed.
  RingWait Wait(Side& side, uint64_t wanted) {
    HandOver(side);
    if (Available(side, wanted) >= wanted) return RingWait::kReady;
    side.armed = false;  // The wait's wish took its place.
    Look(side);
    return OtherOf(side).closed ? RingWait::kClosed
                                : RingWait::kDeadlineExceeded;
  }

  RingWait Arm(Side& side, uint64_t wanted, bool peer_gone) {
    HandOver(side);
    side.armed = false;
    side.event_due = false;
    if (Look(side) >= wanted) {
      side.stalled = false;
      return RingWait::kReady;
    }
    if (OtherOf(side).closed) return RingWait::kClosed;
    if (peer_gone) return RingWait::kPeerGone;
    side.armed = true;
    side.wish =
        side.writes ? written() + wanted - capacity_ : finished_ + wanted;
    return RingWait::kArmed;
  }

  void Close(Side& side) {
    side.closed = true;
    Side& other = OtherOf(side);
    if (other.armed) other.event_due = true;
  }

  // A new handle. What the one before had not published is forgotten, and what it had
  // finished is handed back.
  void Open(Side& side) {
    if (side.writes) staged_.Clear();
    side.known = 0;
    side.closed = false;
    side.armed = false;
    side.event_due = false;
    HandOver(side);
  }

  // The items and the handles are gone.
  void Empty() {
    staged_.Clear();
    finished_ = published();
    readable_.Clear();
    released_ = finished_;
  }

  RingStatistics Statistics() const {
    return {.pushed = published(),
            .popped = released_,
            .push_refusals = writer_.refusals,
            .push_stalls = writer_.stalls,
            .pop_refusals = reader_.refusals,
            .pop_stalls = reader_.stalls,
            .high_water = std::max(writer_.high_water, reader_.high_water)};
  }

 private:
  // The other side of this one has handed something over.
  void Tell(Side& side) {
    const uint64_t position = side.writes ? released_ : published();
    if (side.armed && position >= side.wish) side.event_due = true;
  }

  uint64_t capacity_;
  uint64_t released_ = 0;  // Positions.
  uint64_t finished_ = 0;
  NumberQueue readable_;  // Published and not finished.
  NumberQueue staged_;    // Written and not published.
  Side writer_{.writes = true};
  Side reader_{.writes = false};
};

}  // namespace doppel::fuzz

#endif  // DOPPEL_TESTS_FUZZ_RING_MODEL_H_
