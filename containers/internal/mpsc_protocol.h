// SPDX-License-Identifier: Apache-2.0
//
// The protocol of a ring of many producers and one consumer: positions and header
// words only, no pointers to data and no system calls.
//
//            consumer                                claim   consumer + capacity
//   ────────────┼──────────┬──────────┬──────────┬─────┼──────────────┼─────▶ position
//   handed back │ header A │ 0        │ header C │ ... │ 0 0 0 0 0 0  │
//               │committed │ still    │committed │     │ free: every  │
//               │          │ written  │          │     │ word is 0    │
//                          ▲
//                     the consumer stops here, producers do not
//
// A producer claims [claim, claim + frame) by a compare-and-swap, fills it, and stores
// its header last. The consumer looks at one header: it learns from that line alone
// whether there is a message, and how long it is. It zeroes what it hands back.
//
// Which words must be zero, and why they are. The consumer takes any word at its
// position for a header, so the word must be 0 from before the consumer may look at
// it until its frame is committed. A frame of the next lap may begin at any word of 8
// bytes: frames have all lengths. So every word of [claim, consumer + capacity) must
// be 0. It is so at creation. A claim only makes that range shorter. Handing back
// makes it longer, by exactly the frames that are handed back, and each of their
// words is zeroed before: header, payload, padding, and what was reserved and not
// committed, since its producer may have written to it. Nobody else writes there:
// a producer writes in its own frame, and only until it commits.
//
// Invariants:
//   1. claim - consumer is at most the capacity. Frames that are claimed and not
//      handed back never overlap.
//   2. A producer stores a header with release order after its last access to the
//      frame; the consumer loads it with acquire order before its first.
//   3. The consumer stores its position with release order after it zeroed what it
//      hands back; a producer claims only up to a position that it has loaded with
//      acquire order, plus the capacity.
//   4. A claim is refused only if there was a moment within the call at which there
//      was too little room.
//   5. Only the consumer loads headers, and only at its position, which is where a
//      frame begins or will. A header is loaded once a look.
//   6. The consumer never waits. A claim tries again only if another claim succeeded
//      or the consumer moved on.
//   7. Positions count bytes from 0 and never go back. They do not reach 2^64, which
//      takes 58 years at 10 GB/s.
//
// Why these orders are enough: the compare-and-swap only divides positions among the
// producers, and read-modify-writes of one word have one order. What a frame held
// before is ordered by the consumer's position (3), what it holds by its header (2).
// The swap is a release for (4) alone: who loads a claim sees the consumer's position
// that it rested on, or a later one, and takes no ring for full that was not.
//
// Where memory has one view only (kFramesWrap = false: the canonical build), a frame
// may not reach over its end. A claim that would takes the bytes up to the end as
// well, as a frame to skip. Such a claim takes less than two frames, so frames are
// limited to half the capacity: then an empty ring has room for each.
//
// The atomic type is a parameter, so that the same code runs under a model checker.
// Header words are reached by what the caller gives: header_at(offset_bytes) returns
// an atomic, a reference to one, or a std::atomic_ref.
//
// Thread safety: a cursor belongs to one thread at a time; the positions are shared.
// Errors: none.
//
// Example:
//   MpscProducerCursor<> producer(&claim, &consumer, 4096);
//   if (auto offset_bytes = producer.Claim(16, header_at, on_look)) {
//     fill(*offset_bytes + 8);
//     producer.Commit(*offset_bytes, MpscHeader::Message(8, 16), header_at);
//   }

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_PROTOCOL_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_PROTOCOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// The longest frame for which an empty ring always has room.
template <bool kFramesWrap>
constexpr uint64_t MaxFrameBytes(uint64_t capacity_bytes) {
  const uint64_t longest = kFramesWrap ? capacity_bytes : capacity_bytes / 2;
  return std::min(longest / kFrameUnitBytes * kFrameUnitBytes,
                  FrameBytes(kMaxPayloadBytes));
}

// And its payload; 0 without capacity.
template <bool kFramesWrap>
constexpr uint64_t MaxMessageBytes(uint64_t capacity_bytes) {
  return std::max(MaxFrameBytes<kFramesWrap>(capacity_bytes),
                  kFrameHeaderBytes) -
         kFrameHeaderBytes;
}

