// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/page_size.h"

#include <linux/memfd.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(PageSizeTest, NamesEverySizeThatTheKernelCanName) {
  const unsigned kernel[] = {MFD_HUGE_64KB, MFD_HUGE_512KB, MFD_HUGE_1MB,
                             MFD_HUGE_2MB,  MFD_HUGE_8MB,   MFD_HUGE_16MB,
                             MFD_HUGE_32MB, MFD_HUGE_256MB, MFD_HUGE_512MB,
                             MFD_HUGE_1GB,  MFD_HUGE_2GB,   MFD_HUGE_16GB};
  for (size_t i = 0; i < kHugetlbSizes.size(); ++i) {
    const PageSize size = *PageSize::Huge(kHugetlbSizes[i]);
    EXPECT_EQ(size.MemfdFlags(), MFD_HUGETLB | kernel[i]);
    EXPECT_EQ(size.hugetlb_bytes(), kHugetlbSizes[i]);
  }
  EXPECT_EQ(PageSize::Base().MemfdFlags(), 0);
  EXPECT_EQ(PageSize::Transparent().MemfdFlags(), 0);
}

TEST(PageSizeTest, RefusesSizesThatNothingCanName) {
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{4096}, 3 * kMiB, 2 * kMiB + 1, UINT64_MAX}) {
    EXPECT_THAT(PageSize::Huge(bytes),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("64 KiB, 512 KiB, 1 MiB, 2 MiB")));
  }
}

TEST(PageSizeTest, SpeaksPlainly) {
  EXPECT_EQ(PageSize::Base().ToString(), "base");
  EXPECT_EQ(PageSize::Huge2MiB().ToString(), "hugetlb 2 MiB");
  EXPECT_EQ(PageSize::Huge1GiB().ToString(), "hugetlb 1 GiB");
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(4096), "4 KiB");
  EXPECT_EQ(FormatBytes(1025), "1025 B");
}

TEST(PageSizeTest, PoolsAddUp) {
  const auto pools = HugetlbPools();
  ASSERT_THAT(pools, IsOk());
  for (const HugetlbPool& pool : *pools) {
    EXPECT_LE(pool.free_pages, pool.total_pages);
    EXPECT_LE(pool.available_pages(), pool.free_pages);
    EXPECT_THAT(FindHugetlbPool(pool.page_bytes), IsOk());
  }
  EXPECT_EQ(
      (HugetlbPool{.free_pages = 2, .reserved_pages = 3}).available_pages(), 0);
  EXPECT_EQ(
      (HugetlbPool{.surplus_pages = 2, .overcommit_pages = 5}).addable_pages(),
      3);
  EXPECT_EQ(
      (HugetlbPool{.surplus_pages = 2, .overcommit_pages = 0}).addable_pages(),
      0);
}

TEST(PageSizeTest, AnExactSizeIsGrantedOrRefused) {
  EXPECT_THAT(
      GrantPageSize(*PageSize::Huge(uint64_t{16} << 30), 0),
      StatusIs(absl::StatusCode::kNotFound,
               HasSubstr("this machine has no hugetlb pages of 16 GiB")));
  if (!FindHugetlbPool(2 * kMiB).ok()) GTEST_SKIP() << "no 2 MiB pages";
  EXPECT_THAT(GrantPageSize(PageSize::Huge2MiB(), uint64_t{1} << 50),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("raise vm.nr_hugepages")));
  if (testing::FreeHugetlbPages(2 * kMiB) < 1) {
    EXPECT_FALSE(GrantPageSize(PageSize::Huge2MiB(), 0).ok());
    return;
  }
  const auto grant = GrantPageSize(PageSize::Huge2MiB(), 1);
  ASSERT_THAT(grant, IsOk());
  EXPECT_EQ(grant->page_bytes, 2 * kMiB);
  EXPECT_THAT(grant->reason, IsEmpty());
}

TEST(PageSizeTest, PagesThatTheKernelMayAddAreForThoseWhoInsist) {
  testing::TakeHugetlbPools();
  const auto pool = FindHugetlbPool(2 * kMiB);
  if (!pool.ok()) GTEST_SKIP() << pool.status();
  if (pool->addable_pages() == 0) {
    GTEST_SKIP() << "raise nr_overcommit_hugepages of the 2 MiB pool";
  }
  const uint64_t all_bytes =
      (pool->available_pages() + pool->addable_pages()) * 2 * kMiB;
  EXPECT_THAT(GrantPageSize(PageSize::Huge2MiB(), all_bytes), IsOk());
  EXPECT_THAT(GrantPageSize(PageSize::Huge2MiB(), all_bytes + 1),
              StatusIs(absl::StatusCode::kResourceExhausted));
  const auto best = GrantPageSize(PageSize::BestAvailable(), all_bytes);
  ASSERT_THAT(best, IsOk());
  EXPECT_FALSE(best->granted == PageSize::Huge2MiB());
}

