// SPDX-License-Identifier: Apache-2.0
//
// What the tests of messages share: a ring, payloads that tell where they belong, and
// what is shown next.
//
// Invariants:
//   1. Payloads of different numbers differ, but for short ones.
//
// Thread safety: functions of their arguments.
// Errors: a ring that cannot be made fails the test.
//
// Example:
//   SpscRing<> ring = MakeByteRing();
//   MessageWriter(ring.writer()).push(Payload(3, 1));

#ifndef DOPPEL_TESTS_CONTAINERS_MESSAGE_SUPPORT_H_
#define DOPPEL_TESTS_CONTAINERS_MESSAGE_SUPPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doppel/containers/message.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline SpscRing<> MakeByteRing(size_t min_capacity = 1,
                               const RingOptions& options = {}) {
  absl::StatusOr<SpscRing<>> ring = SpscRing<>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

// A payload that tells its number and each byte's place.
inline std::vector<std::byte> Payload(size_t bytes, uint64_t number) {
  std::vector<std::byte> payload(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    payload[i] = static_cast<std::byte>(number * 167 + i * 13 + 1);
  }
  return payload;
}

// Of lengths from 0 on, so that frames lie across the wrap in every way.
inline std::vector<std::byte> NumberedPayload(uint64_t number) {
  return Payload(number * 37 % 501, number);
}

// What is shown next, copied; nothing if there is none.
inline std::optional<std::vector<std::byte>> Next(MessageReader& reader) {
  const auto shown = reader.next();
  if (!shown) return std::nullopt;
  return std::vector<std::byte>(shown->begin(), shown->end());
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CONTAINERS_MESSAGE_SUPPORT_H_
