// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/shared_ring.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Ring = SharedRing<uint64_t>;

Ring MakeRing(size_t min_capacity = 1, const RingOptions& options = {}) {
  absl::StatusOr<Ring> ring = Ring::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

RingInvitation Invite(Ring& ring) {
  absl::StatusOr<RingInvitation> invitation = ring.Invite();
  EXPECT_THAT(invitation, IsOk());
  return *std::move(invitation);
}

// A second view of the ring, as another process would have it.
Ring AttachHere(const Ring& ring) {
  absl::StatusOr<RingInvitation> invitation =
      RingInvitation::WithoutLink(ring.memfd().fd(), ring.offset_bytes());
  EXPECT_THAT(invitation, IsOk());
  absl::StatusOr<Ring> attached = Ring::Attach(*std::move(invitation));
  EXPECT_THAT(attached, IsOk());
  return *std::move(attached);
}

// In a child: the ring of the invitation, with the parent's own given up.
Ring AttachInChild(Ring& parents, RingInvitation& invitation) {
  absl::StatusOr<Ring> ring = Ring::Attach(std::move(invitation));
  if (!ring.ok()) _exit(100);
  parents = *std::move(ring);
  return std::move(parents);
}

// Gives the child's end of the link up: the child alone has it.
void Forget(RingInvitation invitation) { (void)invitation; }

TEST(SharedRing, CapacityRoundsUpToPages) {
  const Ring ring = MakeRing(1);
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
  Ring ring = MakeRing();
  const Seal wanted = Seal::kShrink | Seal::kGrow | Seal::kSeal;
  const absl::StatusOr<Seal> seals = ring.memfd().Seals();
  ASSERT_THAT(seals, IsOk());
  EXPECT_EQ(*seals & wanted, wanted);
}

TEST(SharedRing, TwoViewsAreOneRing) {
  Ring ring = MakeRing();
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
  MakeRing();  // What is made once a process.
  const LeakCheck before;
  {
    Ring ring = MakeRing(100'000);
    Ring other = AttachHere(ring);
    RingInvitation invitation = Invite(ring);
    ASSERT_TRUE(ring.writer()->try_push(1));
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(SharedRing, ASideHasOneHolder) {
  Ring ring = MakeRing();
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

TEST(SharedRing, AForkedChildGetsNoHandle) {
  Ring ring = MakeRing();
  EXPECT_TRUE(Exited(testing::RunInChild([&] {
                       return ring.writer().status().code() ==
                                      absl::StatusCode::kFailedPrecondition
                                  ? 0
                                  : 1;
                     }),
                     0));
}

// Items go to a child and back; each side sleeps for the other.
TEST(SharedRing, ProcessesWakeEachOther) {
  constexpr uint64_t kRounds = 3000;
  Ring there = MakeRing();
  Ring back = MakeRing();
  RingInvitation to_there = Invite(there);
  RingInvitation to_back = Invite(back);
  Child child([&] {
    Ring in = AttachInChild(there, to_there);
    Ring out = AttachInChild(back, to_back);
    auto reader = in.reader();
    auto writer = out.writer();
    if (!reader.ok() || !writer.ok()) return 1;
    for (uint64_t i = 0; i < kRounds; ++i) {
      if (reader->wait(1, kSleepAtOnce) != RingWait::kReady) return 2;
      if (!writer->try_push(*reader->try_pop() + 1)) return 3;
    }
    writer->close();
    return reader->wait(1, kSleepAtOnce) == RingWait::kClosed ? 0 : 4;
  });
  Forget(std::move(to_there));
  Forget(std::move(to_back));
  auto writer = there.writer();
  auto reader = back.reader();
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT(reader, IsOk());
  for (uint64_t i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(writer->try_push(i));
    ASSERT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kReady);
    ASSERT_EQ(reader->try_pop(), i + 1);
  }
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kClosed);
  writer->close();
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

// Without a link there is futex(2), across processes too.
TEST(SharedRing, ProcessesWakeEachOtherWithoutALink) {
  constexpr uint64_t kItems = 20'000;
  Ring ring = MakeRing();
  Child child([&] {
    Ring in = AttachHere(ring);
    auto reader = in.reader();
    if (!reader.ok()) return 1;
    for (uint64_t i = 0; i < kItems; ++i) {
      if (reader->wait(1, kSleepAtOnce) != RingWait::kReady) return 2;
      if (reader->try_pop() != i) return 3;
    }
    return reader->event().ok() ? 4 : 0;
  });
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  for (uint64_t i = 0; i < kItems; ++i) {
    if (writer->try_push(i)) continue;
    ASSERT_EQ(writer->wait(1, kSleepAtOnce), RingWait::kReady);
    --i;
  }
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

// Puts 0, 1, 2 ... until it is killed.
int PushUntilKilled(Ring& ring) {
  auto writer = ring.writer();
  if (!writer.ok()) return 1;
  for (uint64_t i = writer->status().ok() ? ring.statistics().pushed : 0;;) {
    if (writer->try_push(i)) {
      ++i;
    } else if (writer->wait() != RingWait::kReady) {
      return 2;
    }
  }
}

TEST(SharedRing, TheSurvivorDrainsAndANewPeerGoesOn) {
  Ring ring = MakeRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  uint64_t expected = 0;
  for (int generation = 0; generation < 20; ++generation) {
    RingInvitation invitation = Invite(ring);
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      return PushUntilKilled(mine);
    });
    Forget(std::move(invitation));
    const uint64_t enough = expected + 1000 * static_cast<uint64_t>(generation);
    for (;;) {
      const RingWait waited = reader->wait(1, kSleepAtOnce);
      if (waited == RingWait::kPeerGone) break;
      ASSERT_EQ(waited, RingWait::kReady);
      for (const uint64_t item : reader->peek()) ASSERT_EQ(item, expected++);
      reader->consume(reader->peek().size());
      if (expected < enough) continue;
      EXPECT_TRUE(DiedOf(child.Kill(), SIGKILL));
    }
    EXPECT_TRUE(ring.peer_gone());
    EXPECT_TRUE(reader->peer_gone());
    EXPECT_EQ(ring.statistics().pushed, expected) << "nothing is lost";
  }
}

// The link hung up before the lock was gone, as long before as it took to unmap all.
TEST(SharedRingRegression, WhoseEndIsNoticedHasNoSideAnyMore) {
  for (int round = 0; round < 5; ++round) {
    Ring ring = MakeRing(1 << 20);
    RingInvitation invitation = Invite(ring);
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      return mine.writer().ok() ? 0 : 1;
    });
    Forget(std::move(invitation));
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
    EXPECT_THAT(ring.writer(), IsOk());
    EXPECT_TRUE(Exited(child.Wait(), 0));
  }
}

TEST(SharedRing, AKilledReadersSuccessorReadsTheRest) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  for (uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(writer->try_push(i));
  Child first([&] {
    Ring mine = AttachHere(ring);
    auto reader = mine.reader();
    if (!reader.ok() || reader->peek(100).size() != 100) return 1;
    reader->consume(10);
    reader->finish(5);  // And is killed before it releases.
    kill(getpid(), SIGKILL);
    return 2;
  });
  EXPECT_TRUE(DiedOf(first.Wait(), SIGKILL));
  Ring second = AttachHere(ring);
  auto reader = second.reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(reader->try_pop(), 15);
  EXPECT_EQ(writer->free(), ring.capacity() - 84);
}

TEST(SharedRing, AWaitNoticesTheEndHoweverItWaits) {
  for (const absl::Duration spin : {absl::ZeroDuration(), absl::Milliseconds(5),
                                    absl::InfiniteDuration()}) {
    Ring ring = MakeRing();
    RingInvitation invitation = Invite(ring);
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      if (!mine.writer()->try_push(1)) return 1;
      absl::SleepFor(absl::Milliseconds(20));
      return 0;
    });
    Forget(std::move(invitation));
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    EXPECT_EQ(reader->wait(2, {.spin = spin}), RingWait::kPeerGone);
    EXPECT_EQ(reader->wait(1), RingWait::kReady) << "the rest is drained";
    EXPECT_EQ(reader->try_pop(), 1);
    child.Wait();
  }
}

