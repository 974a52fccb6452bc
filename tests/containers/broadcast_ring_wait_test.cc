// SPDX-License-Identifier: Apache-2.0
//
// The writer of a ring of many readers, and the readers, wait for each other: by
// sleeping, by an event, until a deadline or the end.

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/containers/ring_wait.h"
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
using ::doppel::testing::Scaled;
using ::doppel::testing::Until;

using Back = BroadcastRing<uint64_t>;
using Over = OverwritingRing<uint64_t>;

template <class Ring>
Ring MakeRing() {
  absl::StatusOr<Ring> ring = Ring::Create(1);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

template <class Ring>
typename Ring::Reader Join(Ring& ring) {
  absl::StatusOr<typename Ring::Reader> reader = ring.reader();
  EXPECT_THAT(reader, IsOk());
  return *std::move(reader);
}

void Push(Back::Writer& writer, uint64_t item) {
  ASSERT_TRUE(writer.try_push(item));
}
void Push(Over::Writer& writer, uint64_t item) { writer.push(item); }

void Fill(Back::Writer& writer) {
  while (writer.try_push(0)) {
  }
}

// --- What readers of both rings do. ---

template <class Ring>
class ReaderWait : public ::testing::Test {};
using Rings = ::testing::Types<Back, Over>;
TYPED_TEST_SUITE(ReaderWait, Rings);

TYPED_TEST(ReaderWait, WhatIsThereIsNotWaitedFor) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  Push(writer, 1);
  const CallCounter counter;
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(counter.total(), 0);
}

TYPED_TEST(ReaderWait, NoSystemCallWhileNobodyWaits) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  // After a wait that ended, too.
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  const CallCounter counter;
  for (uint64_t i = 0; i < 3 * ring.capacity(); ++i) {
    Push(writer, i);
    EXPECT_EQ(reader.try_pop(), i);
  }
  EXPECT_EQ(counter.total(), 0);
}

TYPED_TEST(ReaderWait, ADeadlineEndsIt) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  const absl::Time begin = absl::Now();
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(20))),
            RingWait::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(20));
  EXPECT_EQ(reader.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  Push(writer, 1);
  EXPECT_EQ(reader.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kReady);
  EXPECT_EQ(reader.wait(2, {.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
}

TYPED_TEST(ReaderWait, ASleeperCostsNoCpu) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  ExpectSleepsThrough([&](const auto& until) { return reader.wait(1, until); });
}

TYPED_TEST(ReaderWait, APushWakesAllReaders) {
  auto ring = MakeRing<TypeParam>();
  std::vector<std::thread> partners;
  partners.reserve(3);
  for (uint64_t wanted = 1; wanted <= 3; ++wanted) {
    partners.emplace_back([wanted, reader = Join(ring)]() mutable {
      auto own = std::move(reader);
      EXPECT_EQ(own.wait(wanted, kSleepAtOnce), RingWait::kReady);
      EXPECT_GE(own.size(), wanted);
    });
  }
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 3; ++i) {
    absl::SleepFor(absl::Milliseconds(5));
    Push(writer, i);
  }
  for (std::thread& partner : partners) partner.join();
}

TYPED_TEST(ReaderWait, TheWritersEndWakesAllReadersWhichGetTheRest) {
  auto ring = MakeRing<TypeParam>();
  std::vector<std::thread> partners;
  partners.reserve(2);
  for (int i = 0; i < 2; ++i) {
    partners.emplace_back([reader = Join(ring)]() mutable {
      auto own = std::move(reader);
      EXPECT_EQ(own.wait(5, kSleepAtOnce), RingWait::kClosed);
      EXPECT_TRUE(own.closed());
      EXPECT_EQ(own.wait(2), RingWait::kReady);
      EXPECT_EQ(own.try_pop(), 7);
      EXPECT_EQ(own.try_pop(), 8);
      EXPECT_EQ(own.wait(), RingWait::kClosed);
    });
  }
  auto writer = ring.writer();
  Push(writer, 7);
  Push(writer, 8);
  absl::SleepFor(absl::Milliseconds(10));
  writer.close();
  for (std::thread& partner : partners) partner.join();
}

TYPED_TEST(ReaderWait, ALaterWriterOpensAgain) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  ring.writer().close();
  EXPECT_EQ(reader.wait(), RingWait::kClosed);
  auto writer = ring.writer();
  EXPECT_FALSE(reader.closed());
  EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(1))),
            RingWait::kDeadlineExceeded);
  Push(writer, 1);
  EXPECT_EQ(reader.wait(), RingWait::kReady);
}

