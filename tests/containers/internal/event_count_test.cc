// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/event_count.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/event_word.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::IsReadable;
using ::doppel::testing::kBeyondTrial;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::Scaled;
using ::doppel::testing::SpinUntil;
using ::doppel::testing::Until;

// A number that grows, and who waits for it. On the heap: it wants more alignment than
// the stack may have.
struct Counter {
  void Add() {
    number.fetch_add(1, std::memory_order_release);
    count.Notify();
  }
  std::optional<RingWait> Look(uint64_t wanted) const {
    if (number.load(std::memory_order_acquire) < wanted) return std::nullopt;
    return RingWait::kReady;
  }
  RingWait Wait(uint64_t wanted, const RingWaitOptions& options) {
    return count.Wait([&] { return Look(wanted); }, options);
  }
  RingWait Arm(EventSeat& event, uint64_t wanted) {
    return count.Arm(event, [&] { return Look(wanted); });
  }

  std::atomic<uint64_t> number{0};
  EventCount count;
};

TEST(EventWord, GoesOnOnceForEachCountThatSomebodySaw) {
  EventWord<> word;
  EXPECT_FALSE(word.Waited());
  EXPECT_FALSE(word.Advance());
  const uint32_t seen = word.Announce([] {});
  EXPECT_EQ(word.word().load(), seen);
  EXPECT_EQ(word.Announce([] {}), seen) << "who waits together sees the same";
  EXPECT_TRUE(word.Waited());
  EXPECT_TRUE(word.Advance());
  EXPECT_NE(word.word().load(), seen);
  EXPECT_FALSE(word.Waited());
  EXPECT_FALSE(word.Advance());
  EXPECT_NE(word.Announce([] {}), seen);
}

