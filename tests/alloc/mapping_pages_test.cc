// SPDX-License-Identifier: Apache-2.0
//
// Mapping: moving, aliasing, advice, locks, population.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

class MappingPagesTest : public ::testing::Test {
 protected:
  uint64_t Load(uint64_t at) const {
    return *reinterpret_cast<const volatile uint64_t*>(mapping_.data() + at);
  }
  void Store(uint64_t at, uint64_t value) {
    *reinterpret_cast<volatile uint64_t*>(mapping_.data() + at) = value;
  }
  void SetUp() override { ASSERT_THAT(mapping_.Show(extent_, 0), IsOk()); }

  std::shared_ptr<Arena> arena_ =
      *Arena::Create({.page_size = PageSize::Base()});
  Extent extent_ = *arena_->Allocate(4 * kPage);
  Mapping mapping_ = *Mapping::Reserve(16 * kPage);
};

TEST_F(MappingPagesTest, MoveTakesThePagesAlong) {
  Store(kPage, 11);
  ASSERT_THAT(mapping_.Move(kPage, 2 * kPage, mapping_, 8 * kPage), IsOk());
  EXPECT_EQ(Load(8 * kPage), 11);
  EXPECT_EQ(mapping_.Query(8 * kPage, kPage)->resident_bytes, kPage)
      << "not faulted in again";
  EXPECT_TRUE(Faults(mapping_.data() + kPage));
  EXPECT_FALSE(Faults(mapping_.data()));
  EXPECT_FALSE(Faults(mapping_.data() + 3 * kPage));
  EXPECT_EQ(arena_->Query()->views, 3);

  Mapping other = *Mapping::Reserve(2 * kPage);
  ASSERT_THAT(mapping_.Move(8 * kPage, 2 * kPage, other, 0), IsOk());
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(other.data()), 11);
  EXPECT_TRUE(Faults(mapping_.data() + 8 * kPage));
}

TEST_F(MappingPagesTest, MoveRefusesWhatIsNoSingleView) {
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(mapping_.Move(6 * kPage, kPage, mapping_, 8 * kPage),
              StatusIs(kPrecondition, HasSubstr("not of one view")));
  EXPECT_THAT(mapping_.Move(3 * kPage, 2 * kPage, mapping_, 8 * kPage),
              StatusIs(kPrecondition));
  EXPECT_THAT(
      mapping_.Move(0, 2 * kPage, mapping_, kPage),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("overlap")));
  EXPECT_THAT(mapping_.Move(0, kPage, mapping_, 16 * kPage),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(MappingPagesTest, AliasShowsThePagesAgain) {
  ASSERT_THAT(mapping_.Alias(0, 4 * kPage, 4 * kPage), IsOk());
  Store(kPage, 3);
  EXPECT_EQ(Load(5 * kPage), 3);
  Store(5 * kPage, 4);
  EXPECT_EQ(Load(kPage), 4);
  EXPECT_EQ(arena_->Query()->views, 2);
  ASSERT_THAT(mapping_.Show(extent_, 8 * kPage, {.sharing = Sharing::kPrivate}),
              IsOk());
  EXPECT_THAT(
      mapping_.Alias(8 * kPage, kPage, 12 * kPage),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("private")));
}

