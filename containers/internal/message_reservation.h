// SPDX-License-Identifier: Apache-2.0
//
// What a ring answers who wants room for a message, whichever ring it is.
//
// Invariants:
//   1. A message that never fits (kTooBig) is told from one that must wait (kFull).
//
// Thread safety: values.
// Errors: none.
//
// Example:
//   if (MessageReservation space = writer.reserve(100); space) Fill(space.payload);

#ifndef DOPPEL_CONTAINERS_INTERNAL_MESSAGE_RESERVATION_H_
#define DOPPEL_CONTAINERS_INTERNAL_MESSAGE_RESERVATION_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace doppel {

// Whether there is room for a message.
enum class RingRoom : uint8_t {
  kRoom,
  kFull,    // Not now: the reader must release some.
  kTooBig,  // Never: it is larger than max_message_bytes().
};

struct MessageReservation {
  RingRoom room = RingRoom::kFull;
  std::span<std::byte> payload;  // Empty unless kRoom; may be empty then, too.

  explicit operator bool() const { return room == RingRoom::kRoom; }
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_INTERNAL_MESSAGE_RESERVATION_H_