TEST(EventCount, NoSystemCallWhileNobodyWaits) {
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  const absl::StatusOr<EventSeat*> event = counter.count.EventFor(nullptr);
  ASSERT_THAT(event, IsOk());
  // After waits that have ended, too.
  EXPECT_EQ(counter.Wait(1, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  counter.number = 1;
  EXPECT_EQ(counter.Arm(**event, 1), RingWait::kReady);
  const CallCounter calls;
  for (int i = 0; i < 3; ++i) counter.Add();
  EXPECT_EQ(counter.Wait(4, kSleepAtOnce), RingWait::kReady);
  EXPECT_EQ(calls.total(), 0);
}

TEST(EventCount, SpinningNeverSleeps) {
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  const CallCounter calls;
  std::thread partner([&] {
    EXPECT_EQ(counter.Wait(3, {.spin = absl::InfiniteDuration()}),
              RingWait::kReady);
  });
  for (int i = 0; i < 3; ++i) {
    absl::SleepFor(absl::Milliseconds(1));
    counter.Add();
  }
  partner.join();
  EXPECT_EQ(calls.total(), 0);
}

TEST(EventCount, OneCallForEachThatIsArmed) {
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  const absl::StatusOr<EventSeat*> event = counter.count.EventFor(nullptr);
  ASSERT_THAT(event, IsOk());
  ASSERT_EQ(counter.Arm(**event, 10), RingWait::kArmed);
  const CallCounter calls;
  for (int i = 0; i < 3; ++i) counter.Add();
  EXPECT_EQ(calls.total(), 1) << "told once, and not again until it is armed";
  EXPECT_TRUE(IsReadable((*event)->fd));
}

// What comes between the look and the announcement's being seen is not told of.
TEST(EventCountRegression, WithoutTheFenceAnArmLooksAgain) {
  const auto owned = std::make_unique<EventCount>();
  const absl::StatusOr<EventSeat*> event = owned->EventFor(nullptr);
  ASSERT_THAT(event, IsOk());
  const FaultPlan plan(
      {.call = sys::Call::kMembarrier, .error = EPERM, .sticky = true});
  int looks = 0;
  EXPECT_EQ(owned->Arm(**event,
                       [&]() -> std::optional<RingWait> {
                         if (++looks <= 2) return std::nullopt;
                         return RingWait::kReady;
                       }),
            RingWait::kReady);
  EXPECT_EQ(looks, 3) << "before the announcement, behind it, and again";
  EXPECT_TRUE(plan.fired());
}

TEST(EventCount, EventsAreGivenBackAndTakenAgain) {
  const auto owned = std::make_unique<EventCount>();
  EventCount& count = *owned;
  const absl::StatusOr<EventSeat*> first = count.EventFor(nullptr);
  const absl::StatusOr<EventSeat*> second = count.EventFor(nullptr);
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_NE((*first)->fd, (*second)->fd);
  EXPECT_EQ(*count.EventFor(*first), *first) << "who has one keeps it";
  (*first)->Leave();
  EXPECT_EQ(*count.EventFor(nullptr), *first);
}

TEST(EventCount, WhatIsLeftArmedIsNotTheNextHolders) {
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  EventSeat* const first = *counter.count.EventFor(nullptr);
  ASSERT_EQ(counter.Arm(*first, 10), RingWait::kArmed);
  first->Leave();
  EventSeat* const second = *counter.count.EventFor(nullptr);
  ASSERT_EQ(second, first);
  counter.Add();
  EXPECT_FALSE(IsReadable(second->fd));
}

// All sleep over and over. A wake that is lost stands still for ever; one that is
// overlooked in a trial, for as long as that lasts.
void MeetAtEachNumber(int waiters, int notifiers, uint64_t numbers,
                      bool events) {
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  std::atomic<uint64_t> seen{0};  // By all waiters together.
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(waiters + notifiers));
  for (int i = 0; i < waiters; ++i) {
    threads.emplace_back([&, by_event = events && i % 2 == 0] {
      EventSeat* const event = *counter.count.EventFor(nullptr);
      for (uint64_t wanted = 1; wanted <= numbers; ++wanted) {
        while (by_event && counter.Arm(*event, wanted) == RingWait::kArmed) {
          ASSERT_TRUE(IsReadable(event->fd, absl::Seconds(60)));
        }
        ASSERT_EQ(counter.Wait(wanted, kSleepAtOnce), RingWait::kReady);
        seen.fetch_add(1);
        seen.notify_all();
      }
    });
  }
  // Each number is made by one of them, when all have seen the one before.
  for (int i = 0; i < notifiers; ++i) {
    threads.emplace_back([&, mine = static_cast<uint64_t>(i)] {
      const auto all = static_cast<uint64_t>(waiters);
      for (uint64_t number = mine; number < numbers;
           number += static_cast<uint64_t>(notifiers)) {
        for (uint64_t now = seen.load(); now < number * all;
             now = seen.load()) {
          seen.wait(now);
        }
        counter.Add();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(EventCount, NoWakeIsLost) {
  const auto numbers = static_cast<uint64_t>(Scaled(5'000, 500'000));
  MeetAtEachNumber(1, 1, numbers, false);
  MeetAtEachNumber(3, 1, numbers, false);
  MeetAtEachNumber(2, 2, numbers / 5, false);
}

TEST(EventCount, NoEventIsLost) {
  const auto numbers = static_cast<uint64_t>(Scaled(5'000, 500'000));
  MeetAtEachNumber(1, 1, numbers, true);
  MeetAtEachNumber(3, 2, numbers / 5, true);
}

// Notifiers do not wait for the waiters: their marks and wakes fall into each other.
TEST(EventCount, NoWakeIsLostAmongMany) {
  const auto numbers = static_cast<uint64_t>(Scaled(50'000, 2'000'000));
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (uint64_t wanted = 1; wanted <= 2 * numbers;) {
        ASSERT_EQ(counter.Wait(wanted, kSleepAtOnce), RingWait::kReady);
        wanted = counter.number.load() + 1;
      }
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (uint64_t n = 0; n < numbers; ++n) counter.Add();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Where who waits makes the heavy fence.
TEST(EventCount, NoWakeIsLostAtTheEndOfTheTrial) {
  constexpr uint64_t kNumbers = 400;
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  std::atomic<uint64_t> awaited{0};
  std::thread waiter([&] {
    for (uint64_t wanted = 1; wanted <= kNumbers; ++wanted) {
      awaited = wanted;
      ASSERT_EQ(counter.Wait(wanted, kSleepAtOnce), RingWait::kReady);
    }
  });
  for (uint64_t wanted = 1; wanted <= kNumbers; ++wanted) {
    while (awaited < wanted) continue;
    SpinUntil(absl::Now() + kTrialSleep - absl::Microseconds(100) +
              absl::Microseconds(wanted));
    counter.Add();
  }
  waiter.join();
}

// Where membarrier(2) is denied, a wake may come late, and comes.
TEST(EventCount, WithoutMembarrierWakesArriveAllTheSame) {
  const FaultPlan plan(
      {.call = Call::kMembarrier, .error = EPERM, .sticky = true});
  const auto owned = std::make_unique<Counter>();
  Counter& counter = *owned;
  EXPECT_EQ(counter.Wait(1, Until(kBeyondTrial)), RingWait::kDeadlineExceeded);
  EXPECT_TRUE(plan.fired());
  std::thread waiter([&] {
    for (uint64_t wanted = 1; wanted <= 10; ++wanted) {
      ASSERT_EQ(counter.Wait(wanted, kSleepAtOnce), RingWait::kReady);
    }
  });
  for (int i = 0; i < 10; ++i) {
    absl::SleepFor(kBeyondTrial);
    counter.Add();
  }
  waiter.join();
  EXPECT_FALSE(counter.count.EventFor(nullptr).ok())
      << "who polls would not notice";
}

TEST(EventCount, SleepsThatEndEarlyAreRepeated) {
  for (const int error : {EINTR, EAGAIN}) {
    const auto owned = std::make_unique<Counter>();
    Counter& counter = *owned;
    const FaultPlan plan({.call = Call::kFutex, .error = error});
    std::thread partner([&] {
      while (!plan.fired()) absl::SleepFor(absl::Microseconds(100));
      counter.Add();
    });
    EXPECT_EQ(counter.Wait(1, kSleepAtOnce), RingWait::kReady);
    partner.join();
  }
}

TEST(EventCount, AnEventThatCannotBeMadeIsAnError) {
  const auto owned = std::make_unique<EventCount>();
  EventCount& count = *owned;
  {
    const FaultPlan plan({.call = Call::kEventfd, .error = EMFILE});
    EXPECT_FALSE(count.EventFor(nullptr).ok());
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_THAT(count.EventFor(nullptr), IsOk());
}

}  // namespace
}  // namespace doppel::internal
