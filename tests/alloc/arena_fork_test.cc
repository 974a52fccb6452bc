// SPDX-License-Identifier: Apache-2.0
//
// fork(2): the child leaves the parent's pages, locks and addresses alone.

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::RunInChild;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(ArenaForkTest, WhatAChildFreesKeepsTheParentsPages) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  auto memory = std::make_unique<GrowingMapping>(
      *GrowingMapping::Create({.arena = arena, .reserve_bytes = 16 * kMiB}));
  ASSERT_THAT(memory->Grow(kMiB), IsOk());
  memory->data()[0] = std::byte{1};
  memory->data()[kMiB - 1] = std::byte{2};
  EXPECT_TRUE(Exited(RunInChild([&] {
                       if (!memory->ShrinkTo(kPage).ok()) return 1;
                       memory.reset();
                       if (!arena->Trim().ok()) return 2;
                       return 0;
                     }),
                     0));
  EXPECT_EQ(memory->data()[0], std::byte{1});
  EXPECT_EQ(memory->data()[kMiB - 1], std::byte{2});
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_GE(stats->allocated_bytes, kMiB);
  EXPECT_EQ(stats->extents, 1);
}

TEST(ArenaForkTest, AChildThatGrowsWhatItInheritedIsRefused) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  auto memory =
      *GrowingMapping::Create({.arena = arena, .reserve_bytes = 16 * kMiB});
  ASSERT_THAT(memory.Grow(kPage), IsOk());
  EXPECT_TRUE(Exited(RunInChild([&] {
                       const absl::Status grown = memory.Grow(8 * kMiB);
                       return absl::IsFailedPrecondition(grown) ? 0 : 1;
                     }),
                     0));
  EXPECT_THAT(memory.Grow(8 * kMiB), IsOk());
}

// The child of a fork has only the thread that forked; a lock that another one held
// stays locked in it for ever.
TEST(ArenaForkTest, AForkAtAnyMomentLeavesNoLockBehind) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer's own allocator leaves its locks behind";
#endif
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  Extent extent = *arena->Allocate(4 * kPage);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const Extent mine = *arena->Allocate(64 * kPage);
      const auto same = Arena::Default();
      EXPECT_THAT(same, IsOk());
    }
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(Exited(RunInChild([&] {
                         alarm(20);  // A child that hangs dies of SIGALRM.
                         auto rest = extent.SplitAt(kPage);
                         if (!rest.ok()) return 1;
                         rest->Reset();
                         extent.Reset();
                         return Arena::Default().ok() ? 0 : 2;
                       }),
                       0));
  }
  stop = true;
  busy.join();
  EXPECT_EQ(arena->Query()->extents, 1);
}

TEST(ArenaForkTest, GuardsStandInTheChildToo) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  const Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  EXPECT_TRUE(Exited(
      RunInChild([&] {
        // msync(2): ENOMEM where nothing is mapped.
        return msync(mapping.data() - kPage, 3 * kPage, MS_ASYNC) == 0 ? 0 : 1;
      }),
      0));
}

