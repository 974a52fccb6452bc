// SPDX-License-Identifier: Apache-2.0
//
// Processes that have a shared ring in common and no link: each learns from the kernel
// that the other has ended.

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/containers/shared_ring_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::testing::AttachHere;
using ::doppel::testing::CallCounter;
using ::doppel::testing::Child;
using ::doppel::testing::CpuTime;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::MakeSharedRing;
using ::doppel::testing::StatusIs;
using ::doppel::testing::Until;

using Ring = ::doppel::testing::SharedNumbers;

// For what ends long before it, and would else never.
constexpr absl::Duration kLong = absl::Seconds(60);

// In a child: takes the writer's side, pushes 1 ... items, and stays until it is killed.
int PushAndStay(const Ring& ring, uint64_t items) {
  Ring mine = AttachHere(ring);
  auto writer = mine.writer();
  if (!writer.ok()) return 1;
  for (uint64_t i = 1; i <= items; ++i) {
    if (!writer->try_push(i)) return 2;
  }
  for (;;) pause();
}

TEST(SharedRingWithoutLink, TheEndOfAKilledWriterEndsASleep) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  Child child([&] { return PushAndStay(ring, 3); });
  ASSERT_EQ(reader->wait(3, Until(kLong)), RingWait::kReady);
  EXPECT_FALSE(reader->peer_gone());
  EXPECT_FALSE(ring.peer_gone());
  std::thread killer([&] {
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_TRUE(DiedOf(child.Kill(), SIGKILL));
  });
  EXPECT_EQ(reader->wait(4, kSleepAtOnce), RingWait::kPeerGone);
  killer.join();
  EXPECT_TRUE(reader->peer_gone());
  EXPECT_TRUE(ring.peer_gone());
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kReady)
        << "it is drained";
    EXPECT_EQ(reader->try_pop(), i);
  }
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
  EXPECT_THAT(ring.writer(), IsOk())
      << "whose end is told has no side any more";
}

TEST(SharedRingWithoutLink, TheEndOfAKilledReaderEndsASleep) {
  Ring ring = MakeSharedRing();
  auto writer = ring.writer();
  ASSERT_THAT(writer, IsOk());
  while (writer->try_push(7)) continue;
  Child child([&] {
    Ring mine = AttachHere(ring);
    auto reader = mine.reader();
    if (!reader.ok() || reader->try_pop() != 7) return 1;
    for (;;) pause();
  });
  ASSERT_EQ(writer->wait(1, Until(kLong)), RingWait::kReady);
  std::thread killer([&] {
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_TRUE(DiedOf(child.Kill(), SIGKILL));
  });
  EXPECT_EQ(writer->wait(2, kSleepAtOnce), RingWait::kPeerGone);
  killer.join();
  EXPECT_TRUE(writer->peer_gone());
  EXPECT_TRUE(writer->try_push(8)) << "for who comes next";
}

TEST(SharedRingWithoutLink, AWaitNoticesTheEndHoweverItWaits) {
  for (const absl::Duration spin : {absl::ZeroDuration(), absl::Milliseconds(5),
                                    absl::InfiniteDuration()}) {
    Ring ring = MakeSharedRing();
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    Child child([&] {
      Ring mine = AttachHere(ring);
      if (!mine.writer()->try_push(1)) return 1;
      absl::SleepFor(absl::Milliseconds(20));
      return 0;
    });
    EXPECT_EQ(reader->wait(2, {.spin = spin}), RingWait::kPeerGone);
    EXPECT_EQ(reader->try_pop(), 1);
    EXPECT_TRUE(Exited(child.Wait(), 0));
  }
}

// Who closes ends the ring; who only drops it has left.
TEST(SharedRingWithoutLink, WhoDropsItsRingHasGoneAndWhoClosedHasClosed) {
  for (const bool closes : {false, true}) {
    Ring ring = MakeSharedRing();
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    {
      Ring other = AttachHere(ring);
      auto writer = other.writer();
      ASSERT_THAT(writer, IsOk());
      EXPECT_FALSE(ring.peer_gone());
      if (closes) writer->close();
    }
    EXPECT_TRUE(ring.peer_gone());
    EXPECT_EQ(reader->wait(1, kSleepAtOnce),
              closes ? RingWait::kClosed : RingWait::kPeerGone);
  }
}

TEST(SharedRingWithoutLink, WhoHasNotComeYetHasNotGone) {
  Ring ring = MakeSharedRing();
  EXPECT_FALSE(ring.peer_gone());
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_FALSE(ring.peer_gone());
  EXPECT_FALSE(reader->peer_gone());
  const absl::Duration before = CpuTime();
  EXPECT_EQ(reader->wait(1, Until(absl::Milliseconds(300))),
            RingWait::kDeadlineExceeded);
  EXPECT_LT(CpuTime() - before, absl::Milliseconds(30));
  std::optional<Ring> other = AttachHere(ring);
  EXPECT_FALSE(reader->peer_gone()) << "it has come, and has no side yet";
  other.reset();
  EXPECT_FALSE(reader->peer_gone()) << "nor had it one";
}

// It has the side before it says that it came.
TEST(SharedRingWithoutLink, WhoComesIsAtNoMomentOneThatHasGone) {
  for (int round = 0; round < 200; ++round) {
    Ring ring = MakeSharedRing();
    auto reader = ring.reader();
    ASSERT_THAT(reader, IsOk());
    Ring other = AttachHere(ring);
    std::atomic<bool> has_come{false};
    std::thread comes([&] {
      EXPECT_THAT(other.writer(), IsOk());
      has_come = true;
    });
    while (!has_come && !HasFailure()) EXPECT_FALSE(reader->peer_gone());
    comes.join();
  }
}