TYPED_TEST(ReaderWait, EventsTell) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  auto other = Join(ring);
  auto writer = ring.writer();
  const absl::StatusOr<int> event = reader.event();
  const absl::StatusOr<int> other_event = other.event();
  ASSERT_THAT(event, IsOk());
  ASSERT_THAT(other_event, IsOk());
  EXPECT_NE(*event, *other_event);
  EXPECT_EQ(*reader.event(), *event) << "one for the reader's life";
  ASSERT_EQ(reader.arm(2), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  Push(writer, 1);
  EXPECT_TRUE(IsReadable(*event)) << "each item tells it";
  EXPECT_FALSE(IsReadable(*other_event)) << "it is not armed";
  ASSERT_EQ(reader.arm(2), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  Push(writer, 2);
  EXPECT_TRUE(IsReadable(*event));
  EXPECT_EQ(reader.arm(2), RingWait::kReady);
  EXPECT_FALSE(IsReadable(*event));
  std::array<uint64_t, 2> items{};
  EXPECT_EQ(reader.pop(items), 2);
  ASSERT_EQ(reader.arm(), RingWait::kArmed);
  writer.close();
  EXPECT_TRUE(IsReadable(*event)) << "the end is an event";
  EXPECT_EQ(reader.arm(), RingWait::kClosed);
}

TYPED_TEST(ReaderWait, EventsFailWhereTheyCouldBeMissed) {
  auto ring = MakeRing<TypeParam>();
  auto reader = Join(ring);
  for (const Call call : {Call::kMembarrier, Call::kEventfd}) {
    const FaultPlan plan({.call = call, .error = ENOSYS, .sticky = true});
    EXPECT_FALSE(reader.event().ok());
    EXPECT_TRUE(plan.fired());
  }
  EXPECT_THAT(reader.event(), IsOk());
}

// Who has a seat after one that left it armed is not told what that one asked.
TYPED_TEST(ReaderWait, AnEventIsNotTheNextReaders) {
  auto ring = MakeRing<TypeParam>();
  auto writer = ring.writer();
  int event = -1;
  {
    auto reader = Join(ring);
    event = *reader.event();
    ASSERT_EQ(reader.arm(), RingWait::kArmed);
  }
  auto reader = Join(ring);
  Push(writer, 1);
  EXPECT_FALSE(IsReadable(event));
  EXPECT_EQ(*reader.event(), event);
  EXPECT_EQ(reader.arm(), RingWait::kReady);
}

TYPED_TEST(ReaderWait, WithoutMembarrierWakesArriveAllTheSame) {
  auto ring = MakeRing<TypeParam>();
  const FaultPlan plan(
      {.call = Call::kMembarrier, .error = EPERM, .sticky = true});
  auto reader = Join(ring);
  EXPECT_EQ(reader.wait(1, Until(kBeyondTrial)), RingWait::kDeadlineExceeded);
  EXPECT_TRUE(plan.fired());
  std::thread partner([reader = std::move(reader)]() mutable {
    auto own = std::move(reader);
    for (uint64_t i = 0; i < 10; ++i) {
      ASSERT_EQ(own.wait(1, kSleepAtOnce), RingWait::kReady);
      ASSERT_EQ(own.try_pop(), i);
    }
  });
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 10; ++i) {
    absl::SleepFor(kBeyondTrial);
    Push(writer, i);
  }
  partner.join();
}

// --- The writer waits for the slowest. ---

TEST(BroadcastRingWait, TheWriterHasRoomWithoutReaders) {
  Back ring = MakeRing<Back>();
  auto writer = ring.writer();
  const CallCounter counter;
  EXPECT_EQ(writer.wait(ring.capacity()), RingWait::kReady);
  EXPECT_EQ(counter.total(), 0);
}

TEST(BroadcastRingWait, ADeadlineEndsTheWriters) {
  Back ring = MakeRing<Back>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  Fill(writer);
  EXPECT_EQ(writer.wait(1, Until(absl::Milliseconds(5))),
            RingWait::kDeadlineExceeded);
  const CallCounter counter;
  EXPECT_EQ(writer.wait(1, {.deadline = absl::InfinitePast(),
                            .spin = absl::ZeroDuration()}),
            RingWait::kDeadlineExceeded);
  const int calls = counter.total();
  reader.consume(reader.peek().size());
  Fill(writer);
  EXPECT_EQ(counter.total(), calls) << "nobody waits any more";
}

