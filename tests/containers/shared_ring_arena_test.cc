// SPDX-License-Identifier: Apache-2.0
//
// What becomes of an arena's pages when a ring in them ends that another process uses.
// A second SharedRing object stands for that process: its locks are another's.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/containers/shared_ring_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::AttachHere;
using ::doppel::testing::AttachInChild;
using ::doppel::testing::Child;
using ::doppel::testing::Forget;
using ::doppel::testing::Invite;
using ::doppel::testing::IsOk;
using ::doppel::testing::MakeSharedRing;
using ::doppel::testing::StatusIs;
using Ring = ::doppel::testing::SharedNumbers;

std::shared_ptr<Arena> MakeArena() {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  EXPECT_THAT(arena, IsOk());
  return *std::move(arena);
}

uint64_t HandedOutBytes(const Arena& arena) {
  const auto stats = arena.Query();
  EXPECT_THAT(stats, IsOk());
  return stats->handed_out_bytes;
}

// What the arena hands out next is not what the survivor writes to.
TEST(SharedRingArena, PagesStayToWhoHasASide) {
  const std::shared_ptr<Arena> arena = MakeArena();
  for (const bool has_side : {true, false}) {
    std::optional<Ring> ring = MakeSharedRing(1, {.arena = arena});
    Ring survivor = AttachHere(*ring);
    if (has_side) {
      ASSERT_THAT(survivor.writer(), IsOk());
    }
    const uint64_t offset = ring->offset_bytes();
    ring.reset();
    const auto next = arena->Allocate(BasePageBytes());
    ASSERT_THAT(next, IsOk());
    EXPECT_EQ(next->offset_bytes() <= offset, !has_side);
    if (!has_side) continue;
    auto writer = survivor.writer();
    ASSERT_THAT(writer, IsOk());
    EXPECT_TRUE(writer->try_push(7));
    EXPECT_EQ(survivor.reader()->try_pop(), 7);
  }
}

// A server that ends its rings before its clients let go of them does not grow.
TEST(SharedRingArena, PagesComeBackOnceNobodyHasASide) {
  const std::shared_ptr<Arena> arena = MakeArena();
  uint64_t largest = 0;
  for (int i = 0; i < 100; ++i) {
    std::optional<Ring> ring = MakeSharedRing(1, {.arena = arena});
    Ring survivor = AttachHere(*ring);
    auto writer = survivor.writer();
    ASSERT_THAT(writer, IsOk());
    ring.reset();
    EXPECT_TRUE(writer->try_push(7));
    EXPECT_EQ(survivor.reader()->try_pop(), 7);
    if (i == 1) largest = HandedOutBytes(*arena);
  }
  EXPECT_LE(HandedOutBytes(*arena), largest);
  // The next that is made or ends looks.
  { const Ring last = MakeSharedRing(1, {.arena = arena}); }
  EXPECT_EQ(HandedOutBytes(*arena), 0);
}

TEST(SharedRingArena, WhoseRingIsGivenBackTakesNoSide) {
  const std::shared_ptr<Arena> arena = MakeArena();
  std::optional<Ring> ring = MakeSharedRing(1, {.arena = arena});
  Ring late = AttachHere(*ring);
  {
    Ring survivor = AttachHere(*ring);
    ASSERT_THAT(survivor.writer(), IsOk());
    ring.reset();
    // It goes on: another may read.
    ASSERT_THAT(AttachHere(survivor).reader(), IsOk());
  }
  { const Ring last = MakeSharedRing(1, {.arena = arena}); }
  EXPECT_THAT(late.writer(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// The pages are another's then, and an invitation would write to them.
TEST(SharedRingArenaRegression, ToARingThatIsNoMoreNobodyIsInvited) {
  const std::shared_ptr<Arena> arena = MakeArena();
  std::optional<Ring> ring = MakeSharedRing(1, {.arena = arena});
  Ring late = AttachHere(*ring);
  const uint64_t offset = ring->offset_bytes();
  ring.reset();
  const auto pages = arena->Allocate(4 * BasePageBytes());
  ASSERT_THAT(pages, IsOk());
  ASSERT_LE(pages->offset_bytes(), offset);
  absl::StatusOr<Mapping> mapping = Mapping::Reserve(pages->size_bytes());
  ASSERT_THAT(mapping, IsOk());
  ASSERT_THAT(mapping->Show(*pages, 0), IsOk());
  EXPECT_THAT(late.Invite(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(late.InvitePair(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  const auto bytes = std::span(mapping->data(), mapping->size_bytes());
  EXPECT_TRUE(std::ranges::all_of(
      bytes, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(SharedRingArena, PagesComeBackFromAProcessThatIsKilled) {
  const std::shared_ptr<Arena> arena = MakeArena();
  std::optional<Ring> ring = MakeSharedRing(1, {.arena = arena});
  RingInvitation invitation = Invite(*ring);
  Child child([&] {
    Ring mine = AttachInChild(*ring, invitation);
    auto writer = mine.writer();
    if (!writer.ok() || !writer->try_push(1)) return 1;
    pause();
    return 2;
  });
  Forget(std::move(invitation));
  {
    auto reader = ring->reader();
    ASSERT_THAT(reader, IsOk());
    ASSERT_EQ(reader->wait(), RingWait::kReady);
  }
  ring.reset();
  EXPECT_GT(HandedOutBytes(*arena), 0);
  child.Kill();
  child.Wait();
  { const Ring last = MakeSharedRing(1, {.arena = arena}); }
  EXPECT_EQ(HandedOutBytes(*arena), 0);
}

}  // namespace
}  // namespace doppel
