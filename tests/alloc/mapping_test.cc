// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/mapping.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<Arena> BaseArena() {
  return *Arena::Create({.page_size = PageSize::Base()});
}

// Reads and writes through volatile: aliases are different objects to a compiler.
uint64_t Load(const Mapping& mapping, uint64_t at) {
  return *reinterpret_cast<const volatile uint64_t*>(mapping.data() + at);
}
void Store(const Mapping& mapping, uint64_t at, uint64_t value) {
  *reinterpret_cast<volatile uint64_t*>(mapping.data() + at) = value;
}

TEST(MappingTest, ReservesAlignedAndInaccessibleWithGuards) {
  for (const uint64_t alignment : {uint64_t{0}, kPage, 2 * kMiB, 64 * kMiB}) {
    Mapping mapping = *Mapping::Reserve(10000, alignment);
    EXPECT_EQ(mapping.size_bytes(), 3 * kPage);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(mapping.data()) %
                  std::max(alignment, kPage),
              0);
    EXPECT_TRUE(Faults(mapping.data()));
  }
}

TEST(MappingTest, ReadingPastEitherEndFaults) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(2 * kPage);
  Mapping mapping = *Mapping::Reserve(2 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  EXPECT_TRUE(Faults(mapping.data() - 1));
  EXPECT_TRUE(Faults(mapping.data() + 2 * kPage));
  EXPECT_FALSE(Faults(mapping.data()));
  EXPECT_FALSE(Faults(mapping.data() + 2 * kPage - 1));
}

TEST(MappingTest, ShowsOnceTwiceAndManyTimes) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(2 * kPage);
  constexpr uint64_t kTimes = 17;
  Mapping mapping = *Mapping::Reserve(kTimes * 2 * kPage);
  for (uint64_t i = 0; i < kTimes; ++i) {
    ASSERT_THAT(mapping.Show(extent, i * 2 * kPage), IsOk());
  }
  Store(mapping, 8, 77);
  for (uint64_t i = 0; i < kTimes; ++i) {
    EXPECT_EQ(Load(mapping, i * 2 * kPage + 8), 77);
    Store(mapping, i * 2 * kPage + kPage, i);
    EXPECT_EQ(Load(mapping, kPage), i);
  }
  EXPECT_EQ(arena->Query()->views, kTimes);
  // A part of it, out of order.
  ASSERT_THAT(mapping.Show(extent, kPage, kPage, 0), IsOk());
  EXPECT_EQ(Load(mapping, 0), kTimes - 1);
}

TEST(MappingTest, HideMakesInaccessibleAndKeepsPages) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(4 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  Store(mapping, kPage, 5);
  ASSERT_THAT(mapping.Hide(kPage, kPage), IsOk());
  EXPECT_TRUE(Faults(mapping.data() + kPage));
  EXPECT_FALSE(Faults(mapping.data()));
  EXPECT_FALSE(Faults(mapping.data() + 2 * kPage));
  EXPECT_EQ(arena->Query()->views, 2);
  ASSERT_THAT(mapping.Show(extent, kPage, kPage, kPage), IsOk());
  EXPECT_EQ(Load(mapping, kPage), 5);
  ASSERT_THAT(mapping.Hide(0, 4 * kPage), IsOk());
  EXPECT_EQ(arena->Query()->views, 0);
}

TEST(MappingTest, ProtectionIsAsAsked) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(2 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  ASSERT_THAT(mapping.Show(extent, kPage, {.protection = Protection::kRead}),
              IsOk());
  Store(mapping, 0, 9);
  EXPECT_EQ(Load(mapping, kPage), 9);
  const auto writes = [&](uint64_t at) {
    return testing::Exited(testing::RunInChild([&] {
                             (void)std::signal(SIGSEGV, SIG_DFL);
                             Store(mapping, at, 1);
                             return 0;
                           }),
                           0);
  };
  EXPECT_TRUE(writes(0));
  EXPECT_FALSE(writes(kPage));
  ASSERT_THAT(mapping.Protect(kPage, kPage, Protection::kReadWrite), IsOk());
  EXPECT_TRUE(writes(kPage));
  ASSERT_THAT(mapping.Protect(0, kPage, Protection::kNone), IsOk());
  EXPECT_TRUE(Faults(mapping.data()));
}

