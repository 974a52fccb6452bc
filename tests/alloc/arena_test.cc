// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/arena.h"

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::Scaled;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<Arena> Make(uint64_t retain_bytes = 0) {
  return *Arena::Create(
      {.page_size = PageSize::Base(), .retain_bytes = retain_bytes});
}

// Gives the extent its pages.
void Touch(const Extent& extent) {
  Mapping mapping = *Mapping::Reserve(extent.size_bytes());
  ASSERT_THAT(mapping.Show(extent, 0, {.populate = true}), IsOk());
}

TEST(ArenaTest, ExtentsAreWholePagesThatNeverOverlap) {
  const std::shared_ptr<Arena> arena = Make();
  std::mt19937 random(7);
  std::map<uint64_t, Extent> live;
  uint64_t live_bytes = 0;
  for (int64_t i = 0; i < Scaled(20000, 1000000); ++i) {
    if (live.size() < 200 && random() % 2 == 0) {
      const uint64_t bytes = random() % (64 * kPage) + 1;
      const uint64_t alignment = kPage << (random() % 6);
      Extent extent = *arena->Allocate(bytes, alignment);
      ASSERT_GE(extent.size_bytes(), bytes);
      ASSERT_LT(extent.size_bytes(), bytes + kPage);
      ASSERT_EQ(extent.offset_bytes() % alignment, 0);
      const auto next = live.lower_bound(extent.offset_bytes());
      if (next != live.end()) {
        ASSERT_LE(extent.offset_bytes() + extent.size_bytes(), next->first);
      }
      if (next != live.begin()) {
        const Extent& previous = std::prev(next)->second;
        ASSERT_LE(previous.offset_bytes() + previous.size_bytes(),
                  extent.offset_bytes());
      }
      live_bytes += extent.size_bytes();
      live.emplace(extent.offset_bytes(), std::move(extent));
    } else if (!live.empty()) {
      const auto victim =
          std::next(live.begin(), static_cast<int>(random() % live.size()));
      live_bytes -= victim->second.size_bytes();
      live.erase(victim);
    }
  }
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->extents, live.size());
  EXPECT_EQ(stats->handed_out_bytes, live_bytes);
  EXPECT_EQ(stats->handed_out_bytes + stats->free_bytes, stats->file_bytes);
  live.clear();
  EXPECT_EQ(arena->Query()->free_bytes, arena->Query()->file_bytes);
  // Coalesced: all of it is one run again.
  const uint64_t file_bytes = arena->Query()->file_bytes;
  EXPECT_THAT(arena->Allocate(file_bytes), IsOk());
  EXPECT_EQ(arena->Query()->file_bytes, file_bytes);
}

TEST(ArenaTest, TakesTheSmallestRunThatFits) {
  const std::shared_ptr<Arena> arena = Make();
  Extent large = *arena->Allocate(8 * kPage);
  Extent wall_a = *arena->Allocate(kPage);
  Extent small = *arena->Allocate(2 * kPage);
  Extent wall_b = *arena->Allocate(kPage);
  const uint64_t small_offset = small.offset_bytes();
  const uint64_t large_offset = large.offset_bytes();
  large.Reset();
  small.Reset();
  Extent first = *arena->Allocate(2 * kPage);
  EXPECT_EQ(first.offset_bytes(), small_offset);
  Extent second = *arena->Allocate(2 * kPage);
  EXPECT_EQ(second.offset_bytes(), large_offset);
}

TEST(ArenaTest, LargeExtentsCanBeHuge) {
  if (TransparentPageBytes() == 0) GTEST_SKIP() << "no transparent pages";
  const auto arena = *Arena::Create();
  Extent odd = *arena->Allocate(kPage);
  Extent large = *arena->Allocate(TransparentPageBytes());
  EXPECT_EQ(large.offset_bytes() % TransparentPageBytes(), 0);
}

TEST(ArenaTest, GivesPagesBackAtOnceOrByPolicy) {
  const std::shared_ptr<Arena> strict = Make();
  Extent a = *strict->Allocate(kMiB);
  Touch(a);
  EXPECT_EQ(strict->Query()->allocated_bytes, kMiB);
  a.Reset();
  EXPECT_EQ(strict->Query()->allocated_bytes, 0);

  const std::shared_ptr<Arena> keeping = Make(kMiB);
  Extent b = *keeping->Allocate(kMiB);
  Extent c = *keeping->Allocate(kMiB);
  Touch(b);
  Touch(c);
  b.Reset();
  EXPECT_EQ(keeping->Query()->allocated_bytes, 2 * kMiB);
  EXPECT_EQ(keeping->Query()->retained_bytes, kMiB);
  c.Reset();
  EXPECT_EQ(keeping->Query()->allocated_bytes, kMiB);
  ASSERT_THAT(keeping->Trim(), IsOk());
  EXPECT_EQ(keeping->Query()->allocated_bytes, 0);
}