TEST(PageSizeTest, BestAvailableFallsBackWithAReason) {
  const auto unknown = GrantPageSize(PageSize::BestAvailable(), 0);
  ASSERT_THAT(unknown, IsOk());
  EXPECT_FALSE(unknown->granted.is_hugetlb());
  EXPECT_THAT(unknown->reason, HasSubstr("was not said"));
  const auto too_much =
      GrantPageSize(PageSize::BestAvailable(), uint64_t{1} << 50);
  ASSERT_THAT(too_much, IsOk());
  EXPECT_FALSE(too_much->granted.is_hugetlb());
  EXPECT_THAT(too_much->reason, Not(IsEmpty()));
  EXPECT_THAT(too_much->ToString(), HasSubstr("asked for best available"));
  if (testing::FreeHugetlbPages(2 * kMiB) >= 2) {
    const auto fits = GrantPageSize(PageSize::BestAvailable(), 3 * kMiB);
    ASSERT_THAT(fits, IsOk());
    EXPECT_TRUE(fits->granted == PageSize::Huge2MiB());
    EXPECT_THAT(fits->reason, HasSubstr("hugetlb 1 GiB"));
  }
}

TEST(PageSizeTest, TheNextBestIsNeverTheSame) {
  const uint64_t expected_bytes = uint64_t{4} << 30;
  PageGrant grant = {PageSize::BestAvailable(), PageSize::Huge1GiB(),
                     uint64_t{1} << 30, ""};
  grant = GrantNextBest(grant, "it has a hole", expected_bytes);
  EXPECT_FALSE(grant.granted == PageSize::Huge1GiB());
  EXPECT_THAT(grant.reason, HasSubstr("hugetlb 1 GiB: it has a hole"));
  if (!grant.granted.is_hugetlb()) {
    grant = {PageSize::BestAvailable(), PageSize::Huge2MiB(), 2 * kMiB,
             grant.reason};
  }
  grant = GrantNextBest(grant, "so has this", expected_bytes);
  EXPECT_FALSE(grant.granted.is_hugetlb());
  EXPECT_EQ(grant.page_bytes, BasePageBytes());
  EXPECT_THAT(grant.reason, HasSubstr("hugetlb 1 GiB: it has a hole"));
  EXPECT_THAT(grant.reason, HasSubstr("hugetlb 2 MiB: so has this"));
}

TEST(PageSizeTest, BaseAndTransparentNeedNothing) {
  const auto base = GrantPageSize(PageSize::Base(), UINT64_MAX);
  ASSERT_THAT(base, IsOk());
  EXPECT_EQ(base->page_bytes, BasePageBytes());
  const auto transparent = GrantPageSize(PageSize::Transparent(), 0);
  ASSERT_THAT(transparent, IsOk());
  EXPECT_EQ(transparent->reason.empty(),
            transparent->granted == PageSize::Transparent());
  if (TransparentPageBytes() == 0) {
    EXPECT_EQ(transparent->granted, PageSize::Base());
  }
}

TEST(ResidencyTest, CountsPagesThatAreThere) {
  constexpr size_t kBytes = size_t{16} * 4096;
  void* map = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(map, MAP_FAILED);
  ASSERT_EQ(madvise(map, kBytes, MADV_NOHUGEPAGE), 0);
  std::memset(map, 1, size_t{3} * 4096);
  const auto residency = QueryResidency(map, kBytes);
  ASSERT_THAT(residency, IsOk());
  EXPECT_EQ(residency->mapped_bytes, kBytes);
  EXPECT_EQ(residency->huge_bytes, 0);
  EXPECT_EQ(residency->resident_bytes, 3 * 4096);
  EXPECT_EQ(QueryResidency(map, 0)->mapped_bytes, 0);
  EXPECT_FALSE(QueryResidency(map, SIZE_MAX).ok());
  munmap(map, kBytes);
  // Below vm.mmap_min_addr: what is unmapped anywhere else may be mapped again.
  const auto nothing = QueryResidency(reinterpret_cast<void*>(4096), 4096);
  EXPECT_EQ(nothing->resident_bytes, 0);
}

}  // namespace
}  // namespace doppel
