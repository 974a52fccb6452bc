// SPDX-License-Identifier: Apache-2.0
//
// What a shared ring is made of and what it refuses; how processes live and die by it is
// shared_ring_peers_test.cc.

#include "doppel/containers/shared_ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/containers/shared_ring_support.h"
#include "doppel/tests/support/checked_build.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::AttachHere;
using ::doppel::testing::Exited;
using ::doppel::testing::Invite;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::MakeSharedRing;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Ring = ::doppel::testing::SharedNumbers;

TEST(SharedRing, CapacityRoundsUpToPages) {
  const Ring ring = MakeSharedRing(1);
  EXPECT_EQ(ring.capacity(), BasePageBytes() / 8);
  EXPECT_EQ(ring.memory_bytes(), BasePageBytes());
  EXPECT_TRUE(ring.empty());
}

TEST(SharedRing, RefusesWhatNoRingCanBe) {
  EXPECT_THAT(Ring::Create(0), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Ring::Create(SIZE_MAX / 4),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Ring::Create(SIZE_MAX / 64),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

// A peer that truncates is a SIGBUS (Hyprland #7518, libqb #465).
TEST(SharedRing, ItsFileCannotChangeItsSize) {
  Ring ring = MakeSharedRing();
  const Seal wanted = Seal::kShrink | Seal::kGrow | Seal::kSeal;
  const absl::StatusOr<Seal> seals = ring.memfd().Seals();
  ASSERT_THAT(seals, IsOk());
  EXPECT_EQ(*seals & wanted, wanted);
}

TEST(SharedRing, TwoViewsAreOneRing) {
  Ring ring = MakeSharedRing();
  Ring other = AttachHere(ring);
  EXPECT_EQ(other.capacity(), ring.capacity());
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  auto reader = other.reader();
  ASSERT_THAT(reader, IsOk());
  uint64_t expected = 0;
  for (uint64_t i = 0; i < 5 * ring.capacity(); ++i) {
    while (!writer->try_push(i)) {
      const std::span<const uint64_t> items = reader->peek();
      for (const uint64_t item : items) ASSERT_EQ(item, expected++);
      reader->consume(items.size());
    }
  }
  EXPECT_EQ(ring.statistics().pushed, 5 * ring.capacity());
  EXPECT_EQ(other.size(), ring.size());
}

TEST(SharedRing, GivesEverythingBack) {
  MakeSharedRing();  // What is made once a process.
  const LeakCheck before;
  {
    Ring ring = MakeSharedRing(100'000);
    Ring other = AttachHere(ring);
    RingInvitation invitation = Invite(ring);
    ASSERT_TRUE(ring.writer()->try_push(1));
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(SharedRing, ASideHasOneHolder) {
  Ring ring = MakeSharedRing();
  Ring other = AttachHere(ring);
  {
    auto writer = ring.writer();
    ASSERT_THAT(writer, IsOk());
    EXPECT_THAT(other.writer(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("another process writes the ring")));
    EXPECT_THAT(other.reader(), IsOk());
  }
  EXPECT_FALSE(other.writer().ok()) << "held until the ring is destroyed";
  { const Ring gone = std::move(ring); }
  EXPECT_THAT(other.writer(), IsOk());
}

TEST(SharedRing, AForkedChildGetsNoHandleAndInvitesNobody) {
  Ring ring = MakeSharedRing();
  EXPECT_TRUE(
      Exited(testing::RunInChild([&] {
               const auto refused = absl::StatusCode::kFailedPrecondition;
               return ring.writer().status().code() == refused &&
                              ring.Invite().status().code() == refused &&
                              ring.InvitePair().status().code() == refused
                          ? 0
                          : 1;
             }),
             0));
}

// A process that was stopped while it took a side is not waited for.
TEST(SharedRing, AnotherProcessesTurnIsNotWaitedForForLong) {
  Ring ring = MakeSharedRing();
  const absl::StatusOr<int> another = internal::sys::Reopen(ring.memfd().fd());
  ASSERT_THAT(another, IsOk());
  ASSERT_EQ(*internal::sys::TryLockByte(*another, ring.offset_bytes() + 3),
            true);
  EXPECT_THAT(ring.writer(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("try again")));
  close(*another);
  EXPECT_THAT(ring.writer(), IsOk());
}

TEST(SharedRing, ManyRingsInOneFile) {
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  std::vector<Ring> rings;
  for (int i = 0; i < 20; ++i) {
    rings.push_back(
        MakeSharedRing(1 + static_cast<size_t>(i) * 1000, {.arena = *arena}));
  }
  for (Ring& ring : rings) {
    Ring other = AttachHere(ring);
    auto writer = ring.writer();
    ASSERT_THAT(writer, IsOk());
    while (writer->try_push(ring.offset_bytes())) {
    }
    EXPECT_EQ(other.size(), ring.capacity());
  }
  for (Ring& ring : rings) {
    ASSERT_THAT(ring.reader(), IsOk());
    EXPECT_EQ(ring.reader()->try_pop(), ring.offset_bytes());
  }
}

// Its pages may be another ring's: who was invited took a side of that one.
TEST(SharedRingRegression, AnEndedRingOfAnArenaIsNoMore) {
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  const auto is_no_more = StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr("the ring is no more"));
  absl::StatusOr<Ring> ring = Ring::Create(1, {.arena = *arena});
  RingInvitation never_used = Invite(*ring);
  const uint64_t offset_bytes = ring->offset_bytes();
  ring = Ring::Create(1, {.arena = *arena});
  ring = absl::CancelledError();
  ring = Ring::Create(1, {.arena = *arena});
  ASSERT_EQ(ring->offset_bytes(), offset_bytes) << "the same pages";
  EXPECT_THAT(Ring::Attach(std::move(never_used)), is_no_more);
  absl::StatusOr<Ring> attached = Ring::Attach(Invite(*ring));
  ASSERT_THAT(attached, IsOk());
  ring = absl::CancelledError();
  EXPECT_THAT(attached->writer(), is_no_more);
  ring = Ring::Create(1, {.arena = *arena});
  ASSERT_EQ(ring->offset_bytes(), offset_bytes);
  EXPECT_THAT(attached->writer(), is_no_more);
  EXPECT_THAT(ring->reader(), IsOk());
}

TEST(SharedRing, OnHugePages) {
  constexpr uint64_t kHugeBytes = uint64_t{2} << 20;
  if (testing::FreeHugetlbPages(kHugeBytes) < 4) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const absl::StatusOr<std::shared_ptr<Arena>> arena =
      Arena::Create({.page_size = PageSize::Huge2MiB()});
  ASSERT_THAT(arena, IsOk());
  Ring ring = MakeSharedRing(1, {.arena = *arena});
  EXPECT_EQ(ring.memory_bytes(), kHugeBytes);
  Ring other = AttachHere(ring);
  ASSERT_TRUE(ring.writer()->try_push(3));
  EXPECT_EQ(other.reader()->try_pop(), 3);
}

// --- What is no ring. ---

absl::Status AttachTo(int fd, uint64_t offset_bytes = 0) {
  absl::StatusOr<RingInvitation> invitation =
      RingInvitation::WithoutLink(fd, offset_bytes);
  if (!invitation.ok()) return invitation.status();
  return Ring::Attach(*std::move(invitation)).status();
}

TEST(SharedRingRegression, FilesThatAreNoRingAreRefused) {
  MakeSharedRing();
  const LeakCheck before;
  {
    absl::StatusOr<Memfd> memfd = Memfd::Create({});
    ASSERT_THAT(memfd, IsOk());
    EXPECT_THAT(AttachTo(memfd->fd()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    ASSERT_THAT(memfd->Resize(1 << 20), IsOk());
    EXPECT_THAT(AttachTo(memfd->fd()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("it begins with no ring")));
    EXPECT_THAT(AttachTo(memfd->fd(), 1 << 20),
                StatusIs(absl::StatusCode::kInvalidArgument));
    std::array<int, 2> ends = {-1, -1};
    ASSERT_EQ(pipe(ends.data()), 0);
    EXPECT_THAT(AttachTo(ends[0]),
                StatusIs(absl::StatusCode::kInvalidArgument));
    close(ends[0]);
    close(ends[1]);
    EXPECT_FALSE(AttachTo(-1).ok());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(SharedRingRegression, EveryNumberOfTheHeaderIsChecked) {
  Ring ring = MakeSharedRing();
  absl::StatusOr<Memfd> copy = Memfd::Create({});
  ASSERT_THAT(copy, IsOk());
  ASSERT_THAT(copy->Resize(2 * BasePageBytes()), IsOk());
  RingIdentity right;
  ASSERT_THAT(
      ring.memfd().ReadAt(0, std::as_writable_bytes(std::span(&right, 1))),
      IsOk());
  const auto attach = [&](const RingIdentity& identity) {
    EXPECT_THAT(copy->WriteAt(0, std::as_bytes(std::span(&identity, 1))),
                IsOk());
    return AttachTo(copy->fd());
  };
  ASSERT_THAT(attach(right), IsOk());
  for (const uint64_t wrong :
       {uint64_t{0}, uint64_t{1}, right.capacity_bytes + 1,
        2 * right.capacity_bytes, uint64_t{1} << 63, UINT64_MAX,
        UINT64_MAX - BasePageBytes() + 1}) {
    for (auto field :
         {&RingIdentity::magic, &RingIdentity::items_offset_bytes,
          &RingIdentity::capacity_bytes, &RingIdentity::item_bytes}) {
      RingIdentity identity = right;
      identity.*field = wrong;
      EXPECT_THAT(attach(identity),
                  StatusIs(absl::StatusCode::kInvalidArgument))
          << wrong;
    }
    for (auto field : {&RingIdentity::version, &RingIdentity::page_bytes,
                       &RingIdentity::sides}) {
      RingIdentity identity = right;
      identity.*field = static_cast<uint32_t>(wrong);
      if (identity.*field == right.*field) continue;
      EXPECT_THAT(attach(identity),
                  StatusIs(absl::StatusCode::kInvalidArgument))
          << wrong;
    }
  }
  EXPECT_THAT(SharedRing<uint32_t>::Attach(
                  *RingInvitation::WithoutLink(ring.memfd().fd())),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("its items have 8 bytes")));
}

// A peer that stores nonsense poisons the handle; it crashes nothing.
TEST(SharedRingRegression, APeerThatLiesPoisonsTheHandle) {
  Ring ring = MakeSharedRing();
  Ring other = AttachHere(ring);
  auto reader = ring.reader();
  auto writer = other.writer();
  ASSERT_THAT(reader, IsOk());
  ASSERT_THAT(writer, IsOk());
  ASSERT_TRUE(writer->try_push(1));
  ASSERT_EQ(reader->peek().size(), 1);
  // The writer's position, by way of the file.
  void* page = mmap(nullptr, BasePageBytes(), PROT_READ | PROT_WRITE,
                    MAP_SHARED, ring.memfd().fd(), 0);
  ASSERT_NE(page, MAP_FAILED);
  static_cast<RingHeader<>*>(page)->writer.position = UINT64_MAX;
  EXPECT_TRUE(reader->status().ok());
  EXPECT_TRUE(reader->peek(2).empty());
  EXPECT_THAT(reader->status(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(reader->wait(2), RingWait::kDataLoss);
  EXPECT_EQ(reader->try_pop(), 1) << "what was known before is true";
  EXPECT_EQ(reader->try_pop(), std::nullopt);
  munmap(page, BasePageBytes());
}

// A side that passes from an attachment to one that was made before it kept the high
// water of the older one's time.
TEST(SharedRingRegression, HighWaterNeverFalls) {
  Ring ring = MakeSharedRing();
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  {
    Ring other = AttachHere(ring);
    auto reader = other.reader();
    ASSERT_THAT(reader, IsOk());
    for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(writer->try_push(i));
    ASSERT_EQ(reader->peek(10).size(), 10);
    reader->consume(10);
  }
  ASSERT_EQ(ring.statistics().high_water, 10);
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  ASSERT_TRUE(writer->try_push(10));
  EXPECT_EQ(reader->try_pop(), 10);
  EXPECT_EQ(ring.statistics().high_water, 10);
}

TEST(SharedRing, MisuseIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  // In the child, so that the ring is its own.
  EXPECT_DEATH(
      {
        Ring own = MakeSharedRing();
        auto writer = own.writer();
        (void)own.writer();
      },
      "one handle");
  EXPECT_DEATH(
      {
        std::optional<Ring> own(MakeSharedRing());
        auto own_writer = own->writer();
        own.reset();
      },
      "handles end before their ring");
  EXPECT_DEATH(
      {
        Ring own = MakeSharedRing();
        auto own_reader = own.reader();
        own = MakeSharedRing();
      },
      "handles end before their ring");
}

}  // namespace
}  // namespace doppel