TEST(ArenaTest, ExtentsSplitAndJoin) {
  const std::shared_ptr<Arena> arena = Make();
  Extent whole = *arena->Allocate(8 * kPage);
  Extent rest = *whole.SplitAt(3 * kPage);
  EXPECT_EQ(whole.size_bytes(), 3 * kPage);
  EXPECT_EQ(rest.offset_bytes(), whole.offset_bytes() + 3 * kPage);
  EXPECT_EQ(arena->Query()->extents, 2);
  for (const uint64_t bad : {uint64_t{0}, uint64_t{100}, 3 * kPage}) {
    EXPECT_FALSE(whole.SplitAt(bad).ok());
  }
  EXPECT_FALSE(rest.Join(whole));
  EXPECT_TRUE(whole.Join(rest));
  EXPECT_FALSE(rest);
  EXPECT_EQ(whole.size_bytes(), 8 * kPage);
  EXPECT_EQ(arena->Query()->extents, 1);
}

TEST(ArenaTest, LivesAsLongAsItsExtents) {
  const LeakCheck before;
  {
    std::shared_ptr<Arena> arena = Make();
    Extent extent = *arena->Allocate(kPage);
    arena.reset();
    Touch(extent);
    EXPECT_EQ(extent.arena()->Query()->allocated_bytes, kPage);
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(ArenaTest, CountsViewsAndPages) {
  const std::shared_ptr<Arena> arena = Make();
  Extent extent = *arena->Allocate(16 * kPage);
  Mapping mapping = *Mapping::Reserve(32 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0, {.populate = true}), IsOk());
  ASSERT_THAT(mapping.Show(extent, 16 * kPage, {.populate = true}), IsOk());
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->views, 2);
  EXPECT_EQ(stats->resident_bytes, 32 * kPage) << "aliases count each";
  EXPECT_EQ(stats->allocated_bytes, 16 * kPage) << "the pages are there once";
  EXPECT_GT(stats->process_mappings, 2);
  EXPECT_GT(stats->max_mappings, 1000);
  ASSERT_THAT(mapping.Unmap(), IsOk());
  EXPECT_EQ(arena->Query()->views, 0);
}

TEST(ArenaTest, BadSizesAndFullArenasAreErrors) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto arena =
      *Arena::Create({.page_size = PageSize::Base(), .max_bytes = 4 * kPage});
  EXPECT_THAT(arena->Allocate(0), StatusIs(kInvalid));
  EXPECT_THAT(arena->Allocate(UINT64_MAX), StatusIs(kInvalid));
  EXPECT_THAT(arena->Allocate(1, 3), StatusIs(kInvalid));
  EXPECT_THAT(
      arena->Allocate(5 * kPage),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("max_bytes")));
  {
    Extent first = *arena->Allocate(kPage);
    EXPECT_THAT(arena->Allocate(kPage, uint64_t{1} << 63),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_THAT(arena->Allocate(4 * kPage), IsOk());
  EXPECT_THAT(arena->Allocate(4 * kPage), IsOk()) << "it came back";
}

TEST(ArenaTest, AFullArenaJoinsRetainedRunsToHoles) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base(),
                                     .max_bytes = 4 * kPage,
                                     .retain_bytes = 2 * kPage});
  {
    Extent a = *arena->Allocate(2 * kPage);
    Extent b = *arena->Allocate(2 * kPage);
  }
  EXPECT_EQ(arena->Query()->retained_bytes, 2 * kPage);
  EXPECT_THAT(arena->Allocate(4 * kPage), IsOk());
}

TEST(ArenaTest, AForkedChildSharesPagesButHandsOutNone) {
  const std::shared_ptr<Arena> arena = Make();
  Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  const auto shared = Arena::Default();
  ASSERT_THAT(shared, IsOk());
  EXPECT_TRUE(testing::Exited(
      testing::RunInChild([&] {
        if (arena->Allocate(kPage).status().code() !=
            absl::StatusCode::kFailedPrecondition) {
          return 1;
        }
        mapping.data()[0] = std::byte{42};
        extent.Reset();  // Must not take the parent's page.
        if (!arena->Trim().ok()) return 2;
        const auto own = Arena::Default();
        return own.ok() && *own != *shared && (*own)->Allocate(kPage).ok() ? 0
                                                                           : 3;
      }),
      0));
  EXPECT_EQ(mapping.data()[0], std::byte{42});
  EXPECT_THAT(arena->Allocate(kPage), IsOk());
}

TEST(ArenaTest, DontForkKeepsPagesFromTheChild) {
  const auto arena =
      *Arena::Create({.page_size = PageSize::Base(),
                      .fork_policy = Arena::ForkPolicy::kDontFork});
  Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  mapping.data()[0] = std::byte{1};
  EXPECT_TRUE(testing::Faults(mapping.data()));
  EXPECT_EQ(mapping.data()[0], std::byte{1});
}

