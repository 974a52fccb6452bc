// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_options.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;

template <class T>
SpscRing<T> MakeRing(size_t min_capacity, const RingOptions& options = {}) {
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

TEST(RingOptions, LineOwnershipIsAsAsked) {
  EXPECT_FALSE(
      MakeRing<int>(1, {.line_ownership = LineOwnership::kOff}).owns_lines());
  EXPECT_TRUE(
      MakeRing<int>(1, {.line_ownership = LineOwnership::kOn}).owns_lines());
}

TEST(RingOptions, CountsWhatHappened) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  EXPECT_FALSE(reader.try_pop().has_value());
  const size_t capacity = ring.capacity();
  for (size_t i = 0; i < capacity; ++i) ASSERT_TRUE(writer.try_push(1));
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(writer.try_push(1));
  ASSERT_TRUE(reader.try_pop().has_value());
  const RingStatistics statistics = ring.statistics();
  EXPECT_EQ(statistics.pushed, capacity);
  EXPECT_EQ(statistics.popped, 1);
  EXPECT_EQ(statistics.push_refusals, 5) << "dropped by who does not wait";
  EXPECT_EQ(statistics.push_stalls, 1);
  EXPECT_EQ(statistics.pop_refusals, 1);
  EXPECT_EQ(statistics.pop_stalls, 1);
  EXPECT_EQ(statistics.high_water, capacity);
}

}  // namespace
}  // namespace doppel