TEST_F(MappingPagesTest, EveryAdviceReachesTheKernel) {
  const Advice accepted[] = {
      Advice::kNormal,   Advice::kRandom,       Advice::kSequential,
      Advice::kWillNeed, Advice::kDontNeed,     Advice::kDontFork,
      Advice::kDoFork,   Advice::kHugePage,     Advice::kNoHugePage,
      Advice::kDontDump, Advice::kDoDump,       Advice::kCold,
      Advice::kPageOut,  Advice::kPopulateRead, Advice::kPopulateWrite};
  for (const Advice advice : accepted) {
    EXPECT_THAT(mapping_.Advise(0, 4 * kPage, advice), IsOk())
        << static_cast<int>(advice);
  }
  EXPECT_THAT(mapping_.Advise(0, kPage, Advice::kFree),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // Kernels without KSM refuse these two.
  const absl::Status merge = mapping_.Advise(0, kPage, Advice::kMergeable);
  EXPECT_TRUE(merge.ok() || absl::IsInvalidArgument(merge)) << merge;
  const absl::Status unmerge = mapping_.Advise(0, kPage, Advice::kUnmergeable);
  EXPECT_EQ(merge.ok(), unmerge.ok());
}

TEST_F(MappingPagesTest, RemovePunchesTheHoleThroughTheMapping) {
  Store(0, 5);
  Store(kPage, 6);
  ASSERT_THAT(mapping_.Advise(0, kPage, Advice::kRemove), IsOk());
  EXPECT_EQ(Load(0), 0);
  EXPECT_EQ(Load(kPage), 6);
  EXPECT_EQ(arena_->memfd().Query()->allocated_bytes, 2 * kPage);
}

TEST_F(MappingPagesTest, DontNeedFreesNothingOfASharedMapping) {
  Store(0, 5);
  ASSERT_THAT(mapping_.Advise(0, kPage, Advice::kDontNeed), IsOk());
  EXPECT_EQ(Load(0), 5);
}

TEST_F(MappingPagesTest, PopulateBringsPages) {
  EXPECT_EQ(mapping_.Query(0, 4 * kPage)->resident_bytes, 0);
  ASSERT_THAT(mapping_.Populate(0, 2 * kPage), IsOk());
  ASSERT_THAT(mapping_.Populate(2 * kPage, kPage, Protection::kRead), IsOk());
  EXPECT_EQ(mapping_.Query(0, 4 * kPage)->resident_bytes, 3 * kPage);
  EXPECT_EQ(mapping_.Query(0, 16 * kPage)->mapped_bytes, 16 * kPage);
}

TEST_F(MappingPagesTest, PopulateHugeMakesWholeUnitsHuge) {
  if (TransparentPageBytes() != 2 * kMiB) GTEST_SKIP() << "units of 2 MiB only";
  // The kernel may be unable to just then, and the library goes on without.
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto arena = *Arena::Create();
    Extent extent = *arena->Allocate(6 * kMiB);
    Mapping mapping = *Mapping::Reserve(6 * kMiB, 2 * kMiB);
    ASSERT_THAT(mapping.Show(extent, 0), IsOk());
    ASSERT_THAT(mapping.PopulateHuge(kPage, 5 * kMiB), IsOk());
    const auto residency = mapping.Query(0, 6 * kMiB);
    ASSERT_THAT(residency, IsOk());
    EXPECT_GE(residency->resident_bytes, 5 * kMiB);
    if (residency->huge_bytes >= 2 * kMiB) return;
  }
  GTEST_SKIP() << "the kernel made none of ten units huge";
}

// Whether the kernel gives the mapping of this address this flag ("hg": MADV_HUGEPAGE,
// "nh": MADV_NOHUGEPAGE).
bool HasFlag(const std::byte* address, const std::string& flag) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    uint64_t begin = 0;
    uint64_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      const auto value = reinterpret_cast<uint64_t>(address);
      inside = begin <= value && value < end;
    } else if (inside && line.find("VmFlags:") == 0) {
      return line.find(" " + flag) != std::string::npos;
    }
  }
  return false;
}