TEST(ArenaTest, PopulatesAndLocksWhatItShows) {
  const auto arena = *Arena::Create(
      {.page_size = PageSize::Base(), .populate = true, .lock = true});
  Extent extent = *arena->Allocate(8 * kPage);
  Mapping mapping = *Mapping::Reserve(8 * kPage);
  const absl::Status shown = mapping.Show(extent, 0);
  if (absl::IsResourceExhausted(shown) || absl::IsPermissionDenied(shown)) {
    GTEST_SKIP() << shown;
  }
  ASSERT_THAT(shown, IsOk());
  EXPECT_EQ(mapping.Query(0, 8 * kPage)->resident_bytes, 8 * kPage);
  EXPECT_FALSE(mapping.Sync(0, kPage, SyncMode::kInvalidate).ok())
      << "msync(2): EBUSY where the range is locked";
}

TEST(ArenaTest, ThreadsShareIt) {
  const std::shared_ptr<Arena> arena = Make(64 * kPage);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&arena, seed] {
      std::mt19937 random(seed);
      std::vector<Extent> mine;
      for (int i = 0; i < 2000; ++i) {
        if (random() % 2 == 0 || mine.empty()) {
          mine.push_back(*arena->Allocate(random() % (8 * kPage) + 1));
        } else {
          mine[random() % mine.size()].Reset();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->extents, 0);
  EXPECT_EQ(stats->handed_out_bytes, 0);
  EXPECT_LE(stats->retained_bytes, 64 * kPage);
}

TEST(ArenaTest, BestAvailableDoesWithoutHugetlbFiles) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 1) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const Arena::Options options = {.page_size = PageSize::BestAvailable(),
                                  .expected_bytes = 2 * kMiB};
  EXPECT_EQ((*Arena::Create(options))->grant().granted, PageSize::Huge2MiB());
  const testing::FaultPlan plan(
      {.call = testing::Call::kMemfdCreate, .nth = 1, .error = EPERM});
  const auto arena = Arena::Create(options);
  ASSERT_THAT(arena, IsOk());
  EXPECT_TRUE(plan.fired());
  EXPECT_FALSE((*arena)->grant().granted.is_hugetlb());
  EXPECT_EQ((*arena)->grant().asked, PageSize::BestAvailable());
  EXPECT_THAT((*arena)->grant().reason,
              HasSubstr("hugetlb 2 MiB: memfd_create"));
  EXPECT_THAT((*arena)->Allocate(kPage), IsOk());
}

TEST(ArenaTest, AnExactHugetlbFileOrNone) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 1) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const testing::FaultPlan plan(
      {.call = testing::Call::kMemfdCreate, .nth = 1, .error = EPERM});
  EXPECT_THAT(Arena::Create({.page_size = PageSize::Huge2MiB()}),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST(ArenaTest, AnExactHugetlbArenaUsesPagesThatTheKernelAdds) {
  testing::TakeHugetlbPools();
  const auto pool = FindHugetlbPool(2 * kMiB);
  if (!pool.ok() || pool->addable_pages() == 0) {
    GTEST_SKIP() << "raise nr_overcommit_hugepages of the 2 MiB pool";
  }
  const uint64_t bytes = (pool->available_pages() + 1) * 2 * kMiB;
  const auto arena = Arena::Create(
      {.page_size = PageSize::Huge2MiB(), .expected_bytes = bytes});
  ASSERT_THAT(arena, IsOk());
  EXPECT_THAT((*arena)->Allocate(bytes), IsOk());
}

TEST(ArenaTest, HugetlbExtentsHaveTheirPages) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 4) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const auto arena = *Arena::Create({.page_size = PageSize::Huge2MiB()});
  EXPECT_EQ(arena->page_bytes(), 2 * kMiB);
  Extent extent = *arena->Allocate(1);
  EXPECT_EQ(extent.size_bytes(), 2 * kMiB);
  EXPECT_EQ(arena->Query()->allocated_bytes, 2 * kMiB);
  const uint64_t file_bytes = arena->Query()->file_bytes;
  const auto too_large = arena->Allocate(uint64_t{1} << 40);
  EXPECT_FALSE(too_large.ok());
  EXPECT_EQ(arena->Query()->allocated_bytes, 2 * kMiB) << "nothing was kept";
  Mapping mapping = *Mapping::Reserve(2 * kMiB, 2 * kMiB);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  mapping.data()[0] = std::byte{1};
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->huge_bytes, 2 * kMiB);
  EXPECT_GE(stats->file_bytes, file_bytes);
}

}  // namespace
}  // namespace doppel