TEST(MappingTest, PrivateViewsCopyOnWrite) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(2 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  ASSERT_THAT(mapping.Show(extent, kPage, {.sharing = Sharing::kPrivate}),
              IsOk());
  Store(mapping, 0, 1);
  EXPECT_EQ(Load(mapping, kPage), 1);
  Store(mapping, kPage, 2);
  EXPECT_EQ(Load(mapping, 0), 1);
  Store(mapping, 0, 3);
  EXPECT_EQ(Load(mapping, kPage), 2);
}

TEST(MappingTest, NothingCanBeDoneToWhatIsNotShown) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(kPage);
  Mapping mapping = *Mapping::Reserve(4 * kPage);
  ASSERT_THAT(mapping.Show(extent, kPage), IsOk());
  constexpr auto kNothing = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(mapping.Protect(0, kPage, Protection::kReadWrite),
              StatusIs(kNothing, HasSubstr("position 0")));
  EXPECT_THAT(mapping.Protect(kPage, 2 * kPage, Protection::kRead),
              StatusIs(kNothing, HasSubstr("position 8192")));
  EXPECT_THAT(mapping.Advise(0, kPage, Advice::kNormal), StatusIs(kNothing));
  EXPECT_THAT(mapping.Lock(2 * kPage, kPage), StatusIs(kNothing));
  EXPECT_THAT(mapping.Populate(0, kPage), StatusIs(kNothing));
  EXPECT_TRUE(Faults(mapping.data()));
}

TEST(MappingTest, RangesThatCannotBeAreErrors) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(2 * kPage);
  Mapping mapping = *Mapping::Reserve(4 * kPage);
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(mapping.Show(extent, 1), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(extent, 3 * kPage), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(extent, UINT64_MAX - kPage + 1), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(extent, kPage, 2 * kPage, 0), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(extent, UINT64_MAX, kPage, 0), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(extent, 0, 0, 0), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Show(Extent(), 0), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Hide(0, 5 * kPage), StatusIs(kInvalid));
  EXPECT_THAT(mapping.Populate(0, kPage, Protection::kNone),
              StatusIs(kInvalid));
  EXPECT_THAT(Mapping::Reserve(0), StatusIs(kInvalid));
  EXPECT_THAT(Mapping::Reserve(UINT64_MAX), StatusIs(kInvalid));
  EXPECT_THAT(Mapping::Reserve(kPage, 12345), StatusIs(kInvalid));
  EXPECT_THAT(
      Mapping::Reserve(uint64_t{1} << 60),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("RLIMIT_AS")));
}

TEST(MappingTest, AFileThatIsTooSmallIsAnErrorNotSigbus) {
  Memfd memfd = *Memfd::Create({});
  ASSERT_THAT(memfd.Resize(kPage), IsOk());
  Mapping mapping = *Mapping::Reserve(4 * kPage);
  EXPECT_THAT(mapping.Show(memfd, 0, 2 * kPage, 0),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("SIGBUS")));
  EXPECT_THAT(mapping.Show(memfd, 2 * kPage, kPage, 0),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(mapping.Show(memfd, 0, kPage, 0), IsOk());
  ASSERT_THAT(memfd.Resize(0), IsOk());
  EXPECT_FALSE(mapping.Populate(0, kPage).ok());
  EXPECT_TRUE(Faults(mapping.data()));
}