// A producer's side.
template <bool kFramesWrap = true, class Atomics = StdAtomics>
class MpscProducerCursor {
 public:
  using Position = typename Atomics::template Atomic<uint64_t>;

  // Continues at the position that stands in `*claim`; sees no room at first.
  // REQUIRES: capacity_bytes is a multiple of kFrameUnitBytes.
  MpscProducerCursor(Position* claim, const Position* consumer,
                     uint64_t capacity_bytes)
      : claim_(claim),
        consumer_(consumer),
        capacity_bytes_(capacity_bytes),
        seen_(claim->load(std::memory_order_relaxed)),
        limit_(seen_) {}

  uint64_t capacity_bytes() const { return capacity_bytes_; }

  // The offset of a frame that is the caller's until it commits it; nullopt if there
  // is no room. Loads the consumer's position only if what it last saw of it is too
  // little, and then calls on_look(position, used_bytes, full).
  // REQUIRES: frame_bytes is a multiple of kFrameUnitBytes, not 0, and at most
  // MaxFrameBytes.
  template <class HeaderAt, class OnLook>
  std::optional<uint64_t> Claim(uint64_t frame_bytes, HeaderAt header_at,
                                OnLook on_look) {
    // Not loaded: a load would fetch the line shared, and the swap once more.
    uint64_t at = seen_;
    for (;;) {
      const uint64_t end = End(at, frame_bytes);
      if (ABSL_PREDICT_FALSE(IsPast(end, limit_))) {
        if (!Look(frame_bytes, on_look)) return std::nullopt;
        at = seen_;
      } else if (ABSL_PREDICT_TRUE(claim_->compare_exchange_weak(
                     at, end, std::memory_order_release,
                     std::memory_order_relaxed))) {
        seen_ = end;
        return Begin(at, end - at, frame_bytes, header_at);
      }
    }
  }

  // Whether there is room for such a frame, or was a moment ago: another producer may
  // take it. Looks at both positions.
  bool HasRoom(uint64_t frame_bytes) {
    return Look(frame_bytes, [](uint64_t, uint64_t, bool) {});
  }

  // Hands the frame to the consumer. REQUIRES: it was claimed with the length that
  // the header says, and not committed.
  template <class HeaderAt>
  static void Commit(uint64_t offset_bytes, MpscHeader header,
                     HeaderAt header_at) {
    header_at(offset_bytes).store(header.word(), std::memory_order_release);
  }

 private:
  // Positions are compared by their difference: a claim may be past a limit that is
  // old, and that difference is negative.
  static bool IsPast(uint64_t position, uint64_t limit) {
    return static_cast<int64_t>(position - limit) > 0;
  }

  // Divides only when a lap is over: the capacity need not be a power of two.
  uint64_t OffsetOf(uint64_t position) {
    if (ABSL_PREDICT_FALSE(position - lap_begin_ >= capacity_bytes_)) {
      lap_begin_ = position - position % capacity_bytes_;
    }
    return position - lap_begin_;
  }

  // Where a claim ends that begins at the position.
  uint64_t End(uint64_t position, uint64_t frame_bytes) {
    if constexpr (!kFramesWrap) {
      const uint64_t to_end = capacity_bytes_ - OffsetOf(position);
      if (to_end < frame_bytes) return position + to_end + frame_bytes;
    }
    return position + frame_bytes;
  }

  // The offset of the frame in what was claimed.
  template <class HeaderAt>
  uint64_t Begin(uint64_t position, uint64_t claimed_bytes,
                 uint64_t frame_bytes, HeaderAt header_at) {
    const uint64_t offset_bytes = OffsetOf(position);
    if constexpr (!kFramesWrap) {
      if (claimed_bytes != frame_bytes) {
        Commit(offset_bytes, MpscHeader::Skip(claimed_bytes - frame_bytes),
               header_at);
        return 0;
      }
    }
    return offset_bytes;
  }