TEST(BroadcastRingWait, TheSlowestReaderWakesTheWriter) {
  Back ring = MakeRing<Back>();
  auto slow = Join(ring);
  auto quick = Join(ring);
  std::atomic<bool> woken = false;
  std::thread partner([&woken, writer = ring.writer()]() mutable {
    auto own = std::move(writer);
    Fill(own);
    EXPECT_EQ(own.wait(2, kSleepAtOnce), RingWait::kReady);
    woken = true;
    EXPECT_TRUE(own.try_push(1) && own.try_push(2));
  });
  ASSERT_EQ(slow.wait(ring.capacity(), kSleepAtOnce), RingWait::kReady);
  quick.consume(quick.peek().size());
  absl::SleepFor(absl::Milliseconds(5));
  EXPECT_FALSE(woken) << "not all have gone on";
  EXPECT_TRUE(slow.try_pop());
  absl::SleepFor(absl::Milliseconds(5));
  EXPECT_FALSE(woken) << "two are wanted";
  EXPECT_TRUE(slow.try_pop());
  partner.join();
}

TEST(BroadcastRingWait, AReaderThatLeavesWakesTheWriter) {
  Back ring = MakeRing<Back>();
  std::optional<Back::Reader> reader(Join(ring));
  std::thread partner([writer = ring.writer()]() mutable {
    auto own = std::move(writer);
    Fill(own);
    EXPECT_EQ(own.wait(own.capacity(), kSleepAtOnce), RingWait::kReady);
  });
  ASSERT_EQ(reader->wait(ring.capacity(), kSleepAtOnce), RingWait::kReady);
  absl::SleepFor(absl::Milliseconds(10));
  reader.reset();
  partner.join();
}

TEST(BroadcastRingWait, AnAssignmentToAReaderWakesTheWriter) {
  Back ring = MakeRing<Back>();
  Back other = MakeRing<Back>();
  auto reader = Join(ring);
  std::thread partner([writer = ring.writer()]() mutable {
    auto own = std::move(writer);
    Fill(own);
    EXPECT_EQ(own.wait(1, kSleepAtOnce), RingWait::kReady);
  });
  ASSERT_EQ(reader.wait(ring.capacity(), kSleepAtOnce), RingWait::kReady);
  absl::SleepFor(absl::Milliseconds(10));
  reader = Join(other);
  partner.join();
}

TEST(BroadcastRingWait, WhoeverWaitsHandsOverFirst) {
  Back ring = MakeRing<Back>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  ASSERT_FALSE(writer.reserve(ring.capacity()).empty());
  writer.stage(ring.capacity());
  EXPECT_EQ(writer.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  EXPECT_EQ(reader.peek().size(), ring.capacity()) << "it was published";
  reader.finish(ring.capacity());
  EXPECT_EQ(reader.wait(1, {.deadline = absl::InfinitePast()}),
            RingWait::kDeadlineExceeded);
  EXPECT_EQ(writer.free(), ring.capacity()) << "it was released";
}

TEST(BroadcastRingEvent, TellsTheWriterOfRoom) {
  Back ring = MakeRing<Back>();
  auto slow = Join(ring);
  std::optional<Back::Reader> quick(Join(ring));
  auto writer = ring.writer();
  const absl::StatusOr<int> event = writer.event();
  ASSERT_THAT(event, IsOk());
  EXPECT_EQ(writer.arm(), RingWait::kReady);
  Fill(writer);
  ASSERT_EQ(writer.arm(2), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*event));
  EXPECT_EQ(slow.peek().size(), ring.capacity());
  slow.consume(1);
  EXPECT_FALSE(IsReadable(*event)) << "two were asked for";
  slow.consume(1);
  EXPECT_TRUE(IsReadable(*event)) << "for all that this reader knows";
  ASSERT_EQ(writer.arm(2), RingWait::kArmed) << "the other has not gone on";
  quick.reset();
  EXPECT_TRUE(IsReadable(*event)) << "who leaves tells it";
  EXPECT_EQ(writer.arm(2), RingWait::kReady);
}