// Time is not what tells.
TEST(SharedRingWithoutLink, WhoStandsStillHasNotGone) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  Child child([&] { return PushAndStay(ring, 1); });
  ASSERT_EQ(reader->wait(1, Until(kLong)), RingWait::kReady);
  ASSERT_EQ(kill(child.pid(), SIGSTOP), 0);
  const absl::Duration before = CpuTime();
  const CallCounter counter;
  EXPECT_EQ(reader->wait(2, Until(absl::Milliseconds(300))),
            RingWait::kDeadlineExceeded);
  EXPECT_LT(CpuTime() - before, absl::Milliseconds(30));
  EXPECT_GE(counter.count(Call::kFcntl), 1);
  EXPECT_LE(counter.count(Call::kFcntl), 10) << "it looked more often";
  EXPECT_FALSE(reader->peer_gone());
}

TEST(SharedRingWithoutLink, ANewPeerGoesOn) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  for (int generation = 0; generation < 5; ++generation) {
    Child child([&] { return PushAndStay(ring, 2); });
    RingWait waited = RingWait::kPeerGone;
    // Of the one before, until this one has come.
    const absl::Time deadline = absl::Now() + kLong;
    while (waited == RingWait::kPeerGone && absl::Now() < deadline) {
      waited = reader->wait(2, kSleepAtOnce);
    }
    ASSERT_EQ(waited, RingWait::kReady) << generation;
    EXPECT_FALSE(reader->peer_gone());
    EXPECT_EQ(reader->try_pop(), 1);
    EXPECT_EQ(reader->try_pop(), 2);
    EXPECT_TRUE(DiedOf(child.Kill(), SIGKILL));
    EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
  }
}

// The first peer ended before this one came.
TEST(SharedRingWithoutLink, WhoComesLaterLearnsOfAnEarlierEnd) {
  Ring ring = MakeSharedRing();
  Child child([&] {
    Ring mine = AttachHere(ring);
    return mine.writer()->try_push(7) ? 0 : 1;
  });
  EXPECT_TRUE(Exited(child.Wait(), 0));
  EXPECT_TRUE(ring.peer_gone()) << "before this ring has a side";
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kReady);
  EXPECT_EQ(reader->try_pop(), 7);
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
}

TEST(SharedRingWithoutLink, ASideThatIsHereIsNoPeerThatIsGone) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  AttachHere(ring).writer().IgnoreError();
  ASSERT_TRUE(ring.peer_gone());
  ASSERT_THAT(ring.writer(), IsOk());
  EXPECT_FALSE(ring.peer_gone());
  EXPECT_FALSE(reader->peer_gone());
  const CallCounter counter;
  EXPECT_EQ(reader->wait(1, Until(absl::Milliseconds(120))),
            RingWait::kDeadlineExceeded);
  EXPECT_EQ(counter.count(Call::kFcntl), 0) << "there is nobody to ask for";
}

// Of a ring in an arena's file the sides are other bytes.
TEST(SharedRingWithoutLink, RingsOfOneFileEndByThemselves) {
  auto arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  Ring one = MakeSharedRing(1, {.arena = *arena});
  Ring another = MakeSharedRing(1, {.arena = *arena});
  auto one_reader = one.reader();
  auto another_reader = another.reader();
  ASSERT_THAT(one_reader, IsOk());
  ASSERT_THAT(another_reader, IsOk());
  Ring others = AttachHere(another);
  ASSERT_THAT(others.writer(), IsOk());
  AttachHere(one).writer().IgnoreError();
  EXPECT_EQ(one_reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
  EXPECT_EQ(another_reader->wait(1, Until(absl::Milliseconds(120))),
            RingWait::kDeadlineExceeded);
}

TEST(SharedRingWithoutLink, WhoIsWokenAsksNobody) {
  constexpr uint64_t kItems = 2000;
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  Child child([&] {
    Ring mine = AttachHere(ring);
    auto writer = mine.writer();
    if (!writer.ok()) return 1;
    for (uint64_t i = 0; i < kItems; ++i) {
      while (!writer->try_push(i)) writer->wait();
    }
    writer->close();
    return 0;
  });
  const CallCounter counter;
  const absl::Time begin = absl::Now();
  uint64_t expected = 0;
  while (reader->wait(1, kSleepAtOnce) == RingWait::kReady) {
    while (std::optional<uint64_t> item = reader->try_pop()) {
      ASSERT_EQ(*item, expected++);
    }
  }
  EXPECT_EQ(expected, kItems);
  // But where the machine let the child wait for so long.
  EXPECT_LE(counter.count(Call::kFcntl),
            (absl::Now() - begin) / absl::Milliseconds(50));
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

TEST(SharedRingWithoutLink, WhatTheKernelDoesNotSayIsNoEnd) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  AttachHere(ring).writer().IgnoreError();
  {
    const FaultPlan plan(
        {.call = Call::kFcntl, .error = ENOLCK, .sticky = true});
    EXPECT_FALSE(reader->peer_gone());
    EXPECT_FALSE(ring.peer_gone());
    EXPECT_EQ(reader->wait(1, Until(absl::Milliseconds(120))),
              RingWait::kDeadlineExceeded);
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_EQ(reader->wait(1, kSleepAtOnce), RingWait::kPeerGone);
}

// There is nothing that the end of the other could make readable.
TEST(SharedRingWithoutLink, NoEventIsToBeHad) {
  Ring ring = MakeSharedRing();
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  Ring other = AttachHere(ring);
  ASSERT_THAT(other.writer(), IsOk());
  EXPECT_THAT(reader->event(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace doppel
