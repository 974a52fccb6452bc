// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/message.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/containers/message_support.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::MakeByteRing;
using ::doppel::testing::Next;
using ::doppel::testing::Payload;
using ::doppel::testing::Scaled;
using ::testing::ElementsAreArray;

constexpr size_t kHeaderBytes = sizeof(MessageHeader);

// Moves both sides of an empty ring forward by `bytes`, a multiple of 8.
void Skip(SpscRing<>& ring, size_t bytes) {
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_EQ(writer.reserve(bytes).size(), bytes);
  writer.commit(bytes);
  ASSERT_GE(reader.peek(bytes).size(), bytes);
  reader.consume(bytes);
}

// --- What goes in comes out. ---

TEST(Message, TheExampleOfTheHeader) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  if (auto space = writer.reserve(100); space) {
    ASSERT_EQ(space.payload.size(), 100);
    std::memcpy(space.payload.data(), "abc", 3);
    writer.commit(3);
  }
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  const auto message = reader.next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(std::memcmp(message->data(), "abc", 3), 0);
  EXPECT_EQ(message->size(), 3);
  EXPECT_FALSE(reader.next().has_value());
  reader.release();
  EXPECT_TRUE(ring.empty());
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_THAT(writer.status(), IsOk());
}

TEST(Message, TheBytesAreTheLayout) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  auto bytes = ring.reader();
  const std::array<std::byte, 3> three = {std::byte{0xa1}, std::byte{0xa2},
                                          std::byte{0xa3}};
  ASSERT_EQ(writer.push(three), RingRoom::kRoom);
  ASSERT_EQ(writer.push({}), RingRoom::kRoom);
  ASSERT_EQ(writer.push(Payload(0x108, 0)), RingRoom::kRoom);
  const auto seen = bytes.peek(16 + 8 + 8 + 0x108);
  ASSERT_EQ(seen.size(), 16 + 8 + 8 + 0x108);
  if constexpr (std::endian::native == std::endian::little) {
    const std::array<unsigned char, 11> golden = {3, 0, 0,    0,    0,   0,
                                                  0, 0, 0xa1, 0xa2, 0xa3};
    EXPECT_EQ(std::memcmp(seen.data(), golden.data(), golden.size()), 0);
    const std::array<unsigned char, 16> golden_next = {0, 0, 0, 0, 0, 0, 0, 0,
                                                       8, 1, 0, 0, 0, 0, 0, 0};
    EXPECT_EQ(std::memcmp(&seen[16], golden_next.data(), golden_next.size()),
              0);
  }
  EXPECT_THAT(seen.subspan(32), ElementsAreArray(Payload(0x108, 0)));
}

TEST(Message, FramesAreMultiplesOfEight) {
  EXPECT_EQ(MessageFrameBytes(0), 8);
  EXPECT_EQ(MessageFrameBytes(1), 16);
  EXPECT_EQ(MessageFrameBytes(8), 16);
  EXPECT_EQ(MessageFrameBytes(9), 24);
  EXPECT_EQ(MessageFrameBytes(std::numeric_limits<uint32_t>::max()),
            (uint64_t{1} << 32) + 8);
}

TEST(Message, EveryLength) {
  for (const LineOwnership owns : {LineOwnership::kOn, LineOwnership::kOff}) {
    SpscRing<> ring = MakeByteRing(1, {.line_ownership = owns});
    MessageWriter writer(ring.writer());
    MessageReader reader(ring.reader());
    const auto rounds = static_cast<uint64_t>(Scaled(3, 40));
    uint64_t number = 0;
    for (uint64_t round = 0; round < rounds; ++round) {
      for (size_t bytes = 0; bytes <= 600; ++bytes, ++number) {
        const std::vector<std::byte> payload = Payload(bytes, number);
        ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
        const auto shown = reader.next();
        ASSERT_TRUE(shown.has_value());
        ASSERT_TRUE(std::ranges::equal(*shown, payload)) << bytes;
        ASSERT_EQ(reinterpret_cast<uintptr_t>(shown->data()) % 8, 0);
        reader.release();
      }
    }
    ASSERT_TRUE(ring.empty());
  }
}

