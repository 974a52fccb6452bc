// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_wait.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/wait_pace.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::kTrialSleep;
using ::doppel::internal::sys::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::ExpectSleepsThrough;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::IsReadable;
using ::doppel::testing::kBeyondTrial;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::SpinUntil;
using ::doppel::testing::Until;

SpscRing<uint64_t> MakeRing() {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(1);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

void Fill(RingWriter<uint64_t>& writer) {
  while (writer.try_push(0)) {
  }
}

TEST(RingWait, WhatIsThereIsNotWaitedFor) {
  SpscRing<uint64_t> ring = MakeRing();
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_TRUE(writer.try_push(1));
  const CallCounter counter;
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(writer.wait(ring.capacity() - 1), RingWait::kReady);
  EXPECT_EQ(counter.total(), 0);
}

TEST(RingWait, NoSystemCallWhileNobodyWaits) {
  SpscRing<uint64_t> ring = MakeRing();
  auto writer = ring.writer();
  auto reader = ring.reader();
  // After a wait that ended, too.
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  const CallCounter counter;
  for (int round = 0; round < 3; ++round) {
    Fill(writer);
    while (reader.try_pop().has_value()) {
    }
  }
  EXPECT_EQ(counter.total(), 0);
}

TEST(RingWait, ADeadlineEndsIt) {
  SpscRing<uint64_t> ring = MakeRing();
  auto writer = ring.writer();
  auto reader = ring.reader();
  const absl::Time begin = absl::Now();
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(20))),
            RingWait::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(20));
  EXPECT_EQ(reader.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  Fill(writer);
  EXPECT_EQ(writer.wait(1, Until(absl::Milliseconds(5))),
            RingWait::kDeadlineExceeded);
  EXPECT_EQ(reader.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kReady);
}

TEST(RingWait, ASleeperCostsNoCpu) {
  SpscRing<uint64_t> ring = MakeRing();
  auto reader = ring.reader();
  ExpectSleepsThrough([&](const auto& until) { return reader.wait(1, until); });
}

TEST(RingWait, APushWakesTheReader) {
  SpscRing<uint64_t> ring = MakeRing();
  std::thread partner([reader = ring.reader()]() mutable {
    EXPECT_EQ(reader.wait(3, kSleepAtOnce), RingWait::kReady);
    EXPECT_EQ(reader.peek().size(), 3);
  });
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 3; ++i) {
    absl::SleepFor(absl::Milliseconds(5));
    ASSERT_TRUE(writer.try_push(i));
  }
  partner.join();
}

TEST(RingWait, APopWakesTheWriter) {
  SpscRing<uint64_t> ring = MakeRing();
  auto reader = ring.reader();
  std::thread partner([writer = ring.writer()]() mutable {
    Fill(writer);
    EXPECT_EQ(writer.wait(2, kSleepAtOnce), RingWait::kReady);
    EXPECT_TRUE(writer.try_push(1) && writer.try_push(2));
  });
  ASSERT_EQ(reader.wait(ring.capacity(), kSleepAtOnce), RingWait::kReady);
  absl::SleepFor(absl::Milliseconds(5));
  reader.pop();
  absl::SleepFor(absl::Milliseconds(5));
  reader.pop();
  partner.join();
}

TEST(RingWait, TheWritersEndWakesTheReaderWhichGetsTheRest) {
  SpscRing<uint64_t> ring = MakeRing();
  std::thread partner([reader = ring.reader()]() mutable {
    EXPECT_EQ(reader.wait(5, kSleepAtOnce), RingWait::kClosed);
    EXPECT_TRUE(reader.closed());
    EXPECT_EQ(reader.wait(2), RingWait::kReady);
    EXPECT_EQ(reader.try_pop(), 7);
    EXPECT_EQ(reader.try_pop(), 8);
    EXPECT_EQ(reader.wait(), RingWait::kClosed);
  });
  auto writer = ring.writer();
  ASSERT_TRUE(writer.try_push(7) && writer.try_push(8));
  absl::SleepFor(absl::Milliseconds(10));
  writer.close();
  partner.join();
}

TEST(RingWait, TheReadersEndWakesTheWriter) {
  SpscRing<uint64_t> ring = MakeRing();
  std::thread partner([writer = ring.writer()]() mutable {
    Fill(writer);
    EXPECT_EQ(writer.wait(1, kSleepAtOnce), RingWait::kClosed);
    EXPECT_TRUE(writer.closed());
  });
  auto reader = ring.reader();
  ASSERT_EQ(reader.wait(ring.capacity()), RingWait::kReady);
  absl::SleepFor(absl::Milliseconds(10));
  reader.close();
  partner.join();
}