TEST(MappingTest, ASealedFileIsShownAsItsSealsAllow) {
  Memfd memfd = *Memfd::Create({});
  ASSERT_THAT(memfd.Resize(kPage), IsOk());
  Mapping mapping = *Mapping::Reserve(2 * kPage);
  ASSERT_THAT(mapping.Show(memfd, 0, kPage, 0), IsOk());
  ASSERT_THAT(memfd.AddSeals(Seal::kFutureWrite), IsOk());
  EXPECT_THAT(mapping.Show(memfd, 0, kPage, kPage),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(
      mapping.Show(memfd, 0, kPage, kPage, {.protection = Protection::kRead}),
      IsOk());
  Store(mapping, 0, 4);
  EXPECT_EQ(Load(mapping, kPage), 4);
  EXPECT_FALSE(mapping.Protect(kPage, kPage, Protection::kReadWrite).ok());
}

TEST(MappingTest, MovesOwnershipAndLeavesNothing) {
  const LeakCheck before;
  {
    const auto arena = BaseArena();
    Extent extent = *arena->Allocate(kPage);
    Mapping a = *Mapping::Reserve(kPage);
    ASSERT_THAT(a.Show(extent, 0), IsOk());
    Store(a, 0, 1);
    Mapping b = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_EQ(Load(b, 0), 1);
    b = *Mapping::Reserve(kPage);
    EXPECT_EQ(arena->Query()->views, 0);
    EXPECT_THAT(b.Unmap(), IsOk());
    EXPECT_THAT(b.Unmap(), IsOk());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(MappingTest, WhatCannotBeUnmappedShowsNothingAnyMore) {
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(kPage);
  for (const bool assigned : {false, true}) {
    auto ends = std::make_unique<Mapping>(*Mapping::Reserve(kPage));
    Mapping next = *Mapping::Reserve(kPage);
    ASSERT_THAT(ends->Show(extent, 0), IsOk());
    std::byte* const data = ends->data();
    const std::byte* const next_data = next.data();
    {
      const testing::FaultPlan plan(
          {.call = testing::Call::kMunmap, .nth = 1, .error = ENOMEM});
      if (assigned) {
        *ends = std::move(next);
        EXPECT_EQ(ends->data(), next_data);
      } else {
        ends.reset();
      }
      EXPECT_TRUE(plan.fired());
    }
    EXPECT_TRUE(Faults(data)) << "its page may be another's now";
    EXPECT_EQ(arena->Query()->views, 0);
    EXPECT_EQ(munmap(data - kPage, 3 * kPage), 0);
  }
}

TEST(MappingTest, NeighboursDoNotMerge) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer maps memory of its own meanwhile";
#endif
  // Reservations side by side: unmapping one splits no mapping of the kernel's.
  std::vector<Mapping> mappings;
  const int64_t before = testing::KernelMappings();
  mappings.reserve(32);
  for (int i = 0; i < 32; ++i) mappings.push_back(*Mapping::Reserve(kPage));
  const int64_t full = testing::KernelMappings();
  EXPECT_LE(full - before, 96);
  for (int i = 0; i < 32; i += 2) {
    ASSERT_THAT(mappings[i].Unmap(), IsOk());
    EXPECT_LE(testing::KernelMappings(), full);
  }
}

TEST(MappingTest, AddressSpaceLimitIsAnError) {
  EXPECT_TRUE(testing::Exited(
      testing::RunInChild([] {
        const ScopedRlimit limit(RLIMIT_AS, uint64_t{1} << 46);
        const auto mapping = Mapping::Reserve(uint64_t{1} << 46);
        return absl::IsResourceExhausted(mapping.status()) ? 0 : 1;
      }),
      0));
}

TEST(MappingTest, HugetlbIsShownAtItsAlignment) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 4) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const auto arena = *Arena::Create({.page_size = PageSize::Huge2MiB()});
  Extent extent = *arena->Allocate(4 * kMiB);
  Mapping mapping = *Mapping::Reserve(8 * kMiB, 2 * kMiB);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  ASSERT_THAT(mapping.Show(extent, 4 * kMiB), IsOk());
  Store(mapping, 3 * kMiB, 6);
  EXPECT_EQ(Load(mapping, 7 * kMiB), 6);
  EXPECT_EQ(mapping.Query(0, 8 * kMiB)->huge_bytes, 4 * kMiB)
      << "one page of each view was touched";
  EXPECT_FALSE(mapping.Show(extent, kPage).ok());
  EXPECT_FALSE(mapping.Hide(kPage, kPage).ok());
  EXPECT_THAT(mapping.Move(0, 2 * kMiB, mapping, 4 * kMiB),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("Show them there")));
  ASSERT_THAT(mapping.Hide(0, 2 * kMiB), IsOk());
  EXPECT_TRUE(Faults(mapping.data()));
}

TEST(MappingTest, AnEmptyHugetlbPoolIsAnErrorAndNothingIsLost) {
  const auto pool = FindHugetlbPool(2 * kMiB);
  if (!pool.ok()) GTEST_SKIP() << pool.status();
  Memfd memfd = *Memfd::Create({.page_size = PageSize::Huge2MiB()});
  const uint64_t too_much = (pool->total_pages + 1) * 2 * kMiB;
  ASSERT_THAT(memfd.Resize(too_much), IsOk());
  Mapping mapping = *Mapping::Reserve(too_much, 2 * kMiB);
  const auto arena = BaseArena();
  Extent extent = *arena->Allocate(kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  Store(mapping, 0, 8);
  if (pool->overcommit_pages > 0) GTEST_SKIP() << "the pool may grow";
  EXPECT_THAT(mapping.Show(memfd, 0, too_much, 0),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("vm.nr_hugepages")));
  EXPECT_EQ(Load(mapping, 0), 8);
}

}  // namespace
}  // namespace doppel