TEST(Message, OneMessageAtEachPlaceOfTheWrap) {
  SpscRing<> ring = MakeByteRing();
  const size_t capacity = ring.capacity();
  for (const size_t bytes : {size_t{0}, size_t{5}, size_t{64}, size_t{333},
                             capacity - 9, capacity - kHeaderBytes}) {
    for (size_t place = 0; place < capacity; place += 8) {
      const std::vector<std::byte> payload = Payload(bytes, place);
      {
        MessageWriter writer(ring.writer());
        MessageReader reader(ring.reader());
        ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
        ASSERT_EQ(Next(reader), payload) << bytes << " at " << place;
        reader.release();
      }
      // So that the next one begins 8 bytes further.
      Skip(ring, (capacity + 8 - MessageFrameBytes(bytes)) % capacity);
    }
  }
}

TEST(Message, ManyAreShownBeforeOneRelease) {
  for (const LineOwnership owns : {LineOwnership::kOn, LineOwnership::kOff}) {
    SpscRing<> ring = MakeByteRing(1, {.line_ownership = owns});
    MessageWriter writer(ring.writer());
    MessageReader reader(ring.reader());
    uint64_t number = 0;
    for (size_t round = 0; round < 200; ++round) {
      std::vector<std::span<const std::byte>> shown;
      std::vector<std::vector<std::byte>> expected;
      // Published in pieces, so that the reader looks anew while it holds spans: they
      // must stay as they are also where what is shown later wraps.
      for (;;) {
        const std::vector<std::byte> payload = Payload(number % 201, number);
        if (writer.push(payload) != RingRoom::kRoom) break;
        ++number;
        expected.push_back(payload);
        if (number % 3 == 0) continue;
        while (const auto message = reader.next()) shown.push_back(*message);
        ASSERT_EQ(shown.size(), expected.size());
      }
      while (const auto message = reader.next()) shown.push_back(*message);
      ASSERT_EQ(shown.size(), expected.size());
      for (size_t i = 0; i < shown.size(); ++i) {
        ASSERT_TRUE(std::ranges::equal(shown[i], expected[i])) << i;
      }
      for (size_t i = 1; i < shown.size(); ++i) {
        ASSERT_TRUE(shown[i].data() >=
                        shown[i - 1].data() + shown[i - 1].size() ||
                    shown[i].data() + shown[i].size() <= shown[i - 1].data())
            << "no two are in one place";
      }
      reader.release();
      ASSERT_TRUE(ring.empty());
    }
  }
}

// Whoever shows may hand spans to other threads; they read while more is shown.
TEST(Message, SpansAreReadElsewhereWhileMoreIsShown) {
  SpscRing<> ring = MakeByteRing();
  for (size_t place = 0; place < 40; ++place) {
    MessageWriter writer(ring.writer());
    MessageReader reader(ring.reader());
    const std::vector<std::byte> payload = Payload(1000, place);
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
    }
    const auto first = reader.next();
    const auto second = reader.next();
    ASSERT_TRUE(first && second);
    std::thread elsewhere([&] {
      EXPECT_TRUE(std::ranges::equal(*first, payload));
      EXPECT_TRUE(std::ranges::equal(*second, payload));
    });
    ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
    EXPECT_EQ(Next(reader), payload);
    elsewhere.join();
    reader.release();
  }
}

TEST(Message, ShownIsHandedBackByReleaseAlone) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  const std::vector<std::byte> payload = Payload(1000, 1);
  {
    MessageReader reader(ring.reader());
    for (int i = 0; i < 4; ++i) {
      ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
    }
    ASSERT_TRUE(reader.next() && reader.next());
    EXPECT_EQ(writer.reserve(1000).room, RingRoom::kFull);
    reader.release();
    EXPECT_EQ(writer.reserve(1000).room, RingRoom::kRoom);
    ASSERT_TRUE(reader.next().has_value());
    reader.release();
    ASSERT_TRUE(reader.next().has_value());
    reader.release();
    reader.release();  // Of nothing.
    EXPECT_FALSE(reader.next().has_value());
  }
  // What was shown and not released is shown again by a later handle.
  ASSERT_EQ(writer.push(payload), RingRoom::kRoom);
  for (int i = 0; i < 3; ++i) {
    MessageReader reader(ring.reader());
    EXPECT_EQ(Next(reader), payload);
    EXPECT_FALSE(reader.next().has_value());
  }
}