TEST_F(MappingPagesTest, ATouchBringsHugePagesOnlyWhereItMay) {
  if (TransparentPageBytes() != 2 * kMiB) GTEST_SKIP() << "units of 2 MiB only";
  const auto arena = *Arena::Create();
  Extent extent = *arena->Allocate(6 * kMiB);
  Mapping mapping = *Mapping::Reserve(12 * kMiB, 2 * kMiB);
  std::byte* const data = mapping.data();
  ASSERT_THAT(mapping.Show(extent, 0, {.huge_on_touch = false}), IsOk());
  EXPECT_TRUE(HasFlag(data, "nh"));
  data[0] = std::byte{1};
  EXPECT_EQ(arena->Query()->allocated_bytes, kPage)
      << "whatever shmem_enabled says";
  // What is populated as a whole may be huge, and is.
  ASSERT_THAT(mapping.PopulateHuge(0, 2 * kMiB + kPage), IsOk());
  EXPECT_EQ(arena->Query()->allocated_bytes, 2 * kMiB + kPage);
  EXPECT_TRUE(HasFlag(data, "hg"));
  EXPECT_TRUE(HasFlag(data + 2 * kMiB, "nh"));
  const auto residency = mapping.Query(0, 4 * kMiB);
  ASSERT_THAT(residency, IsOk());
  EXPECT_GE(residency->resident_bytes, 2 * kMiB + kPage);

  ASSERT_THAT(mapping.Show(extent, 6 * kMiB), IsOk());
  EXPECT_TRUE(HasFlag(data + 6 * kMiB, "hg"));
  ASSERT_THAT(mapping.Show(extent, 0, kMiB, 6 * kMiB), IsOk());
  EXPECT_FALSE(HasFlag(data + 6 * kMiB, "hg")) << "less than a unit";
}

TEST_F(MappingPagesTest, LocksWithinTheLimit) {
  const absl::Status locked = mapping_.Lock(0, kPage);
  if (!locked.ok()) GTEST_SKIP() << locked;
  EXPECT_EQ(mapping_.Query(0, kPage)->resident_bytes, kPage);
  EXPECT_THAT(mapping_.Unlock(0, kPage), IsOk());
  EXPECT_THAT(mapping_.Lock(0, 4 * kPage, LockMode::kOnFault), IsOk());
  EXPECT_EQ(mapping_.Query(kPage, kPage)->resident_bytes, 0);
  EXPECT_THAT(mapping_.Unlock(0, 4 * kPage), IsOk());
}

TEST_F(MappingPagesTest, TheLockLimitIsAnError) {
  EXPECT_TRUE(testing::Exited(
      testing::RunInChild([&] {
        const testing::ScopedRlimit limit(RLIMIT_MEMLOCK, 0);
        // Root locks beyond the limit; without the privilege it is an error.
        if (setresuid(65534, 65534, 65534) != 0) return 0;
        const absl::Status status = mapping_.Lock(0, kPage);
        return !status.ok() && status.message().find("RLIMIT_MEMLOCK") !=
                                   absl::string_view::npos
                   ? 0
                   : 1;
      }),
      0));
}

TEST_F(MappingPagesTest, SyncsEveryWay) {
  for (const SyncMode mode :
       {SyncMode::kAsync, SyncMode::kSync, SyncMode::kInvalidate}) {
    EXPECT_THAT(mapping_.Sync(0, 4 * kPage, mode), IsOk());
  }
}

TEST(LockProcessTest, LocksAndUnlocks) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer ignores mlockall: its shadow is too large";
#endif
  EXPECT_THAT(LockProcess(false, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(
      testing::Exited(testing::RunInChild([] {
                        const absl::Status locked = LockProcess(true, false);
                        if (!locked.ok()) {
                          return absl::IsResourceExhausted(locked) ||
                                         absl::IsPermissionDenied(locked)
                                     ? 0
                                     : 1;
                        }
                        return UnlockProcess().ok() ? 0 : 2;
                      }),
                      0));
}

TEST_F(MappingPagesTest, LockProcessOnFaultBringsNoPages) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer ignores mlockall: its shadow is too large";
#endif
  const int status = testing::RunInChild([&] {
    const absl::Status locked = LockProcess(true, false, LockMode::kOnFault);
    if (!locked.ok()) {
      return absl::IsResourceExhausted(locked) ||
                     absl::IsPermissionDenied(locked)
                 ? 0
                 : 1;
    }
    const auto residency = mapping_.Query(0, 4 * kPage);
    if (!residency.ok()) return 2;
    if (residency->resident_bytes != 0) return 3;
    // msync(2): EBUSY where the range is locked.
    return mapping_.Sync(0, kPage, SyncMode::kInvalidate).ok() ? 4 : 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0)) << status;
}

}  // namespace
}  // namespace doppel
