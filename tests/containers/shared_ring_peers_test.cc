// SPDX-License-Identifier: Apache-2.0
//
// Processes that meet by a shared ring, wake each other, die and are succeeded.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/containers/shared_ring_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::testing::AttachHere;
using ::doppel::testing::AttachInChild;
using ::doppel::testing::CallCounter;
using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::Forget;
using ::doppel::testing::Invite;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::MakeSharedRing;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Ring = ::doppel::testing::SharedNumbers;

// Items go to a child and back; each side sleeps for the other.
TEST(SharedRing, ProcessesWakeEachOther) {
  constexpr uint64_t kRounds = 3000;
  Ring there = MakeSharedRing();
  Ring back = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
    Ring ring = MakeSharedRing(1 << 20);
    RingInvitation invitation = Invite(ring);
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      return mine.writer().ok() ? 0 : 1;
    });
    Forget(std::move(invitation));
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
    auto writer = ring.writer();
    EXPECT_THAT(writer, IsOk());
    EXPECT_TRUE(Exited(child.Wait(), 0));
    EXPECT_TRUE(ring.peer_gone());
    EXPECT_FALSE(reader->peer_gone()) << "this process writes now";
    EXPECT_FALSE(writer->peer_gone()) << "and reads";
  }
}

TEST(SharedRing, AKilledReadersSuccessorReadsTheRest) {
  Ring ring = MakeSharedRing();
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
    Ring ring = MakeSharedRing();
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

// A child that kept its parent's ring kept the parent's end of the link, and its hold on
// the side: nothing ended with the parent.
TEST(SharedRingRegression, AChildKeepsNothingOfItsParentsHold) {
  std::array<int, 2> report = {-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, report.data()), 0);
  Child parent([&] {
    Ring ring = MakeSharedRing();
    auto writer = ring.writer();
    RingInvitation invitation = Invite(ring);
    if (fork() == 0) {
      // `ring` lives on in this process, too.
      absl::StatusOr<Ring> mine = Ring::Attach(std::move(invitation));
      if (!mine.ok()) _exit(1);
      auto reader = mine->reader();
      const bool gone = reader->wait(1, kSleepAtOnce) == RingWait::kPeerGone;
      const char told = !gone ? 'h' : mine->writer().ok() ? 'y' : 'n';
      _exit(write(report[1], &told, 1) == 1 ? 0 : 1);
    }
    Forget(std::move(invitation));
    absl::SleepFor(absl::Milliseconds(20));
    return 0;
  });
  EXPECT_TRUE(Exited(parent.Wait(), 0));
  pollfd polled = {.fd = report[0], .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&polled, 1, 60'000), 1) << "the grandchild waits for ever";
  char told = 0;
  ASSERT_EQ(read(report[0], &told, 1), 1);
  EXPECT_EQ(told, 'y');
  for (const int end : report) close(end);
}

// The kernel hangs a link up before it has the locks of a process that was killed.
TEST(SharedRingRegression, WhoIsToldOfTheEndCanInviteAtOnce) {
  for (int round = 0; round < 20; ++round) {
    std::array<int, 2> sockets = {-1, -1};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
    Child creator([&] {
      Ring ring = MakeSharedRing();
      auto writer = ring.writer();
      if (!Invite(ring).Send(sockets[1]).ok()) return 1;
      if (!writer->try_push(7)) return 2;
      for (;;) pause();
      return 0;
    });
    absl::StatusOr<RingInvitation> invitation =
        RingInvitation::Receive(sockets[0]);
    ASSERT_THAT(invitation, IsOk());
    absl::StatusOr<Ring> ring = Ring::Attach(*std::move(invitation));
    ASSERT_THAT(ring, IsOk());
    auto reader = ring->reader();
    ASSERT_THAT(reader, IsOk());
    ASSERT_EQ(reader->wait(), RingWait::kReady);
    ASSERT_EQ(reader->try_pop(), 7);
    kill(creator.pid(), SIGKILL);
    ASSERT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
    EXPECT_THAT(ring->Invite(), IsOk()) << round;
    EXPECT_THAT(ring->writer(), IsOk()) << round;
    for (const int end : sockets) close(end);
  }
}

// Who waited for a peer that had not come yet looked each millisecond.
TEST(SharedRingRegression, WhoWaitsForAPeerToComeSleeps) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  {
    const CallCounter counter;
    EXPECT_EQ(reader->wait(1, {.deadline = absl::Now() + absl::Milliseconds(50),
                               .spin = absl::ZeroDuration()}),
              RingWait::kDeadlineExceeded);
    EXPECT_LE(counter.count(Call::kFutex), 2);
  }
  std::thread peer([&] {
    absl::SleepFor(absl::Milliseconds(10));
    Ring other = AttachHere(ring);
    auto writer = other.writer();
    absl::SleepFor(absl::Milliseconds(10));
    ASSERT_TRUE(writer->try_push(7));
  });
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kReady);
  EXPECT_EQ(reader->try_pop(), 7);
  peer.join();
}

TEST(SharedRing, TheLinkIsAnEventForPoll) {
  Ring ring = MakeSharedRing();
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
  Ring there = MakeSharedRing();
  Ring back = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
  Ring ring = MakeSharedRing();
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
  ring = MakeSharedRing();
  EXPECT_THAT(without->writer(), IsOk());
  EXPECT_THAT(without->reader(), IsOk());
}

// A broker makes the ring, and takes no part.
TEST(SharedRing, APairOfInvitationsLinksTwoOthers) {
  constexpr uint64_t kItems = 20'000;
  std::optional<Ring> ring = MakeSharedRing();
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

// Nor can another process take the side while the ring is there.
TEST(SharedRing, ASideThatIsHereIsNoPeerThatIsGone) {
  Ring ring = MakeSharedRing();
  Forget(Invite(ring));
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  {
    auto writer = ring.writer();
    ASSERT_THAT(writer, IsOk());
    ASSERT_TRUE(writer->try_push(1));
  }
  ASSERT_EQ(reader->try_pop(), 1);
  EXPECT_EQ(reader->wait(1, {.deadline = absl::Now() + absl::Milliseconds(5)}),
            RingWait::kDeadlineExceeded);
  ASSERT_THAT(reader->event(), IsOk());
  EXPECT_EQ(reader->arm(), RingWait::kArmed);
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
  Ring ring = MakeSharedRing();
  EXPECT_THAT(Invite(ring).Send(sockets[0]), IsOk());
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(reader->wait(), RingWait::kReady);
  EXPECT_EQ(reader->try_pop(), 7);
  EXPECT_EQ(reader->wait(), RingWait::kPeerGone);
  EXPECT_TRUE(Exited(child.Wait(), 0));
  close(sockets[0]);
}

}  // namespace
}  // namespace doppel
