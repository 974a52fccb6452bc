// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/line_ownership.h"

#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

TEST(LineOwnershipTest, WhatIsAskedForIsDone) {
  for (const uint64_t bytes : {uint64_t{4096}, CacheBytes() + 1}) {
    EXPECT_TRUE(OwnsLines(LineOwnership::kOn, bytes));
    EXPECT_FALSE(OwnsLines(LineOwnership::kOff, bytes));
  }
}

TEST(LineOwnershipTest, NeverByItselfBeyondTheCache) {
  EXPECT_GT(CacheBytes(), 0);
  EXPECT_FALSE(OwnsLines(LineOwnership::kAuto, CacheBytes() + 1));
}

TEST(LineOwnershipTest, DecidesOnce) {
  const bool first = OwnsLines(LineOwnership::kAuto, 4096);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(OwnsLines(LineOwnership::kAuto, CacheBytes()), first);
  }
  EXPECT_LT(absl::Now() - begin, 100 * kCalibrationLimit);
}

TEST(LineOwnershipTest, TheMeasurementEnds) {
  const absl::Time begin = absl::Now();
  const double gain = MeasureOwnershipGain();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_GE(gain, 0);
  EXPECT_LT(gain, 1000);
  if (std::thread::hardware_concurrency() < 2) {
    EXPECT_EQ(gain, 0);
  }
}

}  // namespace
}  // namespace doppel::internal
