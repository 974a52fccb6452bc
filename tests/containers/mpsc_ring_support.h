// SPDX-License-Identifier: Apache-2.0
//
// What the tests of MpscRing share: rings, and messages as text.
//
// Invariants:
//   1. Next releases nothing: what it shows takes up room.
//
// Thread safety: functions of their arguments.
// Errors: what cannot be made fails the test.
//
// Example:
//   MpscRing ring = MakeMpscRing();
//   ring.producer().push(Bytes("seven"));
//   EXPECT_EQ(Next(consumer), "seven");

#ifndef DOPPEL_TESTS_CONTAINERS_MPSC_RING_SUPPORT_H_
#define DOPPEL_TESTS_CONTAINERS_MPSC_RING_SUPPORT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline MpscRing MakeMpscRing(uint64_t min_capacity_bytes = 1,
                             const MpscRing::Options& options = {}) {
  absl::StatusOr<MpscRing> ring = MpscRing::Create(min_capacity_bytes, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

inline std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The next message, or "none".
inline std::string Next(MpscRing::Consumer& consumer) {
  const auto message = consumer.next();
  return message ? Text(*message) : "none";
}

// Moves an empty ring's position forward by a multiple of 8 bytes.
inline void Skip(MpscRing& ring, uint64_t bytes) {
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  for (uint64_t i = 0; i < bytes; i += 8) {
    ASSERT_EQ(producer.push({}), RingRoom::kRoom);
    ASSERT_EQ(Next(consumer), "");
    consumer.release();
  }
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CONTAINERS_MPSC_RING_SUPPORT_H_
