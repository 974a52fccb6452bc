// SPDX-License-Identifier: Apache-2.0
//
// How messages lie in a ring of many producers: frames, one after the other.
//
//   ├───────────── frame ─────────────┤├──── frame ────┤
//   │ header │ payload      │ padding ││ header │ ...
//     8 bytes  any length     to 8
//
//   header   63         62    61                 32 31                0
//           │committed │skip │ frame, in 8 bytes  │ payload, in bytes │
//
// Invariants:
//   1. A frame begins at a multiple of 8, and its length is one; so its payload is
//      aligned to 8, and a header never reaches over the end of the memory.
//   2. A header of 0 says "not committed": every other one has bit 63.
//   3. A header says how much its frame takes, whatever the payload became: a message
//      that was shortened leaves the rest as padding, one that was aborted leaves a
//      frame to skip.
//
// Thread safety: a value type.
// Errors: none. Lengths are up to kMaxPayloadBytes; more is the caller's to refuse.
//
// Example:
//   const MpscHeader header = MpscHeader::Message(5, FrameBytes(5));
//   header.frame_bytes();  // 16

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_FRAME_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_FRAME_H_

#include <cstdint>

namespace doppel::internal {

inline constexpr uint64_t kFrameUnitBytes = 8;
inline constexpr uint64_t kFrameHeaderBytes = 8;

// Its frame is 4 GiB: the length in units needs 30 bits, the payload's 32.
inline constexpr uint64_t kMaxPayloadBytes =
    (uint64_t{1} << 32) - kFrameHeaderBytes;

// What a payload takes with header and padding.
// REQUIRES: payload_bytes <= kMaxPayloadBytes, so that nothing overflows.
constexpr uint64_t FrameBytes(uint64_t payload_bytes) {
  return (kFrameHeaderBytes + payload_bytes + kFrameUnitBytes - 1) /
         kFrameUnitBytes * kFrameUnitBytes;
}

class MpscHeader {
 public:
  // Not committed.
  constexpr MpscHeader() = default;
  // What stands in the memory.
  explicit constexpr MpscHeader(uint64_t word) : word_(word) {}

  static constexpr MpscHeader Message(uint64_t payload_bytes,
                                      uint64_t frame_bytes) {
    return MpscHeader(kCommitted | Units(frame_bytes) | payload_bytes);
  }
  static constexpr MpscHeader Skip(uint64_t frame_bytes) {
    return MpscHeader(kCommitted | kSkip | Units(frame_bytes));
  }

  constexpr uint64_t word() const { return word_; }
  constexpr bool committed() const { return word_ != 0; }
  constexpr bool skip() const { return (word_ & kSkip) != 0; }
  constexpr uint64_t payload_bytes() const {
    return static_cast<uint32_t>(word_);
  }
  constexpr uint64_t frame_bytes() const {
    return (word_ & ~(kCommitted | kSkip)) >> 32 << 3;
  }

 private:
  static constexpr uint64_t kCommitted = uint64_t{1} << 63;
  static constexpr uint64_t kSkip = uint64_t{1} << 62;

  static constexpr uint64_t Units(uint64_t frame_bytes) {
    return frame_bytes / kFrameUnitBytes << 32;
  }

  uint64_t word_ = 0;
};

static_assert(FrameBytes(0) == kFrameHeaderBytes);
static_assert(MpscHeader::Message(kMaxPayloadBytes,
                                  FrameBytes(kMaxPayloadBytes))
                  .frame_bytes() == uint64_t{1} << 32);
static_assert(MpscHeader::Message(0, FrameBytes(0)).committed());

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_FRAME_H_