TEST(ArenaForkTest, WhatStandsInAGapOfTheChildIsLeftAlone) {
  const auto arena =
      *Arena::Create({.page_size = PageSize::Base(),
                      .fork_policy = Arena::ForkPolicy::kDontFork});
  const Extent extent = *arena->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(8 * kPage);
  ASSERT_THAT(mapping.Show(extent, 2 * kPage), IsOk());
  EXPECT_TRUE(Exited(
      RunInChild([&] {
        std::byte* const gap = mapping.data() + 2 * kPage;
        void* const other =
            mmap(gap, 4 * kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (other != gap) return 1;  // It was no gap.
        gap[0] = std::byte{9};
        if (!absl::IsFailedPrecondition(mapping.Hide(2 * kPage, kPage))) {
          return 2;
        }
        if (!absl::IsFailedPrecondition(mapping.Show(extent, 0))) return 3;
        if (!mapping.Unmap().ok() || mapping) return 4;
        return gap[0] == std::byte{9} ? 0 : 5;
      }),
      0));
  EXPECT_THAT(mapping.Hide(2 * kPage, kPage), IsOk());
  EXPECT_THAT(mapping.Unmap(), IsOk());
}

// Whether a child of now may show and hide, and unmaps all of the mapping.
bool AChildHasAll(Mapping& mapping, const Extent& extent) {
  const int status = RunInChild([&] {
    if (absl::IsFailedPrecondition(mapping.Show(extent, 0))) return 1;
    if (!mapping.Hide(0, kPage).ok()) return 2;
    std::byte* const data = mapping.data();
    const uint64_t bytes = mapping.size_bytes();
    if (!mapping.Unmap().ok()) return 3;
    // Nothing may be left: all of it can be mapped anew.
    return mmap(data, bytes, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                0) == data
               ? 0
               : 4;
  });
  EXPECT_TRUE(Exited(status, 0) || Exited(status, 1)) << status;
  return Exited(status, 0);
}

TEST(ArenaForkTest, WhatMayForkAgainIsTheChildsToo) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  const Extent extent = *arena->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(16 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  ASSERT_THAT(mapping.Show(extent, 8 * kPage), IsOk());
  EXPECT_TRUE(AChildHasAll(mapping, extent));
  ASSERT_THAT(mapping.Advise(0, 4 * kPage, Advice::kDontFork), IsOk());
  ASSERT_THAT(mapping.Advise(9 * kPage, kPage, Advice::kDontFork), IsOk());
  EXPECT_FALSE(AChildHasAll(mapping, extent));
  ASSERT_THAT(mapping.Advise(0, 4 * kPage, Advice::kDoFork), IsOk());
  EXPECT_FALSE(AChildHasAll(mapping, extent)) << "the other view";
  ASSERT_THAT(mapping.Advise(8 * kPage, kPage, Advice::kDoFork), IsOk());
  EXPECT_FALSE(AChildHasAll(mapping, extent)) << "a part of it";
  ASSERT_THAT(mapping.Advise(8 * kPage, 4 * kPage, Advice::kDoFork), IsOk());
  EXPECT_TRUE(AChildHasAll(mapping, extent));
}

TEST(ArenaForkTest, WhatIsHiddenOrReplacedNoChildLacks) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  const auto own =
      *Arena::Create({.page_size = PageSize::Base(),
                      .fork_policy = Arena::ForkPolicy::kDontFork});
  const Extent extent = *arena->Allocate(4 * kPage);
  const Extent secret = *own->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(16 * kPage);
  ASSERT_THAT(mapping.Show(secret, 0), IsOk());
  ASSERT_THAT(mapping.Hide(kPage, kPage), IsOk());
  EXPECT_FALSE(AChildHasAll(mapping, extent)) << "two parts are left";
  ASSERT_THAT(mapping.Hide(2 * kPage, 2 * kPage), IsOk());
  EXPECT_FALSE(AChildHasAll(mapping, extent));
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  EXPECT_TRUE(AChildHasAll(mapping, extent));

  // What is moved or aliased is lacking where it is now.
  ASSERT_THAT(mapping.Show(secret, 4 * kPage), IsOk());
  Mapping other = *Mapping::Reserve(16 * kPage);
  ASSERT_THAT(mapping.Move(4 * kPage, 4 * kPage, other, 4 * kPage), IsOk());
  EXPECT_TRUE(AChildHasAll(mapping, extent));
  EXPECT_FALSE(AChildHasAll(other, extent));
  ASSERT_THAT(other.Alias(4 * kPage, 4 * kPage, 8 * kPage), IsOk());
  ASSERT_THAT(other.Hide(4 * kPage, 4 * kPage), IsOk());
  EXPECT_FALSE(AChildHasAll(other, extent)) << "the alias";
  Mapping moved = std::move(other);
  EXPECT_FALSE(AChildHasAll(moved, extent));
  ASSERT_THAT(moved.Hide(8 * kPage, 4 * kPage), IsOk());
  EXPECT_TRUE(AChildHasAll(moved, extent));
}

TEST(ArenaForkTest, WhatIsOnlyMadeInaccessibleChildrenLackStill) {
  const auto arena =
      *Arena::Create({.page_size = PageSize::Base(),
                      .fork_policy = Arena::ForkPolicy::kDontFork});
  const Extent extent = *arena->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(16 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  {
    const testing::FaultPlan plan(
        {.call = testing::Call::kMmap, .nth = 1, .error = ENOMEM});
    ASSERT_THAT(mapping.Hide(0, 4 * kPage), IsOk());
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_FALSE(AChildHasAll(mapping, extent));
}

}  // namespace
}  // namespace doppel
