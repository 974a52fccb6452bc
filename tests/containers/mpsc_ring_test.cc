// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/mpsc_ring.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/alloc/page_size.h"
#include "doppel/tests/containers/mpsc_ring_support.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Bytes;
using ::doppel::testing::MakeMpscRing;
using ::doppel::testing::Next;
using ::doppel::testing::Skip;
using ::doppel::testing::Text;

constexpr bool kCanonical = internal::Mirror::kMaxViews == 1;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(MpscRing, CapacityRoundsUpToPages) {
  const MpscRing ring = MakeMpscRing(1);
  EXPECT_EQ(ring.capacity_bytes(), BasePageBytes());
  EXPECT_EQ(ring.memory_bytes(), BasePageBytes());
  EXPECT_EQ(ring.max_message_bytes(),
            BasePageBytes() / (kCanonical ? 2 : 1) - 8);
  EXPECT_EQ(MakeMpscRing(2 * BasePageBytes() + 1).capacity_bytes(),
            3 * BasePageBytes());
}

TEST(MpscRing, StartsEmpty) {
  MpscRing ring = MakeMpscRing();
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.size_bytes(), 0);
  auto consumer = ring.consumer();
  EXPECT_EQ(consumer.next(), std::nullopt);
  EXPECT_EQ(consumer.pop({}), std::nullopt);
  consumer.release();
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRing, MessagesComeOutInTheOrderOfTheirClaims) {
  MpscRing ring = MakeMpscRing();
  auto first = ring.producer();
  auto second = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(first.push(Bytes("a")), RingRoom::kRoom);
  const MessageReservation open = second.reserve(2);
  ASSERT_TRUE(open);
  ASSERT_EQ(first.push(Bytes("third")), RingRoom::kRoom);
  EXPECT_EQ(Next(consumer), "a");
  EXPECT_EQ(Next(consumer), "none") << "the second is not committed";
  std::ranges::copy(Bytes("bb"), open.payload.begin());
  EXPECT_EQ(Next(consumer), "none");
  second.commit(2);
  EXPECT_EQ(Next(consumer), "bb");
  EXPECT_EQ(Next(consumer), "third");
  EXPECT_EQ(Next(consumer), "none");
}

TEST(MpscRing, EmptyMessagesAreMessages) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(producer.push({}), RingRoom::kRoom);
  const MessageReservation space = producer.reserve(0);
  ASSERT_TRUE(space);
  EXPECT_TRUE(space.payload.empty());
  producer.commit(0);
  const MessageReservation emptied = producer.reserve(100);
  ASSERT_TRUE(emptied);
  producer.commit(0);
  for (int i = 0; i < 3; ++i) {
    const auto message = consumer.next();
    ASSERT_TRUE(message.has_value());
    EXPECT_TRUE(message->empty());
  }
  EXPECT_EQ(consumer.next(), std::nullopt);
  EXPECT_EQ(ring.size_bytes(), 8 + 8 + 112);
}

TEST(MpscRing, CommitOfLessHandsOverLess) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  for (uint64_t lap = 0; lap < ring.capacity_bytes() / 4; ++lap) {
    const MessageReservation space = producer.reserve(64);
    ASSERT_TRUE(space);
    ASSERT_EQ(space.payload.size(), 64);
    std::ranges::fill(space.payload, static_cast<std::byte>('x'));
    producer.commit(lap % 65);
    ASSERT_EQ(producer.push(Bytes("after")), RingRoom::kRoom);
    ASSERT_EQ(Next(consumer), std::string(lap % 65, 'x'));
    ASSERT_EQ(Next(consumer), "after");
    consumer.release();
  }
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRing, AbortedReservationsArePassed) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(producer.push(Bytes("a")), RingRoom::kRoom);
  for (int i = 0; i < 3; ++i) {
    const MessageReservation space = producer.reserve(20);
    ASSERT_TRUE(space);
    std::ranges::fill(space.payload, std::byte{0xff});
    producer.abort();
  }
  ASSERT_EQ(producer.push(Bytes("b")), RingRoom::kRoom);
  EXPECT_EQ(Next(consumer), "a");
  EXPECT_EQ(Next(consumer), "b");
  consumer.release();
  EXPECT_TRUE(ring.empty());
}

