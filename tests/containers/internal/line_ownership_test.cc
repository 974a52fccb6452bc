// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/line_ownership.h"

#include <pthread.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/tests/support/fault_plan.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

TEST(LineOwnershipTest, WhatIsAskedForIsDone) {
  EXPECT_TRUE(OwnsLines(LineOwnership::kOn));
  EXPECT_FALSE(OwnsLines(LineOwnership::kOff));
}

TEST(LineOwnershipTest, DecidesOnce) {
  const bool first = OwnsLines(LineOwnership::kAuto);
  const testing::CallCounter counter;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(OwnsLines(LineOwnership::kAuto), first);
  }
  EXPECT_EQ(counter.total(), 0) << "nothing is measured again";
}

TEST(LineOwnershipTest, TheMeasurementEnds) {
  const absl::Time begin = absl::Now();
  const double gain = MeasureOwnershipGain();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_GE(gain, 0);
  EXPECT_LT(gain, 1000);
  if (OtherProcessor() < 0) {
    EXPECT_EQ(gain, 0);
  }
}

sys::ProcessorSet One(int processor) {
  return sys::ProcessorSet().set(static_cast<size_t>(processor));
}

// A server pins its threads first, and makes its rings then.
TEST(LineOwnershipTest, AThreadThatIsPinnedStillFindsAnotherProcessor) {
  const auto before = sys::AllowedProcessors();
  if (before.count() < 2) GTEST_SKIP() << "there is one processor";
  for (int i = 0; i < static_cast<int>(before.size()); ++i) {
    if (!before[static_cast<size_t>(i)]) continue;
    std::thread pinned([&] {
      ASSERT_TRUE(sys::KeepOn(pthread_self(), One(i)));
      EXPECT_EQ(sys::CurrentProcessor(), i);
      EXPECT_EQ(sys::AllowedProcessors().count(), 1);
      const int other = OtherProcessor();
      EXPECT_NE(other, i);
      ASSERT_GE(other, 0);
      EXPECT_TRUE(before[static_cast<size_t>(other)]);
      std::thread inherits([&] {
        EXPECT_EQ(sys::AllowedProcessors().count(), 1);
        EXPECT_TRUE(sys::KeepOn(pthread_self(), One(other)));
      });
      inherits.join();
    });
    pinned.join();
  }
}

// Without a processor that the other thread may stay on nothing is measured.
TEST(LineOwnershipTest, WhatCannotBeMeasuredIsUndecided) {
  const testing::FaultPlan plan({.call = sys::Call::kSchedSetaffinity,
                                 .nth = 1,
                                 .error = EINVAL,
                                 .sticky = true});
  EXPECT_EQ(MeasureOwnershipGain(), 0);
}

}  // namespace
}  // namespace doppel::internal