TEST(RingWait, ALaterHandleOpensAgain) {
  SpscRing<uint64_t> ring = MakeRing();
  ring.writer().close();
  auto reader = ring.reader();
  EXPECT_EQ(reader.wait(), RingWait::kClosed);
  auto writer = ring.writer();
  EXPECT_FALSE(reader.closed());
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  ASSERT_TRUE(writer.try_push(1));
  EXPECT_EQ(reader.wait(), RingWait::kReady);
}

// How long an answer takes, and how much longer the next.
struct Thinks {
  absl::Duration first = absl::ZeroDuration();
  absl::Duration more = absl::ZeroDuration();
};

// Ping-pong in which each side sleeps before the other goes on. A wake that is lost
// stands still for ever; one that is overlooked in a trial, for as long as that lasts.
void PassBackAndForth(int rounds, const RingWaitOptions& options,
                      const Thinks& thinks = {}) {
  SpscRing<uint64_t> there = MakeRing();
  SpscRing<uint64_t> back = MakeRing();
  std::thread partner(
      [&, reader = there.reader(), writer = back.writer()]() mutable {
        for (int i = 0; i < rounds; ++i) {
          ASSERT_EQ(reader.wait(1, options), RingWait::kReady);
          SpinUntil(absl::Now() + thinks.first + i * thinks.more);
          ASSERT_TRUE(writer.try_push(*reader.try_pop()));
        }
      });
  auto writer = there.writer();
  auto reader = back.reader();
  for (int i = 0; i < rounds; ++i) {
    ASSERT_TRUE(writer.try_push(static_cast<uint64_t>(i)));
    ASSERT_EQ(reader.wait(1, options), RingWait::kReady);
    ASSERT_EQ(reader.try_pop(), static_cast<uint64_t>(i));
  }
  partner.join();
}

