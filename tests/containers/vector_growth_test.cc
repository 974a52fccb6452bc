// SPDX-License-Identifier: Apache-2.0
//
// Growth: it moves nothing, takes no more than it says, and gives back.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "doppel/containers/vector.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::LeakCheck;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<Arena> ArenaOf(PageSize page_size) {
  return *Arena::Create({.page_size = page_size});
}

class VectorGrowthTest : public ::testing::TestWithParam<PageSize> {
 protected:
  void SetUp() override {
    if (GetParam().is_hugetlb() &&
        testing::FreeHugetlbPages(GetParam().hugetlb_bytes()) < 40) {
      GTEST_SKIP() << testing::kNoHugetlbPool;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Pages, VectorGrowthTest,
                         ::testing::Values(PageSize::Base(),
                                           PageSize::Transparent(),
                                           PageSize::Huge2MiB()));

// Counts what is done to it.
struct Counted {
  explicit Counted(int value) : value(value) { ++made; }
  Counted(const Counted& other) : value(other.value) { ++moved; }
  Counted(Counted&& other) noexcept : value(other.value) { ++moved; }
  Counted& operator=(const Counted& other) {
    value = other.value;
    ++moved;
    return *this;
  }
  ~Counted() { ++destroyed; }

  int value;
  static inline int made = 0, moved = 0, destroyed = 0;
};

TEST_P(VectorGrowthTest, CopiesMovesAndDestroysNothing) {
  Counted::made = Counted::moved = Counted::destroyed = 0;
  Vector<Counted> v({.arena = ArenaOf(GetParam())});
  constexpr int kCount = 3 << 20;
  for (int i = 0; i < kCount; ++i) v.emplace_back(i);
  v.reserve(v.size() + 4 * kMiB);
  v.shrink_to_fit();
  EXPECT_EQ(Counted::made, kCount);
  EXPECT_EQ(Counted::moved, 0);
  EXPECT_EQ(Counted::destroyed, 0);
  for (int i = 0; i < kCount; i += 1000) ASSERT_EQ(v[i].value, i);
}

TEST_P(VectorGrowthTest, PointersStayValid) {
  Vector<uint64_t> v({.arena = ArenaOf(GetParam())});
  v.push_back(0);
  const uint64_t* const first = &v.front();
  std::vector<const uint64_t*> pointers;
  for (uint64_t i = 1; i < 20 * kMiB / 8; ++i) {
    v.push_back(i);
    if (i % 10007 == 0) pointers.push_back(&v.back());
  }
  v.reserve(30 * kMiB / 8);
  v.resize(v.size() + 1000);
  v.shrink_to_fit();
  v.insert(v.end(), 1000, 1);
  EXPECT_EQ(&v.front(), first);
  for (size_t i = 0; i < pointers.size(); ++i) {
    ASSERT_EQ(*pointers[i], (i + 1) * 10007);
  }
  v.clear();
  v.push_back(1);
  EXPECT_EQ(&v.front(), first);
}

// Pages of the arena's file: what the vector really uses, whatever is mapped.
uint64_t AllocatedBytes(const Vector<uint64_t>& v) {
  return v.memory()->arena()->memfd().Query()->allocated_bytes;
}

TEST_P(VectorGrowthTest, PeakIsTheDataAndATwentyFourth) {
  const auto arena = ArenaOf(GetParam());
  const uint64_t page_bytes = arena->page_bytes();
  Vector<uint64_t> v({.arena = arena});
  uint64_t steps = 0;
  for (uint64_t i = 0; i < 40 * kMiB / 8; ++i) {
    const size_t before = v.capacity();
    v.push_back(i);
    if (v.capacity() == before) continue;
    // The worst moment: just after a growth.
    ++steps;
    const uint64_t data_bytes = v.size() * 8;
    const uint64_t exact_bytes =
        (data_bytes + page_bytes - 1) / page_bytes * page_bytes;
    const uint64_t limit_bytes =
        std::max(exact_bytes, data_bytes + data_bytes / 24);
    ASSERT_LE(v.memory()->committed_bytes(), limit_bytes) << data_bytes;
    ASSERT_LE(AllocatedBytes(v), limit_bytes) << data_bytes;
  }
  // Few enough to cost nothing beside the pages.
  EXPECT_LE(steps, 40 * kMiB / page_bytes);
  EXPECT_LE(steps, 250);
}

TEST_P(VectorGrowthTest, ShrinkGivesPagesBack) {
  Vector<uint64_t> v({.arena = ArenaOf(GetParam())});
  v.resize(20 * kMiB / 8, 7);
  const uint64_t page_bytes = v.memory()->arena()->page_bytes();
  v.resize(5 * kMiB / 8 + 1);
  EXPECT_GE(AllocatedBytes(v), 20 * kMiB);  // Until it is asked to.
  v.shrink_to_fit();
  EXPECT_LT(AllocatedBytes(v), 5 * kMiB + 8 + page_bytes);
  EXPECT_LT(v.capacity() * 8, 5 * kMiB + 8 + page_bytes);
  EXPECT_EQ(std::count(v.begin(), v.end(), 7), 5 * kMiB / 8 + 1);
  v.resize(20 * kMiB / 8, 9);
  EXPECT_EQ(std::count(v.begin(), v.end(), 9), 15 * kMiB / 8 - 1);
  v.clear();
  v.shrink_to_fit();
  EXPECT_EQ(v.capacity(), 0);
  EXPECT_EQ(AllocatedBytes(v), 0);
  v.push_back(1);
  EXPECT_EQ(v[0], 1);
}

TEST_P(VectorGrowthTest, DestructionGivesAllBack) {
  const auto arena = ArenaOf(GetParam());
  const LeakCheck before;
  {
    Vector<uint64_t> v(8 * kMiB / 8, {.arena = arena});
    EXPECT_FALSE(before.Unchanged());
    Vector<uint64_t> moved = std::move(v);
    v = moved;
  }
  EXPECT_TRUE(before.Unchanged());
  EXPECT_EQ(arena->memfd().Query()->allocated_bytes, 0);
  EXPECT_EQ(arena->Query()->extents, 0);
}

TEST_P(VectorGrowthTest, ReserveTakesAllPagesAtOnce) {
  Vector<uint64_t> v({.arena = ArenaOf(GetParam())});
  v.reserve(10 * kMiB / 8);
  const size_t capacity = v.capacity();
  EXPECT_GE(capacity, 10 * kMiB / 8);
  v.resize(10 * kMiB / 8);
  v.reserve(1);
  EXPECT_EQ(v.capacity(), capacity);
}

TEST(VectorMappingsTest, UsesFewMappings) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer maps memory of its own meanwhile";
#endif
  const auto arena = ArenaOf(PageSize::Base());
  std::vector<Vector<uint64_t>> vectors;
  vectors.reserve(2);
  const int64_t before = testing::KernelMappings();
  vectors.emplace_back(Vector<uint64_t>::Options{.arena = arena});
  vectors[0].resize(16 * kMiB / 8);
  EXPECT_LE(testing::KernelMappings() - before, 5);
  // In turn: each 2 MiB may stand elsewhere in the file.
  vectors.emplace_back(Vector<uint64_t>::Options{.arena = arena});
  for (uint64_t i = 0; i < 16 * kMiB / 8; i += 512) {
    for (auto& v : vectors) v.insert(v.end(), 512, i);
  }
  EXPECT_LE(testing::KernelMappings() - before, 2 * 5 + 16);
  EXPECT_EQ(vectors[1].back(), 16 * kMiB / 8 - 512);
}

TEST(VectorLimitsTest, PastTheReservationIsALengthErrorWithoutEffect) {
  Vector<uint64_t> v(
      {.arena = ArenaOf(PageSize::Base()), .reserve_bytes = kMiB});
  EXPECT_EQ(v.max_size(), kMiB / 8);
  EXPECT_THROW(v.resize(kMiB / 8 + 1), std::length_error);
  EXPECT_EQ(v.memory(), nullptr);
  v.push_back(5);
  EXPECT_THROW(v.resize(kMiB / 8 + 1), std::length_error);
  v.resize(kMiB / 8);
  EXPECT_EQ(v.capacity(), v.max_size());
  EXPECT_THROW(v.push_back(1), std::length_error);
  EXPECT_THROW(v.insert(v.begin(), 1), std::length_error);
  EXPECT_EQ(v.size(), kMiB / 8);
  EXPECT_EQ(v.front(), 5);
}

TEST(VectorLimitsTest, AFullArenaIsBadAllocThatSaysWhy) {
  Vector<uint64_t> v({.arena = *Arena::Create({.page_size = PageSize::Base(),
                                               .max_bytes = 64 << 10})});
  v.resize((64 << 10) / 8, 9);
  const uint64_t* const data = v.data();
  try {
    v.push_back(1);
    FAIL() << "a full arena gave a page";
  } catch (const std::bad_alloc& error) {
    EXPECT_THAT(error.what(), HasSubstr("max_bytes"));
  }
  EXPECT_EQ(v.size(), (64 << 10) / 8);
  EXPECT_EQ(v.data(), data);
  EXPECT_EQ(std::count(v.begin(), v.end(), 9), (64 << 10) / 8);
  v.pop_back();
  v.push_back(1);
}

}  // namespace
}  // namespace doppel