// next() must not touch the writer's line while it knows of a message. What a look
// finds is in the statistics.
TEST(Message, KnownMessagesAreShownWithoutALook) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(writer.push(Payload(24, 1)), RingRoom::kRoom);
  }
  ASSERT_TRUE(reader.next().has_value());
  EXPECT_EQ(ring.statistics().high_water, 64);
  ASSERT_EQ(writer.push(Payload(24, 1)), RingRoom::kRoom);
  ASSERT_TRUE(reader.next().has_value());
  EXPECT_EQ(ring.statistics().high_water, 64) << "it looked";
  ASSERT_TRUE(reader.next().has_value());
  EXPECT_EQ(ring.statistics().high_water, 96);
  EXPECT_EQ(ring.statistics().pop_refusals, 0);
  EXPECT_FALSE(reader.next().has_value());
  EXPECT_EQ(ring.statistics().pop_refusals, 1);
}

// --- Writing. ---

TEST(Message, SeveralAreSeenAtOnePublish) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  for (uint64_t round = 0; round < 300; ++round) {
    for (uint64_t i = 0; i < 5; ++i) {
      const std::vector<std::byte> payload = Payload(37 * i, round + i);
      const MessageReservation space = writer.reserve(payload.size());
      ASSERT_TRUE(space);
      std::ranges::copy(payload, space.payload.begin());
      writer.stage(payload.size());
      ASSERT_FALSE(reader.next().has_value());
    }
    writer.publish();
    for (uint64_t i = 0; i < 5; ++i) {
      ASSERT_EQ(Next(reader), Payload(37 * i, round + i));
    }
    ASSERT_FALSE(reader.next().has_value());
    reader.release();
  }
}

TEST(Message, ACommitOfLessForgetsTheRest) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  for (size_t keep = 0; keep <= 300; ++keep) {
    const MessageReservation space = writer.reserve(300);
    ASSERT_TRUE(space);
    std::ranges::copy(Payload(300, keep), space.payload.begin());
    writer.stage(keep);
    ASSERT_EQ(writer.push(Payload(9, keep)), RingRoom::kRoom);
    std::vector<std::byte> expected = Payload(300, keep);
    expected.resize(keep);
    ASSERT_EQ(Next(reader), expected);
    ASSERT_EQ(Next(reader), Payload(9, keep));
    EXPECT_EQ(ring.size(), MessageFrameBytes(keep) + MessageFrameBytes(9));
    reader.release();
  }
}

TEST(Message, AnAbortedReservationLeavesNothing) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  ASSERT_TRUE(writer.reserve(20));
  writer.stage(20);
  ASSERT_TRUE(writer.reserve(ring.capacity() / 2));
  writer.abort();
  writer.abort();                    // Of nothing.
  ASSERT_TRUE(writer.reserve(100));  // Forgotten by the next.
  const MessageReservation space = writer.reserve(4);
  ASSERT_TRUE(space);
  std::ranges::copy(Payload(4, 7), space.payload.begin());
  writer.stage(4);
  writer.publish();
  EXPECT_EQ(reader.next()->size(), 20);
  EXPECT_EQ(Next(reader), Payload(4, 7));
  EXPECT_FALSE(reader.next().has_value());
}

TEST(Message, WhatIsCommittedAndNotPublishedGoesWithTheHandle) {
  SpscRing<> ring = MakeByteRing();
  {
    MessageWriter writer(ring.writer());
    ASSERT_TRUE(writer.reserve(20));
    writer.stage(20);
  }
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  EXPECT_FALSE(reader.next().has_value());
  ASSERT_EQ(writer.push(Payload(3, 1)), RingRoom::kRoom);
  EXPECT_EQ(Next(reader), Payload(3, 1));
}

