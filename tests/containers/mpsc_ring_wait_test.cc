// SPDX-License-Identifier: Apache-2.0
//
// The two sides of a ring of many producers wait for each other: by sleeping, by an
// event, until a deadline or the end.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/containers/mpsc_ring_support.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::internal::sys::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::ExpectSleepsThrough;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::IsReadable;
using ::doppel::testing::kBeyondTrial;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::MakeMpscRing;
using ::doppel::testing::Scaled;
using ::doppel::testing::Until;

constexpr std::string_view kText = "12345678";

std::span<const std::byte> Text() { return std::as_bytes(std::span(kText)); }

// With messages of 8 bytes. Returns how many.
uint64_t Fill(MpscRing::Producer& producer) {
  uint64_t sent = 0;
  while (producer.push(Text()) == RingRoom::kRoom) ++sent;
  return sent;
}

TEST(MpscRingWait, WhatIsThereIsNotWaitedFor) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(producer.push(Text()), RingRoom::kRoom);
  const CallCounter counter;
  EXPECT_EQ(consumer.wait(), RingWait::kReady);
  EXPECT_EQ(producer.wait(100), RingWait::kReady);
  EXPECT_EQ(counter.total(), 0);
}

TEST(MpscRingWait, NoSystemCallWhileNobodyWaits) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  // After waits that ended, too.
  EXPECT_EQ(consumer.wait(Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  Fill(producer);
  EXPECT_EQ(producer.wait(8, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  const CallCounter counter;
  for (int round = 0; round < 3; ++round) {
    while (consumer.next()) {
    }
    consumer.release();
    Fill(producer);
  }
  EXPECT_EQ(counter.total(), 0);
}

TEST(MpscRingWait, ADeadlineEndsIt) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const absl::Time begin = absl::Now();
  EXPECT_EQ(consumer.wait(Until(absl::Milliseconds(20))),
            RingWait::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(20));
  EXPECT_EQ(consumer.wait({.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  Fill(producer);
  EXPECT_EQ(producer.wait(8, Until(absl::Milliseconds(5))),
            RingWait::kDeadlineExceeded);
  EXPECT_EQ(consumer.wait({.deadline = absl::InfinitePast()}),
            RingWait::kReady);
}

TEST(MpscRingWait, ASleeperCostsNoCpu) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ExpectSleepsThrough([&](const auto& until) { return consumer.wait(until); });
  Fill(producer);
  ExpectSleepsThrough(
      [&](const auto& until) { return producer.wait(8, until); });
}

TEST(MpscRingWait, APushWakesTheConsumer) {
  MpscRing ring = MakeMpscRing();
  std::thread partner([consumer = ring.consumer()]() mutable {
    auto own = std::move(consumer);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(own.wait(kSleepAtOnce), RingWait::kReady);
      EXPECT_TRUE(own.next().has_value());
    }
  });
  auto producer = ring.producer();
  for (int i = 0; i < 3; ++i) {
    absl::SleepFor(absl::Milliseconds(5));
    ASSERT_EQ(producer.push(Text()), RingRoom::kRoom);
  }
  partner.join();
}

// The consumer stops at the frame that is not committed, and is woken by its commit; or
// by its end, which leaves the message behind it to be seen.
TEST(MpscRingWait, ACommitOfWhatComesFirstWakesTheConsumer) {
  for (const bool commits : {true, false}) {
    MpscRing ring = MakeMpscRing();
    std::optional<MpscRing::Producer> first(ring.producer());
    ASSERT_TRUE(first->reserve(8));
    auto second = ring.producer();
    ASSERT_EQ(second.push(Text()), RingRoom::kRoom);
    std::thread partner([consumer = ring.consumer()]() mutable {
      auto own = std::move(consumer);
      EXPECT_EQ(own.wait(kSleepAtOnce), RingWait::kReady);
      EXPECT_TRUE(own.next().has_value());
    });
    absl::SleepFor(absl::Milliseconds(10));
    if (commits) first->commit(8);
    first.reset();
    partner.join();
  }
}

TEST(MpscRingWait, ReleaseWakesAllProducers) {
  MpscRing ring = MakeMpscRing();
  std::vector<std::thread> partners;
  partners.reserve(3);
  {
    auto filler = ring.producer();
    Fill(filler);
  }
  for (int i = 0; i < 3; ++i) {
    partners.emplace_back([producer = ring.producer()]() mutable {
      auto own = std::move(producer);
      while (own.push(Text()) == RingRoom::kFull) {
        ASSERT_EQ(own.wait(kText.size(), kSleepAtOnce), RingWait::kReady);
      }
    });
  }
  absl::SleepFor(absl::Milliseconds(10));
  auto consumer = ring.consumer();
  // One has room at a time.
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(consumer.next().has_value());
    consumer.release();
    absl::SleepFor(absl::Milliseconds(2));
  }
  for (std::thread& partner : partners) partner.join();
}

// What was given up holds the room, and no message tells of it.
TEST(MpscRingWait, AConsumerThatWaitsHandsBackWhatIsSkipped) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  ASSERT_TRUE(producer.reserve(ring.max_message_bytes()));
  producer.abort();
  std::thread partner([consumer = ring.consumer()]() mutable {
    auto own = std::move(consumer);
    EXPECT_EQ(own.wait(kSleepAtOnce), RingWait::kReady);
  });
  EXPECT_EQ(producer.wait(ring.max_message_bytes(), kSleepAtOnce),
            RingWait::kReady);
  EXPECT_EQ(producer.push(Text()), RingRoom::kRoom);
  partner.join();
}

// Whoever waits hands back what it was shown: both could wait for each other.
TEST(MpscRingWait, AConsumerThatWaitsReleases) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const uint64_t sent = Fill(producer);
  for (uint64_t i = 0; i < sent; ++i) ASSERT_TRUE(consumer.next());
  EXPECT_EQ(consumer.wait({.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRingWait, TheProducersEndWakesTheConsumerWhichGetsTheRest) {
  MpscRing ring = MakeMpscRing();
  std::thread partner([consumer = ring.consumer()]() mutable {
    auto own = std::move(consumer);
    uint64_t received = 0;
    while (own.wait(kSleepAtOnce) == RingWait::kReady) {
      while (own.next()) ++received;
    }
    EXPECT_EQ(received, 2);
    EXPECT_TRUE(own.closed());
    EXPECT_EQ(own.wait(), RingWait::kClosed);
  });
  auto first = ring.producer();
  auto second = ring.producer();
  ASSERT_EQ(first.push(Text()), RingRoom::kRoom);
  absl::SleepFor(absl::Milliseconds(10));
  ASSERT_EQ(second.push(Text()), RingRoom::kRoom);
  second.close();
  first.close();
  partner.join();
}

// Each says for itself that it sends no more.
TEST(MpscRingWait, TheEndIsTheLastProducers) {
  MpscRing ring = MakeMpscRing();
  auto consumer = ring.consumer();
  std::optional<MpscRing::Producer> goes = ring.producer();
  auto closes = ring.producer();
  auto last = ring.producer();
  closes.close();
  closes.close();
  EXPECT_FALSE(consumer.closed());
  ASSERT_EQ(last.push(Text()), RingRoom::kRoom);
  EXPECT_EQ(consumer.wait(), RingWait::kReady);
  EXPECT_TRUE(consumer.next().has_value());
  last.close();
  EXPECT_EQ(consumer.wait(Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  goes.reset();
  EXPECT_EQ(consumer.wait(), RingWait::kClosed);
}

TEST(MpscRingWait, ProducersThatComeAndGoEndNothing) {
  MpscRing ring = MakeMpscRing();
  auto consumer = ring.consumer();
  EXPECT_FALSE(consumer.closed());
  for (int i = 0; i < 3; ++i) (void)ring.producer();
  EXPECT_FALSE(consumer.closed());
}

// Who goes last wakes the consumer if another has closed.
TEST(MpscRingWait, TheLastThatGoesWakesTheConsumer) {
  MpscRing ring = MakeMpscRing();
  std::optional<MpscRing::Producer> goes = ring.producer();
  ring.producer().close();
  std::thread partner([consumer = ring.consumer()]() mutable {
    auto own = std::move(consumer);
    EXPECT_EQ(own.wait(kSleepAtOnce), RingWait::kClosed);
  });
  absl::SleepFor(absl::Milliseconds(10));
  goes.reset();
  partner.join();
}

TEST(MpscRingWait, TheConsumersEndWakesAllProducers) {
  MpscRing ring = MakeMpscRing();
  auto consumer = ring.consumer();
  {
    auto filler = ring.producer();
    Fill(filler);
  }
  std::vector<std::thread> partners;
  partners.reserve(2);
  for (int i = 0; i < 2; ++i) {
    partners.emplace_back([producer = ring.producer()]() mutable {
      auto own = std::move(producer);
      EXPECT_EQ(own.wait(100, kSleepAtOnce), RingWait::kClosed);
      EXPECT_TRUE(own.closed());
    });
  }
  absl::SleepFor(absl::Milliseconds(10));
  consumer.close();
  for (std::thread& partner : partners) partner.join();
}

TEST(MpscRingWait, ALaterHandleOpensAgain) {
  MpscRing ring = MakeMpscRing();
  ring.producer().close();
  ring.consumer().close();
  {
    auto consumer = ring.consumer();
    EXPECT_EQ(consumer.wait(), RingWait::kClosed);
    auto producer = ring.producer();
    EXPECT_FALSE(producer.closed());
    EXPECT_FALSE(consumer.closed());
    EXPECT_EQ(consumer.wait(Until(absl::Milliseconds(1))),
              RingWait::kDeadlineExceeded);
    ASSERT_EQ(producer.push(Text()), RingRoom::kRoom);
    EXPECT_EQ(consumer.wait(), RingWait::kReady);
  }
}

// Producers and the consumer, all of which sleep over and over: a wake that is lost
// stands still for ever. Messages carry who sent them and a number.
struct Message {
  uint64_t sender;
  uint64_t number;
};

template <class WaitForRoom>
void SendAll(MpscRing::Producer& producer, uint64_t sender, uint64_t messages,
             WaitForRoom wait_for_room) {
  std::vector<std::byte> bytes(700);
  for (uint64_t number = 0; number < messages; ++number) {
    const Message message = {sender, number};
    const size_t size = sizeof(message) + (number * 37 + sender) % 600;
    std::memcpy(bytes.data(), &message, sizeof(message));
    while (producer.push(std::span(bytes).first(size)) == RingRoom::kFull) {
      wait_for_room(size);
    }
  }
}

template <class Wait>
void ReceiveAll(MpscRing::Consumer& consumer, size_t senders, Wait wait) {
  std::vector<uint64_t> next(senders);
  while (wait()) {
    while (const auto bytes = consumer.next()) {
      Message message;
      std::memcpy(&message, bytes->data(), sizeof(message));
      ASSERT_LT(message.sender, senders);
      ASSERT_EQ(message.number, next[message.sender]++);
    }
    consumer.release();
  }
}

void RunThreads(int producers, bool by_event) {
  MpscRing ring = MakeMpscRing();
  const auto messages = static_cast<uint64_t>(Scaled(20'000, 1'000'000));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(producers));
  for (int i = 0; i < producers; ++i) {
    threads.emplace_back([&, i, by_event = by_event && i % 2 == 0,
                          producer = ring.producer()]() mutable {
      auto own = std::move(producer);
      std::optional<int> event;
      if (by_event) event = *own.event();
      SendAll(own, static_cast<uint64_t>(i), messages, [&](size_t size) {
        if (!event) {
          ASSERT_EQ(own.wait(size, kSleepAtOnce), RingWait::kReady);
        } else if (own.arm(size) == RingWait::kArmed) {
          ASSERT_TRUE(IsReadable(*event, absl::Seconds(60)));
        }
      });
      own.close();
    });
  }
  auto consumer = ring.consumer();
  const absl::StatusOr<int> event = consumer.event();
  ASSERT_THAT(event, IsOk());
  ReceiveAll(consumer, static_cast<size_t>(producers), [&] {
    if (!by_event) return consumer.wait(kSleepAtOnce) == RingWait::kReady;
    for (;;) {
      const RingWait armed = consumer.arm();
      if (armed != RingWait::kArmed) return armed == RingWait::kReady;
      EXPECT_TRUE(IsReadable(*event, absl::Seconds(60)));
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ring.statistics().messages,
            messages * static_cast<uint64_t>(producers));
}

TEST(MpscRingWait, NoWakeIsLostOfOneProducer) { RunThreads(1, false); }
TEST(MpscRingWait, NoWakeIsLostOfThree) { RunThreads(3, false); }
TEST(MpscRingEvent, NoneIsLostOfOneProducer) { RunThreads(1, true); }
TEST(MpscRingEvent, NoneIsLostOfThree) { RunThreads(3, true); }

TEST(MpscRingWait, WithoutMembarrierWakesArriveAllTheSame) {
  MpscRing ring = MakeMpscRing();
  const FaultPlan plan(
      {.call = Call::kMembarrier, .error = EPERM, .sticky = true});
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  EXPECT_EQ(consumer.wait(Until(kBeyondTrial)), RingWait::kDeadlineExceeded);
  EXPECT_TRUE(plan.fired());
  std::thread partner([consumer = std::move(consumer)]() mutable {
    auto own = std::move(consumer);
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(own.wait(kSleepAtOnce), RingWait::kReady);
      ASSERT_TRUE(own.next().has_value());
    }
  });
  for (int i = 0; i < 10; ++i) {
    absl::SleepFor(kBeyondTrial);
    ASSERT_EQ(producer.push(Text()), RingRoom::kRoom);
  }
  partner.join();
}

// --- Events. ---

TEST(MpscRingEvent, TellsTheConsumerOfAMessageAndOfTheEnd) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const absl::StatusOr<int> event = consumer.event();
  ASSERT_THAT(event, IsOk());
  EXPECT_EQ(*consumer.event(), *event) << "one for the ring's life";
  ASSERT_EQ(consumer.arm(), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  ASSERT_EQ(producer.push(Text()), RingRoom::kRoom);
  EXPECT_TRUE(IsReadable(*event));
  EXPECT_EQ(consumer.arm(), RingWait::kReady) << "no event will come";
  EXPECT_FALSE(IsReadable(*event));
  EXPECT_TRUE(consumer.next());
  ASSERT_EQ(consumer.arm(), RingWait::kArmed);
  producer.close();
  EXPECT_TRUE(IsReadable(*event)) << "the end is an event";
  EXPECT_EQ(consumer.arm(), RingWait::kClosed);
}

TEST(MpscRingEvent, TellsEachProducerOfRoom) {
  MpscRing ring = MakeMpscRing();
  auto first = ring.producer();
  auto second = ring.producer();
  auto consumer = ring.consumer();
  const absl::StatusOr<int> event = first.event();
  const absl::StatusOr<int> other_event = second.event();
  ASSERT_THAT(event, IsOk());
  ASSERT_THAT(other_event, IsOk());
  EXPECT_NE(*event, *other_event);
  EXPECT_EQ(first.arm(8), RingWait::kReady);
  Fill(first);
  ASSERT_EQ(first.arm(8), RingWait::kArmed);
  ASSERT_EQ(second.arm(8), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  EXPECT_TRUE(consumer.next());
  consumer.release();
  EXPECT_TRUE(IsReadable(*event));
  EXPECT_TRUE(IsReadable(*other_event));
  ASSERT_EQ(first.push(Text()), RingRoom::kRoom);
  EXPECT_EQ(second.arm(8), RingWait::kArmed) << "the other took the room";
  consumer.close();
  EXPECT_TRUE(IsReadable(*other_event)) << "the end is an event";
  EXPECT_EQ(second.arm(8), RingWait::kClosed);
}

// A producer's event is its own until its end, and then another's.
TEST(MpscRingEvent, MovesWithItsHandleAndIsTakenAgain) {
  MpscRing ring = MakeMpscRing();
  std::optional<MpscRing::Producer> first(ring.producer());
  const absl::StatusOr<int> event = first->event();
  ASSERT_THAT(event, IsOk());
  {
    MpscRing::Producer moved(*std::move(first));
    first.reset();
    EXPECT_EQ(*moved.event(), *event);
    auto second = ring.producer();
    EXPECT_NE(*second.event(), *event);
    second = std::move(moved);
    EXPECT_EQ(*second.event(), *event);
  }
  auto third = ring.producer();
  auto fourth = ring.producer();
  EXPECT_TRUE(*third.event() == *event || *fourth.event() == *event);
}

TEST(MpscRingEvent, FailsWhereItCouldBeMissed) {
  MpscRing ring = MakeMpscRing();
  auto consumer = ring.consumer();
  auto producer = ring.producer();
  for (const Call call : {Call::kMembarrier, Call::kEventfd}) {
    const FaultPlan plan({.call = call, .error = ENOSYS, .sticky = true});
    EXPECT_FALSE(consumer.event().ok());
    EXPECT_FALSE(producer.event().ok());
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_THAT(consumer.event(), IsOk());
  EXPECT_THAT(producer.event(), IsOk());
}

}  // namespace
}  // namespace doppel