// There is no message to release, and the space must come back all the same.
TEST(MpscRing, ARingFullOfAbortedReservationsEmpties) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  for (int lap = 0; lap < 3; ++lap) {
    while (producer.reserve(24)) producer.abort();
    ASSERT_GT(ring.size_bytes(), ring.capacity_bytes() - 32);
    EXPECT_EQ(consumer.next(), std::nullopt);
    EXPECT_TRUE(ring.empty());
  }
  // A lap of exactly the capacity.
  for (uint64_t i = 0; i < ring.capacity_bytes(); i += 8) {
    ASSERT_TRUE(producer.reserve(0));
    producer.abort();
  }
  EXPECT_EQ(ring.size_bytes(), ring.capacity_bytes());
  EXPECT_EQ(consumer.pop({}), std::nullopt);
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRing, SeveralAreShownBeforeTheyAreReleased) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(producer.push(Bytes("one")), RingRoom::kRoom);
  ASSERT_EQ(producer.push(Bytes("two")), RingRoom::kRoom);
  const auto one = consumer.next();
  const auto two = consumer.next();
  ASSERT_TRUE(one && two);
  while (producer.push(Bytes("more")) == RingRoom::kRoom) {
  }
  EXPECT_EQ(Text(*one), "one");
  EXPECT_EQ(Text(*two), "two");
  const uint64_t before = ring.size_bytes();
  consumer.release();
  EXPECT_EQ(ring.size_bytes(), before - 32);
  EXPECT_EQ(Next(consumer), "more");
}

// Shown again after a lap would be shown twice.
TEST(MpscRing, AFullRingIsShownOnce) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const uint64_t messages = ring.capacity_bytes() / 16;
  for (int lap = 0; lap < 3; ++lap) {
    for (uint64_t i = 0; i < messages; ++i) {
      ASSERT_EQ(producer.push(Bytes("full")), RingRoom::kRoom);
    }
    ASSERT_EQ(producer.push({}), RingRoom::kFull);
    for (uint64_t i = 0; i < messages; ++i) ASSERT_EQ(Next(consumer), "full");
    ASSERT_EQ(Next(consumer), "none");
    consumer.release();
    ASSERT_EQ(Next(consumer), "none");
  }
  EXPECT_EQ(ring.statistics().messages, 3 * messages);
}

TEST(MpscRing, WhatIsReleasedHasRoomAtOnce) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  while (producer.push(Bytes("12345678")) == RingRoom::kRoom) {
  }
  for (uint64_t i = 0; i < ring.capacity_bytes(); ++i) {
    ASSERT_EQ(Next(consumer), "12345678");
    consumer.release();
    ASSERT_EQ(producer.push(Bytes("12345678")), RingRoom::kRoom);
    ASSERT_EQ(producer.push({}), RingRoom::kFull);
  }
}

// Invariants 4 and 5: at every place an empty ring takes the longest message, whole
// and aligned.
TEST(MpscRing, EveryPlaceTakesTheLongestMessage) {
  MpscRing ring = MakeMpscRing();
  const uint64_t longest = ring.max_message_bytes();
  for (uint64_t place = 0; place < ring.capacity_bytes(); place += 8) {
    auto producer = ring.producer();
    const MessageReservation space = producer.reserve(longest);
    ASSERT_TRUE(space) << place;
    ASSERT_EQ(space.payload.size(), longest);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(space.payload.data()) % 8, 0);
    std::ranges::fill(space.payload, static_cast<std::byte>(place / 8 | 1));
    producer.commit(longest);
    auto consumer = ring.consumer();
    const auto message = consumer.next();
    ASSERT_TRUE(message.has_value());
    ASSERT_EQ(message->size(), longest);
    ASSERT_TRUE(std::ranges::all_of(*message, [place](std::byte b) {
      return b == static_cast<std::byte>(place / 8 | 1);
    }));
    consumer.release();
    ASSERT_TRUE(ring.empty());
    ASSERT_EQ(producer.push({}), RingRoom::kRoom);
    ASSERT_EQ(Next(consumer), "");
    consumer.release();
  }
}