// All sleep over and over, with wants of all sizes; less than half of the ring each, or
// they would wait for each other. Readers come and go.
void RunThreads(int readers, bool by_event) {
  Back ring = MakeRing<Back>();
  const auto items = static_cast<uint64_t>(Scaled(100'000, 10'000'000));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(readers));
  for (int i = 0; i < readers; ++i) {
    threads.emplace_back([&, i, reader = Join(ring)]() mutable {
      std::optional<Back::Reader> own(std::move(reader));
      std::optional<int> event;
      const bool comes_again = i % 3 == 2;
      if (by_event && i % 2 == 0) event = *own->event();
      std::optional<uint64_t> expected = 0;
      uint64_t sessions = 0;
      for (uint64_t turn = 0;; ++turn) {
        uint64_t wanted = 1 + (turn * 17 + static_cast<uint64_t>(i)) % 200;
        RingWait result = RingWait::kReady;
        if (!event) {
          result = own->wait(wanted, kSleepAtOnce);
        } else {
          while ((result = own->arm(wanted)) == RingWait::kArmed) {
            ASSERT_TRUE(IsReadable(*event, absl::Seconds(60)));
          }
        }
        if (result == RingWait::kClosed) wanted = own->size();
        const auto shown = own->peek(wanted);
        ASSERT_GE(shown.size(), wanted);
        for (const uint64_t item : shown) {
          if (expected) {
            ASSERT_EQ(item, *expected);
          }
          expected = item + 1;
        }
        own->consume(shown.size());
        if (result == RingWait::kClosed) break;
        if (!comes_again || turn % 50 != 49) continue;
        own.reset();
        own.emplace(Join(ring));
        if (event) event = *own->event();
        expected.reset();
        ++sessions;
      }
      EXPECT_TRUE(comes_again || expected == items);
      EXPECT_TRUE(!comes_again || sessions > 0);
    });
  }
  auto writer = ring.writer();
  const absl::StatusOr<int> event = writer.event();
  ASSERT_THAT(event, IsOk());
  for (uint64_t next = 0; next < items;) {
    const uint64_t n = std::min(1 + next % 250, items - next);
    if (!by_event) {
      ASSERT_EQ(writer.wait(n, kSleepAtOnce), RingWait::kReady);
    } else {
      while (writer.arm(n) == RingWait::kArmed) {
        ASSERT_TRUE(IsReadable(*event, absl::Seconds(60)));
      }
    }
    const auto slots = writer.reserve(n);
    ASSERT_EQ(slots.size(), n);
    for (uint64_t& slot : slots) slot = next++;
    writer.commit(n);
  }
  writer.close();
  for (std::thread& thread : threads) thread.join();
}

TEST(BroadcastRingWait, NoWakeIsLostOfOneReader) { RunThreads(1, false); }
TEST(BroadcastRingWait, NoWakeIsLostOfThree) { RunThreads(3, false); }
TEST(BroadcastRingEvent, NoneIsLostOfOneReader) { RunThreads(1, true); }
TEST(BroadcastRingEvent, NoneIsLostOfThree) { RunThreads(3, true); }

// Each item is pushed when all have seen the one before, so that all sleep.
TEST(OverwritingRingWait, NoWakeIsLost) {
  Over ring = MakeRing<Over>();
  const auto items = static_cast<uint64_t>(Scaled(10'000, 500'000));
  std::atomic<uint64_t> seen{0};
  std::vector<std::thread> threads;
  threads.reserve(2);
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, reader = Join(ring)]() mutable {
      auto own = std::move(reader);
      for (uint64_t next = 0; own.wait(1, kSleepAtOnce) == RingWait::kReady;) {
        while (const std::optional<uint64_t> item = own.try_pop()) {
          ASSERT_EQ(*item, next++);
          seen.fetch_add(1);
          seen.notify_all();
        }
      }
      EXPECT_EQ(own.lost(), 0);
    });
  }
  auto writer = ring.writer();
  for (uint64_t item = 0; item < items; ++item) {
    for (uint64_t now = seen.load(); now < 2 * item; now = seen.load()) {
      seen.wait(now);
    }
    writer.push(item);
  }
  writer.close();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen.load(), 2 * items);
}

// A reader that waits for a batch beside a writer that never rests is overrun, and goes
// on where its wait has taken it.
TEST(OverwritingRingWait, AReaderIsOverrunWhileItWaits) {
  Over ring = MakeRing<Over>();
  std::atomic<bool> stop{false};
  std::thread sender([&ring, &stop] {
    auto writer = ring.writer();
    for (uint64_t number = 0; !stop.load(std::memory_order_relaxed);) {
      writer.push(number++);
    }
    writer.close();
  });
  auto reader = Join(ring);
  const size_t most = ring.capacity() - ring.capacity() / 16;
  std::vector<uint64_t> items(most);
  std::optional<uint64_t> last;
  for (size_t turn = 0; turn < 2'000; ++turn) {
    ASSERT_EQ(reader.wait(1 + turn % most, kSleepAtOnce), RingWait::kReady);
    const size_t n = reader.pop(items);
    for (const uint64_t item : std::span(items).first(n)) {
      ASSERT_TRUE(!last || item > *last);
      last = item;
    }
  }
  stop = true;
  sender.join();
}

}  // namespace
}  // namespace doppel
