// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/growing_mapping.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

GrowingMapping Make(PageSize page_size, uint64_t reserve_bytes = 256 * kMiB) {
  return *GrowingMapping::Create(
      {.arena = *Arena::Create({.page_size = page_size}),
       .reserve_bytes = reserve_bytes});
}

// Writes a pattern that depends on the position into [from, to).
void Fill(GrowingMapping& memory, uint64_t from, uint64_t to) {
  for (uint64_t at = from; at < to; at += 4096) {
    std::memcpy(memory.data() + at, &at, sizeof(at));
  }
}

bool Holds(const GrowingMapping& memory, uint64_t from, uint64_t to) {
  for (uint64_t at = from; at < to; at += 4096) {
    if (std::memcmp(memory.data() + at, &at, sizeof(at)) != 0) return false;
  }
  return true;
}

class EveryPageSize : public ::testing::TestWithParam<PageSize> {
 protected:
  void SetUp() override {
    if (GetParam().is_hugetlb() &&
        testing::FreeHugetlbPages(GetParam().hugetlb_bytes()) < 32) {
      GTEST_SKIP() << testing::kNoHugetlbPool;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Sizes, EveryPageSize,
                         ::testing::Values(PageSize::Base(),
                                           PageSize::Transparent(),
                                           PageSize::Huge2MiB()));

TEST_P(EveryPageSize, GrowsInPlaceAndKeepsContents) {
  GrowingMapping memory = Make(GetParam());
  const std::byte* const data = memory.data();
  uint64_t filled = 0;
  for (uint64_t needed = 1; needed <= 16 * kMiB; needed = needed * 3 + 1) {
    ASSERT_THAT(memory.Grow(needed), IsOk());
    ASSERT_GE(memory.committed_bytes(), needed);
    Fill(memory, filled, memory.committed_bytes());
    filled = memory.committed_bytes();
    ASSERT_TRUE(Holds(memory, 0, filled)) << needed;
  }
  EXPECT_EQ(memory.data(), data);
}

TEST_P(EveryPageSize, CommitsAtMostATwentyFourthMore) {
  GrowingMapping memory = Make(GetParam());
  const uint64_t page_bytes = memory.arena()->page_bytes();
  for (uint64_t needed = 1; needed <= 32 * kMiB; needed += needed / 5 + 1) {
    ASSERT_THAT(memory.Grow(needed), IsOk());
    EXPECT_LE(memory.committed_bytes(),
              needed + needed / GrowingMapping::kGrowthDivisor + page_bytes);
  }
  const auto stats = memory.arena()->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_LE(stats->allocated_bytes,
            memory.committed_bytes() + memory.arena()->huge_unit_bytes());
}

TEST_P(EveryPageSize, ShrinkGivesPagesBack) {
  GrowingMapping memory = Make(GetParam());
  ASSERT_THAT(memory.Grow(20 * kMiB), IsOk());
  Fill(memory, 0, memory.committed_bytes());
  ASSERT_THAT(memory.ShrinkTo(3 * kMiB + 5), IsOk());
  EXPECT_GE(memory.committed_bytes(), 3 * kMiB + 5);
  EXPECT_LT(memory.committed_bytes(),
            3 * kMiB + 5 + memory.arena()->page_bytes());
  EXPECT_TRUE(Holds(memory, 0, memory.committed_bytes()));
  EXPECT_LE((*memory.arena()->Query()).allocated_bytes,
            memory.committed_bytes());
  EXPECT_TRUE(Faults(memory.data() + memory.committed_bytes()));
  ASSERT_THAT(memory.Grow(20 * kMiB), IsOk());
  EXPECT_TRUE(Holds(memory, 0, 3 * kMiB));
  ASSERT_THAT(memory.ShrinkTo(0), IsOk());
  EXPECT_EQ(memory.committed_bytes(), 0);
  EXPECT_EQ((*memory.arena()->Query()).extents, 0);
}

TEST(GrowingMappingTest, TransparentUnitsAreReallyHuge) {
  if (TransparentPageBytes() == 0) GTEST_SKIP() << "no transparent pages";
  GrowingMapping memory = Make(PageSize::Transparent());
  ASSERT_THAT(memory.Grow(32 * kMiB), IsOk());
  const auto residency = memory.mapping().Query(0, 32 * kMiB);
  ASSERT_THAT(residency, IsOk());
  // A machine whose memory is fragmented may have fewer huge pages to give.
  EXPECT_GE(residency->huge_bytes, 16 * kMiB);
}

TEST(GrowingMappingTest, AUnitThatFillsUpBecomesHuge) {
  if (TransparentPageBytes() == 0) GTEST_SKIP() << "no transparent pages";
  // The kernel may be unable to just then, and the library goes on without.
  for (int attempt = 0; attempt < 10; ++attempt) {
    GrowingMapping memory = Make(PageSize::Transparent());
    for (uint64_t needed = 4096; needed <= 4 * kMiB; needed += 64 << 10) {
      ASSERT_THAT(memory.Grow(needed), IsOk());
      Fill(memory, 0, memory.committed_bytes());
    }
    EXPECT_TRUE(Holds(memory, 0, memory.committed_bytes()));
    const auto residency = memory.mapping().Query(0, 2 * kMiB);
    ASSERT_THAT(residency, IsOk());
    if (residency->huge_bytes >= 2 * kMiB) return;
  }
  GTEST_SKIP() << "the kernel made none of ten units huge";
}

TEST(GrowingMappingTest, PastTheReservationIsAnErrorThatChangesNothing) {
  GrowingMapping memory = Make(PageSize::Base(), kMiB);
  ASSERT_THAT(memory.Grow(kMiB / 2), IsOk());
  const uint64_t before = memory.committed_bytes();
  EXPECT_THAT(memory.Grow(kMiB + 1),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("reserve_bytes")));
  EXPECT_EQ(memory.committed_bytes(), before);
  EXPECT_THAT(memory.Grow(kMiB), IsOk());
}

TEST(GrowingMappingTest, AnArenaThatIsFullIsAnErrorThatChangesNothing) {
  auto arena =
      *Arena::Create({.page_size = PageSize::Base(), .max_bytes = 64 << 10});
  GrowingMapping memory = *GrowingMapping::Create({.arena = arena});
  EXPECT_THAT(memory.Grow(64 << 10), IsOk());
  Fill(memory, 0, 64 << 10);
  EXPECT_THAT(
      memory.Grow((64 << 10) + 1),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("max_bytes")));
  EXPECT_EQ(memory.committed_bytes(), 64 << 10);
  EXPECT_TRUE(Holds(memory, 0, 64 << 10));
}