TEST(SharedRing, TheLinkIsAnEventForPoll) {
  Ring ring = MakeRing();
  RingInvitation invitation = Invite(ring);
  constexpr uint64_t kItems = 2000;
  Child child([&] {
    Ring mine = AttachInChild(ring, invitation);
    auto writer = mine.writer();
    if (!writer.ok()) return 1;
    for (uint64_t i = 0; i < kItems; ++i) {
      while (!writer->try_push(i)) writer->wait();
      if (i % 50 == 0) absl::SleepFor(absl::Microseconds(100));
    }
    return 0;
  });
  Forget(std::move(invitation));
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  const absl::StatusOr<int> event = reader->event();
  ASSERT_THAT(event, IsOk());
  uint64_t expected = 0;
  RingWait armed = RingWait::kReady;
  while (armed != RingWait::kPeerGone) {
    while (std::optional<uint64_t> item = reader->try_pop()) {
      ASSERT_EQ(*item, expected++);
    }
    armed = reader->arm();
    if (armed != RingWait::kArmed) continue;
    pollfd polled = {.fd = *event, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&polled, 1, 60'000), 1);
  }
  EXPECT_EQ(expected, kItems);
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

// A peer whose system calls are filtered takes no part in fences. What it stored while
// this side armed was seen by neither, and no event came.
TEST(SharedRingRegression, APeerWithoutFencesTellsAllTheSame) {
  constexpr uint64_t kRounds = 1000;
  Ring there = MakeRing();
  Ring back = MakeRing();
  RingInvitation to_there = Invite(there);
  RingInvitation to_back = Invite(back);
  Child child([&] {
    const FaultPlan plan(
        {.call = Call::kMembarrier, .error = EPERM, .sticky = true});
    Ring in = AttachInChild(there, to_there);
    Ring out = AttachInChild(back, to_back);
    auto reader = in.reader();
    auto writer = out.writer();
    if (!reader.ok() || !writer.ok() || !plan.fired()) return 1;
    for (uint64_t i = 0; i < kRounds; ++i) {
      std::optional<uint64_t> item;
      while (!item) item = reader->try_pop();
      // So that the answer meets the other side at each step of its arming.
      for (uint64_t n = i * 37 % 20'000; n > 0; --n) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
      }
      if (!writer->try_push(*item)) return 2;
    }
    return 0;
  });
  Forget(std::move(to_there));
  Forget(std::move(to_back));
  auto writer = there.writer();
  auto reader = back.reader();
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT(reader, IsOk());
  const absl::StatusOr<int> event = reader->event();
  ASSERT_THAT(event, IsOk());
  for (uint64_t i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(writer->try_push(i));
    std::optional<uint64_t> item;
    while (!(item = reader->try_pop())) {
      if (reader->arm() != RingWait::kArmed) continue;
      pollfd polled = {.fd = *event, .events = POLLIN, .revents = 0};
      ASSERT_EQ(poll(&polled, 1, 10'000), 1) << "round " << i;
    }
    ASSERT_EQ(item, i);
  }
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

// The link leads to another process: whoever holds both sides is told all the same.
TEST(SharedRing, WhoHoldsBothSidesHasEventsToo) {
  Ring ring = MakeRing();
  for (const bool linked : {false, true}) {
    std::optional<RingInvitation> invitation;
    if (linked) invitation.emplace(Invite(ring));
    auto reader = ring.reader();
    auto writer = ring.writer();
    ASSERT_THAT(reader, IsOk());
    ASSERT_THAT(writer, IsOk());
    const absl::StatusOr<int> event = reader->event();
    ASSERT_THAT(event, IsOk());
    pollfd polled = {.fd = *event, .events = POLLIN, .revents = 0};
    ASSERT_EQ(reader->arm(), RingWait::kArmed);
    EXPECT_EQ(poll(&polled, 1, 0), 0);
    ASSERT_TRUE(writer->try_push(1));
    EXPECT_EQ(poll(&polled, 1, 0), 1) << linked;
    EXPECT_EQ(reader->try_pop(), 1);
    ASSERT_EQ(reader->arm(), RingWait::kArmed);
    EXPECT_EQ(poll(&polled, 1, 0), 0) << "what was told is told once";
    writer->close();
    EXPECT_EQ(poll(&polled, 1, 0), 1) << linked;
  }
}

// The link leads elsewhere: who takes the other side here wakes all the same.
TEST(SharedRing, WhoTakesTheOtherSideMeanwhileWakes) {
  Ring ring = MakeRing();
  const RingInvitation invitation = Invite(ring);
  auto made = ring.reader();
  ASSERT_THAT(made, IsOk());
  std::thread sleeper([reader = *std::move(made)]() mutable {
    auto own = std::move(reader);
    EXPECT_EQ(own.wait(1, kSleepAtOnce), RingWait::kReady);
    EXPECT_EQ(own.try_pop(), 7);
    EXPECT_EQ(own.wait(1, kSleepAtOnce), RingWait::kClosed);
  });
  absl::SleepFor(absl::Milliseconds(20));
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  ASSERT_TRUE(writer->try_push(7));
  absl::SleepFor(absl::Milliseconds(20));
  writer->close();
  sleeper.join();
}

TEST(SharedRing, ASecondInvitationWaitsForTheFirstPeersEnd) {
  Ring ring = MakeRing();
  std::optional<RingInvitation> first = Invite(ring);
  EXPECT_THAT(ring.Invite(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("InvitePair")));
  absl::StatusOr<Ring> peer = Ring::Attach(*std::exchange(first, std::nullopt));
  ASSERT_THAT(peer, IsOk());
  EXPECT_THAT(ring.Invite(), StatusIs(absl::StatusCode::kFailedPrecondition));
  peer = absl::CancelledError();
  EXPECT_THAT(ring.Invite(), IsOk());
}

// Two that could not wake each other do not get as far as to sleep.
TEST(SharedRing, ASideThatCouldNotWakeTheOtherIsRefused) {
  Ring ring = MakeRing();
  absl::StatusOr<Ring> linked = Ring::Attach(Invite(ring));
  ASSERT_THAT(linked, IsOk());
  std::optional<Ring> without = AttachHere(ring);
  ASSERT_THAT(linked->writer(), IsOk());
  EXPECT_THAT(without->reader(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("wake")));
  EXPECT_THAT(ring.reader(), IsOk()) << "it was not held on to";
  linked = absl::CancelledError();
  EXPECT_THAT(without->writer(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("reads the ring")));
  ring = MakeRing();
  EXPECT_THAT(without->writer(), IsOk());
  EXPECT_THAT(without->reader(), IsOk());
}

// A broker makes the ring, and takes no part.
TEST(SharedRing, APairOfInvitationsLinksTwoOthers) {
  constexpr uint64_t kItems = 20'000;
  std::optional<Ring> ring = MakeRing();
  auto invitations = ring->InvitePair();
  ASSERT_THAT(invitations, IsOk());
  RingInvitation& first = (*invitations)[0];
  RingInvitation& second = (*invitations)[1];
  Child consumer([&] {
    Forget(std::move(second));
    Ring mine = AttachInChild(*ring, first);
    auto reader = mine.reader();
    if (!reader.ok()) return 1;
    uint64_t expected = 0;
    while (reader->wait(1, kSleepAtOnce) == RingWait::kReady) {
      while (std::optional<uint64_t> item = reader->try_pop()) {
        if (*item != expected++) return 2;
      }
    }
    return expected == kItems && reader->peer_gone() ? 0 : 3;
  });
  Child producer([&] {
    Forget(std::move(first));
    Ring mine = AttachInChild(*ring, second);
    auto writer = mine.writer();
    if (!writer.ok()) return 1;
    for (uint64_t i = 0; i < kItems;) {
      if (i % 500 == 0) absl::SleepFor(absl::Milliseconds(1));
      if (writer->try_push(i)) {
        ++i;
      } else if (writer->wait(1, kSleepAtOnce) != RingWait::kReady) {
        return 2;
      }
    }
    return 0;
  });
  Forget(std::move(first));
  Forget(std::move(second));
  ring.reset();
  EXPECT_TRUE(Exited(producer.Wait(), 0));
  EXPECT_TRUE(Exited(consumer.Wait(), 0));
}

// What the arena hands out next is not what the survivor writes to.
TEST(SharedRing, PagesOfAnArenaStayToWhoHasASide) {
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  for (const bool has_side : {true, false}) {
    std::optional<Ring> ring = MakeRing(1, {.arena = *arena});
    Ring survivor = AttachHere(*ring);
    if (has_side) {
      ASSERT_THAT(survivor.writer(), IsOk());
    }
    const uint64_t offset = ring->offset_bytes();
    ring.reset();
    const auto next = (*arena)->Allocate(BasePageBytes());
    ASSERT_THAT(next, IsOk());
    EXPECT_EQ(next->offset_bytes() <= offset, !has_side);
    if (!has_side) continue;
    auto writer = survivor.writer();
    ASSERT_THAT(writer, IsOk());
    EXPECT_TRUE(writer->try_push(7));
    EXPECT_EQ(survivor.reader()->try_pop(), 7);
  }
}

TEST(SharedRing, GoesOverASocket) {
  std::array<int, 2> sockets = {-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  Child child([&] {
    close(sockets[0]);
    absl::StatusOr<RingInvitation> invitation =
        RingInvitation::Receive(sockets[1]);
    if (!invitation.ok()) return 1;
    absl::StatusOr<Ring> ring = Ring::Attach(*std::move(invitation));
    if (!ring.ok()) return 2;
    return ring->writer()->try_push(7) ? 0 : 3;
  });
  close(sockets[1]);
  Ring ring = MakeRing();
  EXPECT_THAT(Invite(ring).Send(sockets[0]), IsOk());
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(reader->wait(), RingWait::kReady);
  EXPECT_EQ(reader->try_pop(), 7);
  EXPECT_EQ(reader->wait(), RingWait::kPeerGone);
  EXPECT_TRUE(Exited(child.Wait(), 0));
  close(sockets[0]);
}

TEST(SharedRing, ManyRingsInOneFile) {
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  std::vector<Ring> rings;
  for (int i = 0; i < 20; ++i) {
    rings.push_back(
        MakeRing(1 + static_cast<size_t>(i) * 1000, {.arena = *arena}));
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

TEST(SharedRing, OnHugePages) {
  constexpr uint64_t kHugeBytes = uint64_t{2} << 20;
  if (testing::FreeHugetlbPages(kHugeBytes) < 4) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const absl::StatusOr<std::shared_ptr<Arena>> arena =
      Arena::Create({.page_size = PageSize::Huge2MiB()});
  ASSERT_THAT(arena, IsOk());
  Ring ring = MakeRing(1, {.arena = *arena});
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
  MakeRing();
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
  Ring ring = MakeRing();
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
  Ring ring = MakeRing();
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
  Ring ring = MakeRing();
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

}  // namespace
}  // namespace doppel