TEST(Message, TooBigIsNotFull) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  const size_t most = writer.max_message_bytes();
  EXPECT_EQ(most, ring.capacity() - kHeaderBytes);
  for (const size_t bytes : {most + 1, most + 8, 2 * most, size_t{1} << 32,
                             std::numeric_limits<size_t>::max() - 16,
                             std::numeric_limits<size_t>::max() - 7,
                             std::numeric_limits<size_t>::max()}) {
    const MessageReservation space = writer.reserve(bytes);
    EXPECT_EQ(space.room, RingRoom::kTooBig) << bytes;
    EXPECT_TRUE(space.payload.empty());
    EXPECT_FALSE(space);
  }
  EXPECT_EQ(writer.push(Payload(most + 1, 0)), RingRoom::kTooBig);
  EXPECT_EQ(writer.push(Payload(most, 1)), RingRoom::kRoom);
  EXPECT_EQ(writer.push({}), RingRoom::kFull);
  EXPECT_EQ(writer.push(Payload(most + 1, 0)), RingRoom::kTooBig);
  EXPECT_EQ(Next(reader), Payload(most, 1));
  EXPECT_EQ(writer.push({}), RingRoom::kFull) << "shown, not released";
  reader.release();
  EXPECT_EQ(writer.push({}), RingRoom::kRoom);
  // Now the frame of an empty message is taken.
  EXPECT_EQ(writer.push(Payload(most - 7, 2)), RingRoom::kFull);
  EXPECT_EQ(writer.push(Payload(most - 8, 2)), RingRoom::kRoom);
  EXPECT_EQ(writer.push({}), RingRoom::kFull);
}

TEST(Message, EmptyMessagesAreMessages) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  size_t pushed = 0;
  while (writer.push({}) == RingRoom::kRoom) ++pushed;
  EXPECT_EQ(pushed, ring.capacity() / kHeaderBytes);
  for (size_t i = 0; i < pushed; ++i) {
    const auto message = reader.next();
    ASSERT_TRUE(message.has_value());
    ASSERT_TRUE(message->empty());
  }
  EXPECT_FALSE(reader.next().has_value());
  reader.release();
  const MessageReservation space = writer.reserve(0);
  EXPECT_TRUE(space);
  EXPECT_TRUE(space.payload.empty());
  writer.stage(0);
  writer.publish();
  EXPECT_EQ(reader.pop({}), 0);
  EXPECT_EQ(reader.pop({}), std::nullopt);
}

// --- pop. ---

TEST(Message, PopCopiesAndReleases) {
  SpscRing<> ring = MakeByteRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  std::array<std::byte, 64> buffer;
  EXPECT_EQ(reader.pop(buffer), std::nullopt);
  for (const size_t bytes : {5, 64, 65, 7}) {
    ASSERT_EQ(writer.push(Payload(bytes, bytes)), RingRoom::kRoom);
  }
  EXPECT_EQ(reader.pop(buffer), 5);
  EXPECT_THAT(std::span(buffer).first(5), ElementsAreArray(Payload(5, 5)));
  EXPECT_EQ(ring.size(), 72 + 80 + 16);
  EXPECT_EQ(Next(reader), Payload(64, 64));
  // Too small: nothing is lost, nothing released.
  buffer.fill(std::byte{9});
  EXPECT_EQ(reader.pop(buffer), 65);
  EXPECT_EQ(reader.pop({}), 65);
  EXPECT_EQ(buffer.front(), std::byte{9});
  EXPECT_EQ(ring.size(), 72 + 80 + 16);
  std::array<std::byte, 65> larger;
  EXPECT_EQ(reader.pop(larger), 65);
  EXPECT_THAT(larger, ElementsAreArray(Payload(65, 65)));
  EXPECT_EQ(ring.size(), 16) << "what was shown is released too";
  EXPECT_EQ(reader.pop({}), 7);
  EXPECT_EQ(Next(reader), Payload(7, 7));
  EXPECT_EQ(reader.pop(buffer), std::nullopt);
}

}  // namespace
}  // namespace doppel
