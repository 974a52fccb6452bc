// SPDX-License-Identifier: Apache-2.0
//
// Every query about page sizes, with each system call that it makes failing in turn:
// an error comes back, or an answer that is right without that call. Nothing here
// rests on how many pages a pool has: others may use it meanwhile.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/page_size.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCall;
using ::doppel::testing::IsOk;
using ::testing::HasSubstr;

constexpr uint64_t kTooMuchBytes = uint64_t{1} << 50;

constexpr auto kFailed = [](const auto& outcome) { return !outcome.ok(); };

// The state of operations that need none.
struct Nothing {};
constexpr auto kNothing = [] {
  // Read once in a process's life: first_use_campaign_test.cc fails those calls.
  (void)TransparentPageBytes();
  return Nothing{};
};

std::vector<uint64_t> Sizes(const std::vector<HugetlbPool>& pools) {
  std::vector<uint64_t> sizes;
  sizes.reserve(pools.size());
  for (const HugetlbPool& pool : pools) sizes.push_back(pool.page_bytes);
  return sizes;
}

TEST(PageSizeCampaignTest, HugetlbPools) {
  const std::vector<uint64_t> all = Sizes(*HugetlbPools());
  const int faults = FailEachCall(
      kNothing, [](Nothing&) { return HugetlbPools(); }, kFailed,
      [&](const Nothing&,
          const absl::StatusOr<std::vector<HugetlbPool>>& pools) {
        // A pool whose files are not there (ENOENT) is one the machine lacks.
        if (!pools.ok()) return;
        const std::vector<uint64_t> found = Sizes(*pools);
        EXPECT_TRUE(
            std::includes(all.begin(), all.end(), found.begin(), found.end()));
      });
  EXPECT_GT(faults, 0);
}

TEST(PageSizeCampaignTest, AnExactSize) {
  if (!FindHugetlbPool(2 << 20).ok()) GTEST_SKIP() << "no 2 MiB pages here";
  EXPECT_GT(
      FailEachCall(
          kNothing, [](Nothing&) { return FindHugetlbPool(2 << 20); }, kFailed,
          [](const Nothing&, const absl::StatusOr<HugetlbPool>& pool) {
            EXPECT_FALSE(pool.ok());
          }),
      0);
  EXPECT_GT(FailEachCall(
                kNothing,
                [](Nothing&) { return GrantPageSize(PageSize::Huge2MiB(), 1); },
                kFailed,
                [](const Nothing&, const absl::StatusOr<PageGrant>& grant) {
                  EXPECT_FALSE(grant.ok()) << "an exact size never falls back";
                }),
            0);
}

TEST(PageSizeCampaignTest, ASizeThatTheMachineLacks) {
  const uint64_t lacking = uint64_t{16} << 30;
  if (FindHugetlbPool(lacking).ok()) GTEST_SKIP() << "16 GiB pages are here";
  const int faults = FailEachCall(
      kNothing, [&](Nothing&) { return FindHugetlbPool(lacking); }, kFailed,
      [](const Nothing&, const absl::StatusOr<HugetlbPool>& pool) {
        EXPECT_FALSE(pool.ok());
      });
  EXPECT_GT(faults, 0);
}

TEST(PageSizeCampaignTest, BestAvailableFallsBackAndSaysWhy) {
  const int faults = FailEachCall(
      kNothing,
      [](Nothing&) {
        return GrantPageSize(PageSize::BestAvailable(), kTooMuchBytes);
      },
      kFailed,
      [](const Nothing&, const absl::StatusOr<PageGrant>& grant) {
        ASSERT_THAT(grant, IsOk());
        EXPECT_FALSE(grant->granted.is_hugetlb());
        EXPECT_THAT(grant->reason, HasSubstr("hugetlb 1 GiB: "));
        EXPECT_THAT(grant->reason, HasSubstr("hugetlb 2 MiB: "));
      });
  EXPECT_GT(faults, 0);
}

TEST(PageSizeCampaignTest, BaseAndTransparentNeedNoCall) {
  (void)kNothing();
  const testing::CallCounter counter;
  EXPECT_THAT(GrantPageSize(PageSize::Base(), kTooMuchBytes), IsOk());
  EXPECT_THAT(GrantPageSize(PageSize::Transparent(), kTooMuchBytes), IsOk());
  EXPECT_EQ(counter.total(), 0);
}

// Not FailEachCall: how often smaps is read depends on the process's mappings.
TEST(PageSizeCampaignTest, QueryResidency) {
  const uint64_t here[512] = {1};
  std::vector<testing::Fault> faults;
  {
    const testing::CallCounter counter;
    ASSERT_THAT(QueryResidency(here, sizeof(here)), IsOk());
    // The first and the last of each kind: smaps alone is read a hundred times.
    faults = testing::FaultsFor(counter, /*calls_each=*/2);
  }
  ASSERT_FALSE(faults.empty());
  int errors = 0;
  for (const testing::Fault& fault : faults) {
    SCOPED_TRACE(fault.ToString());
    const testing::LeakCheck before;
    absl::StatusOr<Residency> residency;
    {
      const testing::FaultPlan plan(fault);
      residency = QueryResidency(here, sizeof(here));
      EXPECT_TRUE(plan.fired());
      if (fault.interrupts()) {
        EXPECT_TRUE(plan.repeated());
        EXPECT_THAT(residency, IsOk());
      }
    }
    EXPECT_TRUE(before.Unchanged());
    // Without PAGEMAP_SCAN the figures are those of smaps; without smaps, none.
    if (residency.ok()) {
      EXPECT_GE(residency->mapped_bytes, sizeof(here));
      EXPECT_GE(residency->resident_bytes, sizeof(here));
    } else {
      ++errors;
    }
  }
  EXPECT_GT(errors, 0);
}

}  // namespace
}  // namespace doppel