TEST(MpscRing, PopCopiesAndKeepsWhatDoesNotFit) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  ASSERT_EQ(producer.push(Bytes("12345")), RingRoom::kRoom);
  ASSERT_EQ(producer.push({}), RingRoom::kRoom);
  std::array<std::byte, 5> buffer{};
  EXPECT_EQ(consumer.pop(std::span(buffer).first(4)), 5);
  EXPECT_EQ(buffer[0], std::byte{0}) << "nothing was copied";
  EXPECT_EQ(ring.size_bytes(), 24);
  EXPECT_EQ(consumer.pop(buffer), 5);
  EXPECT_EQ(Text(buffer), "12345");
  EXPECT_EQ(ring.size_bytes(), 8);
  EXPECT_EQ(consumer.pop({}), 0);
  EXPECT_EQ(consumer.pop(buffer), std::nullopt);
  EXPECT_TRUE(ring.empty());
}

// Invariant 3.
TEST(MpscRing, ASlowProducerHoldsUpTheConsumerOnly) {
  MpscRing ring = MakeMpscRing();
  auto slow = ring.producer();
  auto quick = ring.producer();
  auto consumer = ring.consumer();
  const MessageReservation open = slow.reserve(40);
  ASSERT_TRUE(open);
  std::ranges::fill(open.payload, static_cast<std::byte>('s'));
  uint64_t sent = 0;
  while (quick.push(Bytes("quick")) == RingRoom::kRoom) ++sent;
  EXPECT_EQ(sent, (ring.capacity_bytes() - 48) / 16);
  EXPECT_EQ(Next(consumer), "none");
  consumer.release();
  EXPECT_EQ(quick.push({}), RingRoom::kFull);
  slow.commit(40);
  EXPECT_EQ(Next(consumer), std::string(40, 's'));
  for (uint64_t i = 0; i < sent; ++i) ASSERT_EQ(Next(consumer), "quick");
  consumer.release();
  EXPECT_TRUE(ring.empty());
}

// Invariant 6.
TEST(MpscRing, AnExceptionAbortsWhatWasReserved) {
  MpscRing ring = MakeMpscRing();
  auto other = ring.producer();
  auto consumer = ring.consumer();
  try {
    auto producer = ring.producer();
    ASSERT_TRUE(producer.reserve(100));
    ASSERT_EQ(other.push(Bytes("behind")), RingRoom::kRoom);
    throw std::runtime_error("while it was written");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(Next(consumer), "behind");
  consumer.release();
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRing, AReservationMovesWithItsHandle) {
  MpscRing ring = MakeMpscRing();
  MpscRing other_ring = MakeMpscRing();
  auto consumer = ring.consumer();
  {
    auto producer = ring.producer();
    const MessageReservation space = producer.reserve(3);
    ASSERT_TRUE(space);
    auto moved = std::move(producer);
    std::ranges::copy(Bytes("abc"), space.payload.begin());
    moved.commit(3);
    EXPECT_EQ(Next(consumer), "abc");
    ASSERT_TRUE(moved.reserve(5));
    // Assignment ends the old side, and so aborts what it holds.
    moved = other_ring.producer();
    ASSERT_EQ(moved.push(Bytes("other")), RingRoom::kRoom);
  }
  EXPECT_EQ(Next(consumer), "none");
  auto producer = ring.producer();
  ASSERT_EQ(producer.push(Bytes("def")), RingRoom::kRoom);
  EXPECT_EQ(Next(consumer), "def");
  EXPECT_EQ(other_ring.size_bytes(), 16);
}

TEST(MpscRing, MovesWithItsHandles) {
  MpscRing first = MakeMpscRing();
  std::optional<MpscRing> second;  // Outlives the handles.
  auto producer = first.producer();
  ASSERT_EQ(producer.push(Bytes("1")), RingRoom::kRoom);
  second.emplace(std::move(first));
  ASSERT_EQ(producer.push(Bytes("2")), RingRoom::kRoom);
  auto consumer = second->consumer();
  EXPECT_EQ(Next(consumer), "1");
  auto moved = std::move(consumer);
  EXPECT_EQ(Next(moved), "2");
  consumer = std::move(moved);
  consumer.release();
  EXPECT_TRUE(second->empty());
  first = MakeMpscRing();
  EXPECT_TRUE(first.empty());
}

TEST(MpscRing, WhatWasNotReleasedIsShownToTheNextConsumer) {
  MpscRing ring = MakeMpscRing();
  Skip(ring, ring.capacity_bytes() - 24);
  auto producer = ring.producer();
  for (const std::string_view text : {"a", "b", "c"}) {
    ASSERT_EQ(producer.push(Bytes(text)), RingRoom::kRoom);
  }
  {
    auto consumer = ring.consumer();
    EXPECT_EQ(Next(consumer), "a");
    consumer.release();
    EXPECT_EQ(Next(consumer), "b");
    EXPECT_EQ(Next(consumer), "c");
  }
  auto consumer = ring.consumer();
  EXPECT_EQ(Next(consumer), "b");
  EXPECT_EQ(Next(consumer), "c");
  consumer.release();
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.statistics().messages, (ring.capacity_bytes() - 24) / 8 + 3);
}

