// SPDX-License-Identifier: Apache-2.0
//
// A hole in a hugetlb file has given its pages back to the machine's pool, where others
// take them. The bug of those who forget: the hole is handed out again, and its first
// touch is SIGBUS. The whole pool is taken here, so nothing else may need it meanwhile.

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/page_size.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FreeHugetlbPages;
using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = uint64_t{2} << 20;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

class HugetlbPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto pool = FindHugetlbPool(kPage);
    if (!pool.ok()) GTEST_SKIP() << pool.status();
    if (pool->overcommit_pages > 0) GTEST_SKIP() << "the pool may grow";
    free_pages_ = FreeHugetlbPages(kPage);
    if (free_pages_ < 4) GTEST_SKIP() << testing::kNoHugetlbPool;
    others_ = MakeArena();
  }

  static std::shared_ptr<Arena> MakeArena(uint64_t retain_bytes = 0) {
    return *Arena::Create(
        {.page_size = PageSize::Huge2MiB(), .retain_bytes = retain_bytes});
  }

  // Everything that is free now.
  Extent TakeThePool() {
    auto all = others_->Allocate(FreeHugetlbPages(kPage) * kPage);
    EXPECT_THAT(all, IsOk());
    EXPECT_EQ(FreeHugetlbPages(kPage), 0);
    return *std::move(all);
  }

  uint64_t free_pages_ = 0;
  std::shared_ptr<Arena> others_;
};

// Shows the extent and touches each of its pages.
void Use(const Extent& extent) {
  Mapping mapping = *Mapping::Reserve(extent.size_bytes(), kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  std::memset(mapping.data(), 1, extent.size_bytes());
}

TEST_F(HugetlbPoolTest, AHoleWhosePagesOthersTookIsAnErrorNotSigbus) {
  const auto arena = MakeArena();
  Extent stays = *arena->Allocate(kPage);
  Extent hole = *arena->Allocate(2 * kPage);
  Use(hole);
  const uint64_t offset_bytes = hole.offset_bytes();
  hole.Reset();
  ASSERT_EQ(FreeHugetlbPages(kPage), free_pages_ - 1)
      << "freed means given back";

  Extent taken = TakeThePool();
  for (const uint64_t bytes : {kPage, 2 * kPage}) {
    EXPECT_THAT(arena->Allocate(bytes),
                StatusIs(kExhausted, HasSubstr("vm.nr_hugepages")));
  }
  auto memory =
      *GrowingMapping::Create({.arena = arena, .reserve_bytes = 8 * kPage});
  EXPECT_THAT(memory.Grow(1), StatusIs(kExhausted));
  EXPECT_EQ(arena->Query()->allocated_bytes, kPage) << "what stays";
  Use(stays);

  taken.Reset();
  auto again = arena->Allocate(2 * kPage);
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->offset_bytes(), offset_bytes) << "it is the hole";
  Use(*again);
}

// A part of the hole gets its pages before the pool is empty: they go back too.
TEST_F(HugetlbPoolTest, AHoleThatGetsAPartOfItsPagesKeepsNone) {
  const auto arena = MakeArena();
  { Extent hole = *arena->Allocate(3 * kPage); }
  Extent taken = TakeThePool();
  Extent rest = *taken.SplitAt(taken.size_bytes() - kPage);
  rest.Reset();
  ASSERT_EQ(FreeHugetlbPages(kPage), 1);
  EXPECT_THAT(arena->Allocate(3 * kPage), StatusIs(kExhausted));
  EXPECT_EQ(FreeHugetlbPages(kPage), 1);
  const auto one = arena->Allocate(kPage);
  ASSERT_THAT(one, IsOk());
  Use(*one);
}

TEST_F(HugetlbPoolTest, WhatAnArenaRetainsNobodyTakes) {
  const auto arena = MakeArena(/*retain_bytes=*/2 * kPage);
  { Extent retained = *arena->Allocate(2 * kPage); }
  EXPECT_EQ(FreeHugetlbPages(kPage), free_pages_ - 2);
  const Extent taken = TakeThePool();
  const auto again = arena->Allocate(2 * kPage);
  ASSERT_THAT(again, IsOk());
  Use(*again);
}

}  // namespace
}  // namespace doppel