TEST(RingWait, NoWakeIsLost) {
  PassBackAndForth(20'000, kSleepAtOnce);
  PassBackAndForth(20'000, {.spin = absl::Nanoseconds(500)});
}

// Where who waits makes the heavy fence.
TEST(RingWait, NoWakeIsLostAtTheEndOfTheTrial) {
  PassBackAndForth(400, kSleepAtOnce,
                   {.first = kTrialSleep - absl::Microseconds(100),
                    .more = absl::Microseconds(1)});
}

// However it ends, a wait that is shorter than the trial makes no heavy fence.
TEST(RingWait, AShortWaitInterruptsNobody) {
  SpscRing<uint64_t> ring = MakeRing();
  auto reader = ring.reader();
  const absl::Time begin = absl::Now();
  const CallCounter counter;
  PassBackAndForth(2000, kSleepAtOnce);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(reader.wait(1, Until(absl::Microseconds(500))),
              RingWait::kDeadlineExceeded);
  }
  ring.writer().close();
  EXPECT_EQ(reader.wait(1, kSleepAtOnce), RingWait::kClosed);
  // But where the machine let one of the two wait for so long.
  EXPECT_LE(counter.count(Call::kMembarrier),
            2 * ((absl::Now() - begin) / kTrialSleep));
}

TEST(RingWait, SpinningNeverSleeps) {
  const CallCounter counter;
  const int before = counter.total();
  PassBackAndForth(1000, {.spin = absl::InfiniteDuration()});
  // The rings' own memory is asked for and given back; no call is made for a message.
  EXPECT_LT(counter.total() - before, 200);
}

// Both sides sleep over and over, with batches and wants of all sizes; less than half
// of the ring each, or both would wait for ever.
TEST(RingWait, BothSidesSleepOnASmallRing) {
  SpscRing<uint64_t> ring = MakeRing();
  constexpr uint64_t kItems = 300'000;
  std::thread partner([&, reader = ring.reader()]() mutable {
    uint64_t expected = 0;
    while (expected < kItems) {
      const uint64_t wanted = std::min(1 + expected % 250, kItems - expected);
      ASSERT_EQ(reader.wait(wanted, kSleepAtOnce), RingWait::kReady);
      const auto items = reader.peek(wanted);
      ASSERT_GE(items.size(), wanted);
      for (const uint64_t item : items) ASSERT_EQ(item, expected++);
      reader.consume(items.size());
    }
  });
  auto writer = ring.writer();
  for (uint64_t next = 0; next < kItems;) {
    const uint64_t n = std::min(1 + next % 250, kItems - next);
    ASSERT_EQ(writer.wait(n, kSleepAtOnce), RingWait::kReady);
    const auto slots = writer.reserve(n);
    ASSERT_EQ(slots.size(), n);
    for (uint64_t& slot : slots) slot = next++;
    writer.commit(n);
  }
  partner.join();
}

// Where membarrier(2) is denied, a wake may come late, and comes.
TEST(RingWait, WithoutMembarrierWakesArriveAllTheSame) {
  const FaultPlan plan(
      {.call = Call::kMembarrier, .error = EPERM, .sticky = true});
  PassBackAndForth(20, kSleepAtOnce, {.first = kBeyondTrial});
  EXPECT_TRUE(plan.fired());
}

// A signal, or a futex that fails, ends a sleep early: the wait goes on.
TEST(RingWait, SleepsThatEndEarlyAreRepeated) {
  for (const int error : {EINTR, EAGAIN}) {
    SpscRing<uint64_t> ring = MakeRing();
    auto reader = ring.reader();
    const FaultPlan plan({.call = Call::kFutex, .error = error});
    std::thread partner([&plan, writer = ring.writer()]() mutable {
      while (!plan.fired()) absl::SleepFor(absl::Microseconds(100));
      EXPECT_TRUE(writer.try_push(1));
    });
    EXPECT_EQ(reader.wait(1, kSleepAtOnce), RingWait::kReady);
    partner.join();
  }
}

// --- Events. ---

TEST(RingEvent, TellsWhatWasAskedFor) {
  SpscRing<uint64_t> ring = MakeRing();
  auto writer = ring.writer();
  auto reader = ring.reader();
  const absl::StatusOr<int> event = reader.event();
  ASSERT_THAT(event, IsOk());
  EXPECT_EQ(*reader.event(), *event) << "one for the ring's life";
  ASSERT_EQ(reader.arm(2), RingWait::kArmed);
  ASSERT_TRUE(writer.try_push(1));
  EXPECT_FALSE(IsReadable(*event)) << "two were asked for";
  ASSERT_TRUE(writer.try_push(2));
  EXPECT_TRUE(IsReadable(*event));
  EXPECT_EQ(reader.arm(2), RingWait::kReady)
      << "they are there: no event will come";
  EXPECT_FALSE(IsReadable(*event));
  EXPECT_EQ(reader.peek().size(), 2);
  reader.consume(2);
  ASSERT_EQ(reader.arm(), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  writer.close();
  EXPECT_TRUE(IsReadable(*event)) << "the end is an event";
  EXPECT_EQ(reader.arm(), RingWait::kClosed);
}

TEST(RingEvent, TellsTheWriterOfRoom) {
  SpscRing<uint64_t> ring = MakeRing();
  auto writer = ring.writer();
  auto reader = ring.reader();
  const absl::StatusOr<int> event = writer.event();
  ASSERT_THAT(event, IsOk());
  EXPECT_EQ(writer.arm(), RingWait::kReady);
  Fill(writer);
  ASSERT_EQ(writer.arm(), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  ASSERT_TRUE(reader.try_pop().has_value());
  EXPECT_TRUE(IsReadable(*event));
}

// What is pushed between the look and the poll is told of.
TEST(RingEvent, ALoopThatDrainsAndArmsMissesNothing) {
  SpscRing<uint64_t> ring = MakeRing();
  constexpr uint64_t kItems = 20'000;
  std::thread partner([reader = ring.reader()]() mutable {
    const absl::StatusOr<int> event = reader.event();
    ASSERT_THAT(event, IsOk());
    for (uint64_t expected = 0; expected < kItems;) {
      while (std::optional<uint64_t> item = reader.try_pop()) {
        ASSERT_EQ(*item, expected++);
      }
      if (expected < kItems && reader.arm() == RingWait::kArmed) {
        ASSERT_TRUE(IsReadable(*event, absl::Seconds(60)));
      }
    }
  });
  auto writer = ring.writer();
  for (uint64_t i = 0; i < kItems; ++i) {
    while (!writer.try_push(i)) std::this_thread::yield();
    if (i % 7 == 0) std::this_thread::yield();
  }
  partner.join();
}

TEST(RingEvent, FailsWhereItCouldBeMissed) {
  SpscRing<uint64_t> ring = MakeRing();
  auto reader = ring.reader();
  for (const Call call : {Call::kMembarrier, Call::kEventfd}) {
    const FaultPlan plan({.call = call, .error = ENOSYS, .sticky = true});
    EXPECT_FALSE(reader.event().ok());
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_THAT(reader.event(), IsOk());
}

// Each look of a wait that spun was counted.
TEST(RingWaitRegression, AWaitIsOneCallThatFoundTooLittle) {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(1);
  ASSERT_TRUE(ring.ok());
  auto writer = ring->writer();
  auto reader = ring->reader();
  for (uint64_t calls = 1; calls <= 3; ++calls) {
    const absl::Time soon = absl::Now() + absl::Milliseconds(3);
    EXPECT_EQ(reader.wait(1, {.deadline = soon, .spin = absl::Milliseconds(1)}),
              RingWait::kDeadlineExceeded);
    EXPECT_EQ(ring->statistics().pop_refusals, calls);
    EXPECT_EQ(ring->statistics().pop_stalls, 1);
  }
  // The end of a stall is found by waiting, too.
  ASSERT_TRUE(writer.try_push(7));
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(reader.try_pop(), 7);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  EXPECT_EQ(ring->statistics().pop_refusals, 4);
  EXPECT_EQ(ring->statistics().pop_stalls, 2);
}

}  // namespace
}  // namespace doppel
