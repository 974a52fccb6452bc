// SPDX-License-Identifier: Apache-2.0
//
// Mapping::Move and Alias: what goes along, and what stays when they fail.

#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <utility>

#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::internal::sys::FaultHook;
using ::doppel::internal::sys::SetFaultHook;
using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

volatile uint64_t& Word(const Mapping& mapping, uint64_t at) {
  return *reinterpret_cast<volatile uint64_t*>(mapping.data() + at);
}

class MappingMoveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(from_.Show(extent_, 0), IsOk());
    for (uint64_t page = 0; page < 4; ++page) {
      Word(from_, page * kPage) = page + 1;
    }
  }

  std::shared_ptr<Arena> arena_ =
      *Arena::Create({.page_size = PageSize::Base()});
  Extent extent_ = *arena_->Allocate(4 * kPage);
  Mapping from_ = *Mapping::Reserve(8 * kPage);
  Mapping to_ = *Mapping::Reserve(8 * kPage);
};

TEST_F(MappingMoveTest, KeepsProtection) {
  ASSERT_THAT(from_.Protect(0, 4 * kPage, Protection::kRead), IsOk());
  ASSERT_THAT(from_.Move(0, 4 * kPage, to_, kPage), IsOk());
  EXPECT_EQ(Word(to_, kPage), 1);
  EXPECT_FALSE(testing::Exited(testing::RunInChild([&] {
                                 (void)std::signal(SIGSEGV, SIG_DFL);
                                 Word(to_, kPage) = 7;
                                 return 0;
                               }),
                               0));
}

TEST_F(MappingMoveTest, PrivatePagesGoAlong) {
  ASSERT_THAT(from_.Show(extent_, 4 * kPage, {.sharing = Sharing::kPrivate}),
              IsOk());
  Word(from_, 4 * kPage) = 42;
  ASSERT_THAT(from_.Move(4 * kPage, 4 * kPage, to_, 0), IsOk());
  EXPECT_EQ(Word(to_, 0), 42);
  EXPECT_EQ(Word(to_, kPage), 2) << "a page that was not written yet";
  EXPECT_EQ(Word(from_, 0), 1);
}

TEST_F(MappingMoveTest, ReplacesWhatIsShownAtTheTarget) {
  const Extent old = *arena_->Allocate(4 * kPage);
  ASSERT_THAT(to_.Show(old, 0), IsOk());
  EXPECT_EQ(arena_->Query()->views, 2);
  ASSERT_THAT(from_.Move(0, 4 * kPage, to_, 0), IsOk());
  EXPECT_EQ(Word(to_, 3 * kPage), 4);
  EXPECT_EQ(arena_->Query()->views, 1);
  EXPECT_EQ(arena_->Query()->resident_bytes, 4 * kPage);
}

TEST_F(MappingMoveTest, ManyMovesLoseNothing) {
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_THAT(from_.Move((i % 2) * 4 * kPage, 4 * kPage, from_,
                           ((i + 1) % 2) * 4 * kPage),
                IsOk());
  }
  for (uint64_t page = 0; page < 4; ++page) {
    EXPECT_EQ(Word(from_, page * kPage), page + 1);
  }
  EXPECT_TRUE(Faults(from_.data() + 4 * kPage));
  EXPECT_EQ(arena_->Query()->views, 1);
}

// Fails every call of some kinds.
class FailKinds final : public FaultHook {
 public:
  FailKinds(std::initializer_list<Call> kinds)
      : kinds_(kinds), before_(SetFaultHook(this)) {}
  ~FailKinds() override { SetFaultHook(before_); }
  FailKinds(const FailKinds&) = delete;
  FailKinds& operator=(const FailKinds&) = delete;
  int ErrnoFor(Call call) override {
    return kinds_.count(call) != 0 ? ENOMEM : 0;
  }

 private:
  const std::set<Call> kinds_;
  FaultHook* const before_;
};

TEST_F(MappingMoveTest, ASourceThatCannotBeHiddenGetsItsPagesBack) {
  ASSERT_THAT(from_.Show(extent_, 0, {.sharing = Sharing::kPrivate}), IsOk());
  Word(from_, 0) = 42;
  {
    // mremap(2) works, but neither way to hide what it leaves behind.
    const FailKinds faults({Call::kMmap, Call::kMprotect});
    EXPECT_THAT(from_.Move(0, 4 * kPage, to_, 0),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_EQ(Word(from_, 0), 42);
  EXPECT_THAT(from_.Move(0, 4 * kPage, to_, 0), IsOk());
  EXPECT_EQ(Word(to_, 0), 42);
  EXPECT_TRUE(Faults(from_.data()));
}

TEST_F(MappingMoveTest, WhatCannotBeReplacedIsMadeInaccessible) {
  {
    const FailKinds faults({Call::kMmap});
    EXPECT_THAT(from_.Hide(0, 4 * kPage), IsOk());
  }
  EXPECT_TRUE(Faults(from_.data()));
  EXPECT_EQ(arena_->Query()->views, 0);
  EXPECT_THAT(from_.Protect(0, kPage, Protection::kRead),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(from_.Show(extent_, 0), IsOk());
  EXPECT_EQ(Word(from_, 0), 1);
}

TEST_F(MappingMoveTest, AliasOfAnAliasIsTheSamePages) {
  ASSERT_THAT(from_.Alias(kPage, kPage, 4 * kPage), IsOk());
  ASSERT_THAT(from_.Alias(4 * kPage, kPage, 5 * kPage), IsOk());
  Word(from_, 5 * kPage) = 99;
  EXPECT_EQ(Word(from_, kPage), 99);
  ASSERT_THAT(from_.Hide(kPage, kPage), IsOk());
  EXPECT_EQ(Word(from_, 4 * kPage), 99);
}

TEST_F(MappingMoveTest, HugetlbIsNeverGivenToMremap) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 1) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const auto arena = *Arena::Create({.page_size = PageSize::Huge2MiB()});
  const Extent extent = *arena->Allocate(2 * kMiB);
  Mapping mapping = *Mapping::Reserve(4 * kMiB, 2 * kMiB);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  Word(mapping, 0) = 5;
  constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(mapping.Move(0, 2 * kMiB, mapping, 2 * kMiB), StatusIs(kRefused));
  EXPECT_THAT(mapping.Alias(0, 2 * kMiB, 2 * kMiB), StatusIs(kRefused));
  // What the message advises.
  ASSERT_THAT(mapping.Show(extent, 2 * kMiB), IsOk());
  ASSERT_THAT(mapping.Hide(0, 2 * kMiB), IsOk());
  EXPECT_EQ(Word(mapping, 2 * kMiB), 5);
}

}  // namespace
}  // namespace doppel
