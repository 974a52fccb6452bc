// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/vector_storage.h"

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <utility>

#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

GrowingMapping::Options Small() {
  return {.arena = *Arena::Create({.page_size = PageSize::Base()}),
          .reserve_bytes = kMiB};
}

TEST(VectorStorageTest, HasNothingBeforeTheFirstGrow) {
  const GrowingMapping::Options options = Small();
  CallCounter counter;
  VectorStorage storage(options);
  EXPECT_EQ(storage.data(), nullptr);
  EXPECT_EQ(storage.committed_bytes(), 0);
  EXPECT_EQ(storage.max_bytes(), kMiB);
  storage.ShrinkTo(0);
  VectorStorage moved = std::move(storage);
  EXPECT_EQ(moved.memory(), nullptr);
  EXPECT_EQ(counter.total(), 0);
}

TEST(VectorStorageTest, GrowsInPlace) {
  VectorStorage storage(Small());
  storage.Grow(1);
  std::byte* const data = storage.data();
  ASSERT_NE(data, nullptr);
  data[0] = std::byte{7};
  storage.Grow(kMiB);
  EXPECT_EQ(storage.data(), data);
  EXPECT_EQ(storage.committed_bytes(), kMiB);
  EXPECT_EQ(data[0], std::byte{7});
  storage.ShrinkTo(5000);
  EXPECT_EQ(storage.committed_bytes(), 8192);
}

TEST(VectorStorageTest, MovingKeepsTheOptionsOfBoth) {
  VectorStorage from(Small());
  from.Grow(1);
  std::byte* const data = from.data();
  VectorStorage to = std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(from.data(), nullptr);
  EXPECT_EQ(from.max_bytes(), kMiB);
  from.Grow(1);
  EXPECT_NE(from.data(), data);
}

TEST(VectorStorageTest, SizesArePtrdiffAtMost) {
  const VectorStorage storage(
      GrowingMapping::Options{.reserve_bytes = UINT64_MAX});
  EXPECT_EQ(storage.max_bytes(), PTRDIFF_MAX);
  EXPECT_EQ(VectorStorage().max_bytes(), GrowingMapping::DefaultReserveBytes());
}

TEST(VectorStorageTest, ExceptionsNameTheCall) {
  VectorStorage storage(Small());
  try {
    FaultPlan plan({.call = Call::kMmap, .nth = 1, .error = ENOMEM});
    storage.Grow(1);
    FAIL() << "mmap failed and nobody said so";
  } catch (const std::bad_alloc& error) {
    EXPECT_THAT(error.what(), HasSubstr("mmap"));
  }
  EXPECT_EQ(storage.memory(), nullptr);
  try {
    storage.Grow(kMiB + 1);
    FAIL() << "it is larger than the reservation";
  } catch (const std::length_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("reserve_bytes"));
  }
  EXPECT_EQ(storage.memory(), nullptr);
  EXPECT_THROW(ThrowOutOfRange(3, 2), std::out_of_range);
  EXPECT_THROW(ThrowTooLong(3, 2, 4), std::length_error);
}

// A first Grow that fails half-way leaves no reservation behind.
TEST(VectorStorageTest, AFirstGrowThatFailsLeavesNothing) {
  VectorStorage storage(Small());
  {
    FaultPlan plan({.call = Call::kMadvise, .nth = 3, .error = ENOMEM});
    try {
      storage.Grow(1);
    } catch (const std::bad_alloc&) {
      EXPECT_EQ(storage.memory(), nullptr);
    }
    EXPECT_TRUE(plan.fired());
  }
  storage.Grow(1);
  EXPECT_NE(storage.data(), nullptr);
}

TEST(VectorStorageTest, CreateTakesTheAddressesOnce) {
  VectorStorage storage(Small());
  ASSERT_THAT(storage.Create(), IsOk());
  const std::byte* const data = storage.data();
  ASSERT_NE(data, nullptr);
  ASSERT_THAT(storage.Create(), IsOk());
  EXPECT_EQ(storage.data(), data);
  EXPECT_EQ(storage.committed_bytes(), 0);
}

}  // namespace
}  // namespace doppel::internal