  // Loads both positions, until there is room or it is certain that there was none.
  template <class OnLook>
  bool Look(uint64_t frame_bytes, OnLook on_look) {
    uint64_t consumed = consumer_->load(std::memory_order_acquire);
    for (;;) {
      // After the consumer's position, so never below it: the consumer passes only
      // what it knows, by the header, to be claimed. Before the second look at it:
      // that is what acquire is for.
      seen_ = claim_->load(std::memory_order_acquire);
      const uint64_t used_bytes = seen_ - consumed;
      // More is not true, or no longer: it counts as no room.
      limit_ =
          used_bytes <= capacity_bytes_ ? consumed + capacity_bytes_ : seen_;
      const bool full = IsPast(End(seen_, frame_bytes), limit_);
      const uint64_t again =
          full ? consumer_->load(std::memory_order_acquire) : consumed;
      // It stood still while `seen_` was loaded, so that was the moment.
      if (again == consumed) {
        on_look(seen_, used_bytes, full);
        return !full;
      }
      consumed = again;
    }
  }

  Position* claim_;           // Swapped by all producers.
  const Position* consumer_;  // Loaded by this side.
  uint64_t capacity_bytes_;   // Copied: the object that has it is shared.
  uint64_t seen_;             // What *claim_ was last seen to be.
  uint64_t limit_;            // The position that must not be passed.
  uint64_t lap_begin_ = 0;    // A position at offset 0, at or before `seen_`.
};

// The consumer's side.
template <class Atomics = StdAtomics>
class MpscConsumerCursor {
 public:
  using Position = typename Atomics::template Atomic<uint64_t>;

  // Continues at the position that stands in `*consumer`.
  // REQUIRES: capacity_bytes is a multiple of kFrameUnitBytes.
  MpscConsumerCursor(Position* consumer, uint64_t capacity_bytes)
      : consumer_(consumer),
        capacity_bytes_(capacity_bytes),
        position_(consumer->load(std::memory_order_relaxed)),
        offset_bytes_(position_ % capacity_bytes) {}

  uint64_t capacity_bytes() const { return capacity_bytes_; }

  // Of the frame that comes next.
  uint64_t offset_bytes() const { return offset_bytes_; }

  // What was passed and not handed back.
  uint64_t passed_bytes() const { return passed_bytes_; }

  // The header of the next frame; not committed if there is none yet.
  template <class HeaderAt>
  MpscHeader Look(HeaderAt header_at) const {
    // A whole lap was passed: the next header's place is that of the first frame
    // which is not handed back, and still holds its header.
    if (ABSL_PREDICT_FALSE(passed_bytes_ == capacity_bytes_)) return {};
    return MpscHeader(header_at(offset_bytes_).load(std::memory_order_acquire));
  }

  // Goes to the frame after. REQUIRES: the header is what Look returned, committed.
  void Pass(MpscHeader header) {
    const uint64_t bytes = header.frame_bytes();
    // Only a producer that wrote past its payload makes this false.
    ABSL_HARDENING_ASSERT(bytes > 0 &&
                          bytes <= capacity_bytes_ - passed_bytes_);
    passed_bytes_ += bytes;
    offset_bytes_ += bytes;
    if (offset_bytes_ >= capacity_bytes_) offset_bytes_ -= capacity_bytes_;
  }

  // Hands all that was passed back to the producers. Calls zero(offset_bytes, bytes)
  // for what must be zeroed: one run, two if it reaches over the end.
  template <class Zero>
  void HandBack(Zero zero) {
    if (passed_bytes_ == 0) return;
    if (ABSL_PREDICT_TRUE(passed_bytes_ <= offset_bytes_)) {
      zero(offset_bytes_ - passed_bytes_, passed_bytes_);
    } else {
      const uint64_t before_end = passed_bytes_ - offset_bytes_;
      zero(capacity_bytes_ - before_end, before_end);
      if (offset_bytes_ > 0) zero(uint64_t{0}, offset_bytes_);
    }
    position_ += passed_bytes_;
    passed_bytes_ = 0;
    consumer_->store(position_, std::memory_order_release);
  }

 private:
  Position* consumer_;       // Stored by this side.
  uint64_t capacity_bytes_;  // Copied: the object that has it is shared.
  uint64_t position_;        // What *consumer_ holds, without loading it.
  uint64_t offset_bytes_;    // Of position_ + passed_bytes_.
  uint64_t passed_bytes_ = 0;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_PROTOCOL_H_