TEST(GrowingMappingTest, MovesAndLeavesNothing) {
  (void)Arena::Default();
  const LeakCheck before;
  {
    GrowingMapping a = Make(PageSize::Base());
    ASSERT_THAT(a.Grow(kMiB), IsOk());
    Fill(a, 0, kMiB);
    GrowingMapping b = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_EQ(a.data(), nullptr);
    EXPECT_EQ(a.committed_bytes(), 0);
    EXPECT_TRUE(Holds(b, 0, kMiB));
    a = Make(PageSize::Base());
    ASSERT_THAT(a.Grow(kMiB), IsOk());
    b = std::move(a);
    EXPECT_GE(b.committed_bytes(), kMiB);
  }
  EXPECT_TRUE(before.Unchanged());
}

// Populating it would end some process, not fail.
TEST(GrowingMappingTest, MoreThanTheMachineHasIsAnErrorThatChangesNothing) {
  GrowingMapping memory = *GrowingMapping::Create(
      {.arena = *Arena::Create({.page_size = PageSize::Base()}),
       .reserve_bytes = GrowingMapping::DefaultReserveBytes() + kMiB});
  ASSERT_THAT(memory.Grow(4096), IsOk());
  EXPECT_THAT(memory.Grow(GrowingMapping::DefaultReserveBytes() + 1),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the machine has")));
  EXPECT_EQ(memory.committed_bytes(), 4096);
}

// Several that grow in turn cannot have their extents side by side.
TEST(GrowingMappingTest, UsesFewMappingsWhereSeveralGrowInTurn) {
  constexpr uint64_t kBytes = 64 * kMiB;
  const std::shared_ptr<Arena> arena =
      *Arena::Create({.page_size = PageSize::Base()});
  const uint64_t before = arena->Query()->process_mappings;
  std::vector<GrowingMapping> memories;
  memories.reserve(4);
  for (int i = 0; i < 4; ++i) {
    memories.push_back(*GrowingMapping::Create({.arena = arena}));
  }
  for (uint64_t bytes = kMiB; bytes <= kBytes; bytes += kMiB) {
    for (GrowingMapping& memory : memories) {
      ASSERT_THAT(memory.Grow(bytes), IsOk());
    }
  }
  const uint64_t used = arena->Query()->process_mappings - before;
  EXPECT_LE(used, 4 * 28) << "32 extents of 2 MiB each were 148";
  for (const GrowingMapping& memory : memories) {
    EXPECT_LE(memory.committed_bytes(), kBytes + kBytes / 24);
  }
}

TEST(GrowingMappingTest, HoldsNothingByDefault) {
  GrowingMapping memory;
  EXPECT_FALSE(memory);
  EXPECT_EQ(memory.data(), nullptr);
  EXPECT_EQ(memory.committed_bytes(), 0);
  EXPECT_EQ(memory.reserved_bytes(), 0);
  memory = Make(PageSize::Base());
  EXPECT_TRUE(memory);
  EXPECT_THAT(memory.Grow(1), IsOk());
}

TEST(GrowingMappingTest, RejectsAReservationThatCannotBe) {
  EXPECT_FALSE(GrowingMapping::Create({.reserve_bytes = UINT64_MAX}).ok());
  EXPECT_FALSE(
      GrowingMapping::Create({.reserve_bytes = uint64_t{1} << 60}).ok());
}

}  // namespace
}  // namespace doppel