TEST(MpscRing, StatisticsCountMessagesRefusalsAndTheMost) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  EXPECT_EQ(ring.statistics().messages, 0);
  EXPECT_EQ(ring.statistics().refusals, 0);
  EXPECT_EQ(ring.statistics().stalls, 0);
  EXPECT_EQ(ring.statistics().high_water_bytes, 0);
  uint64_t sent = 0;
  while (producer.push(Bytes("12345678")) == RingRoom::kRoom) ++sent;
  EXPECT_EQ(producer.push({}), RingRoom::kFull);
  EXPECT_EQ(producer.push({}), RingRoom::kFull);
  EXPECT_EQ(ring.statistics().refusals, 3);
  EXPECT_EQ(ring.statistics().stalls, 1);
  EXPECT_EQ(ring.statistics().high_water_bytes, ring.capacity_bytes());
  while (consumer.next()) {
  }
  EXPECT_EQ(ring.statistics().messages, 0) << "shown, not handed back";
  consumer.release();
  EXPECT_EQ(ring.statistics().messages, sent);
  (void)producer.reserve(kMax).room;
  EXPECT_EQ(ring.statistics().refusals, 3) << "what never fits is not refused";
  while (producer.push(Bytes("12345678")) == RingRoom::kRoom) {
  }
  EXPECT_EQ(producer.push({}), RingRoom::kFull);
  EXPECT_EQ(ring.statistics().refusals, 5);
  EXPECT_EQ(ring.statistics().stalls, 2);
}

// Stale bytes of a lap are never taken for headers of the next: payloads look like
// headers, and frames of the next lap begin in their midst.
TEST(MpscRing, StaleBytesAreNoHeaders) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const uint64_t lie = internal::MpscHeader::Message(8, 16).word();
  for (uint64_t round = 0; round < ring.capacity_bytes(); ++round) {
    const MessageReservation space = producer.reserve(8 * (1 + round % 61));
    ASSERT_TRUE(space);
    for (size_t i = 0; i < space.payload.size(); i += 8) {
      std::memcpy(space.payload.data() + i, &lie, sizeof(lie));
    }
    switch (round % 3) {
      case 0:
        producer.abort();
        break;
      case 1:
        producer.commit(0);
        break;
      default:
        producer.commit(space.payload.size());
    }
    const auto message = consumer.next();
    ASSERT_EQ(message.has_value(), round % 3 != 0);
    if (message) {
      ASSERT_EQ(message->size(), round % 3 == 1 ? 0 : 8 * (1 + round % 61));
    }
    consumer.release();
    ASSERT_EQ(consumer.next(), std::nullopt);
    ASSERT_TRUE(ring.empty());
  }
}

}  // namespace
}  // namespace doppel
