// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/message.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/ring_writer.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::Scaled;
using ::testing::ElementsAreArray;

constexpr size_t kHeaderBytes = sizeof(MessageHeader);

SpscRing<> MakeRing(size_t min_capacity = 1, const RingOptions& options = {}) {
  absl::StatusOr<SpscRing<>> ring = SpscRing<>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

// A payload that tells its number and each byte's place.
std::vector<std::byte> Payload(size_t bytes, uint64_t number) {
  std::vector<std::byte> payload(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    payload[i] = static_cast<std::byte>(number * 167 + i * 13 + 1);
  }
  return payload;
}

// What is shown next, copied; nothing if there is none.
std::optional<std::vector<std::byte>> Next(MessageReader& reader) {
  const auto shown = reader.next();
  if (!shown) return std::nullopt;
  return std::vector<std::byte>(shown->begin(), shown->end());
}

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
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  if (auto space = writer.reserve(100); space) {
    ASSERT_EQ(space.payload.size(), 100);
    std::memcpy(space.payload.data(), "abc", 3);
    writer.commit(3);
    EXPECT_FALSE(reader.next().has_value()) << "not published";
    writer.publish();
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
  SpscRing<> ring = MakeRing();
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
    SpscRing<> ring = MakeRing(1, {.line_ownership = owns});
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
  SpscRing<> ring = MakeRing();
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
    SpscRing<> ring = MakeRing(1, {.line_ownership = owns});
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
  SpscRing<> ring = MakeRing();
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
  SpscRing<> ring = MakeRing();
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
  SpscRing<> ring = MakeRing();
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
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  for (uint64_t round = 0; round < 300; ++round) {
    for (uint64_t i = 0; i < 5; ++i) {
      const std::vector<std::byte> payload = Payload(37 * i, round + i);
      const MessageReservation space = writer.reserve(payload.size());
      ASSERT_TRUE(space);
      std::ranges::copy(payload, space.payload.begin());
      writer.commit(payload.size());
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
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  for (size_t keep = 0; keep <= 300; ++keep) {
    const MessageReservation space = writer.reserve(300);
    ASSERT_TRUE(space);
    std::ranges::copy(Payload(300, keep), space.payload.begin());
    writer.commit(keep);
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
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  ASSERT_TRUE(writer.reserve(20));
  writer.commit(20);
  ASSERT_TRUE(writer.reserve(ring.capacity() / 2));
  writer.abort();
  writer.abort();                    // Of nothing.
  ASSERT_TRUE(writer.reserve(100));  // Forgotten by the next.
  const MessageReservation space = writer.reserve(4);
  ASSERT_TRUE(space);
  std::ranges::copy(Payload(4, 7), space.payload.begin());
  writer.commit(4);
  writer.publish();
  EXPECT_EQ(reader.next()->size(), 20);
  EXPECT_EQ(Next(reader), Payload(4, 7));
  EXPECT_FALSE(reader.next().has_value());
}

TEST(Message, WhatIsCommittedAndNotPublishedGoesWithTheHandle) {
  SpscRing<> ring = MakeRing();
  {
    MessageWriter writer(ring.writer());
    ASSERT_TRUE(writer.reserve(20));
    writer.commit(20);
  }
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  EXPECT_FALSE(reader.next().has_value());
  ASSERT_EQ(writer.push(Payload(3, 1)), RingRoom::kRoom);
  EXPECT_EQ(Next(reader), Payload(3, 1));
}

TEST(Message, TooBigIsNotFull) {
  SpscRing<> ring = MakeRing();
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
  SpscRing<> ring = MakeRing();
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
  writer.commit(0);
  writer.publish();
  EXPECT_EQ(reader.pop({}), 0);
  EXPECT_EQ(reader.pop({}), std::nullopt);
}

// --- pop. ---

TEST(Message, PopCopiesAndReleases) {
  SpscRing<> ring = MakeRing();
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

// --- Ends and waiting. ---

TEST(Message, ClosedAndDrainedIsTheEnd) {
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  ASSERT_EQ(writer.push(Payload(3, 1)), RingRoom::kRoom);
  EXPECT_FALSE(reader.closed());
  writer.close();
  EXPECT_TRUE(reader.closed());
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(Next(reader), Payload(3, 1));
  EXPECT_EQ(reader.wait(), RingWait::kClosed);
  EXPECT_FALSE(reader.next().has_value());
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_FALSE(writer.closed());
  reader.close();
  EXPECT_TRUE(writer.closed());
  EXPECT_EQ(writer.wait(writer.max_message_bytes()), RingWait::kClosed);
  EXPECT_EQ(writer.wait(1), RingWait::kReady);
}

TEST(Message, WaitsForWhatIsNotShownYet) {
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  const auto soon = [] {
    return RingWaitOptions{.deadline = absl::Now() + absl::Milliseconds(2)};
  };
  EXPECT_EQ(reader.wait(soon()), RingWait::kDeadlineExceeded);
  ASSERT_EQ(writer.push(Payload(3, 1)), RingRoom::kRoom);
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(reader.wait(), RingWait::kReady);
  EXPECT_EQ(Next(reader), Payload(3, 1));
  EXPECT_EQ(reader.wait(soon()), RingWait::kDeadlineExceeded);
  reader.release();
  EXPECT_EQ(reader.wait(soon()), RingWait::kDeadlineExceeded);
}

// A reader makes room only of what it sees: a wait for room must publish.
TEST(Message, TheWritersWaitPublishes) {
  SpscRing<> ring = MakeRing();
  std::thread partner([reader = MessageReader(ring.reader())]() mutable {
    uint64_t number = 0;
    while (reader.wait() == RingWait::kReady) {
      while (const auto message = reader.next()) {
        ASSERT_EQ(message->size(), 1500);
        ++number;
      }
      reader.release();
    }
    EXPECT_EQ(number, 100);
  });
  MessageWriter writer(ring.writer());
  for (int i = 0; i < 100; ++i) {
    if (!writer.reserve(1500)) {
      ASSERT_EQ(writer.wait(1500), RingWait::kReady);
      ASSERT_TRUE(writer.reserve(1500));
    }
    writer.commit(1500);
  }
  writer.publish();
  writer.close();
  partner.join();
}

bool IsReadable(int fd) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&polled, 1, 0) == 1;
}

TEST(Message, EventsTellOfMessagesAndOfRoom) {
  SpscRing<> ring = MakeRing();
  MessageWriter writer(ring.writer());
  MessageReader reader(ring.reader());
  const absl::StatusOr<int> message = reader.event();
  const absl::StatusOr<int> room = writer.event();
  ASSERT_THAT(message, IsOk());
  ASSERT_THAT(room, IsOk());
  const size_t most = writer.max_message_bytes();
  EXPECT_EQ(writer.arm(most), RingWait::kReady);
  ASSERT_EQ(reader.arm(), RingWait::kArmed);
  ASSERT_TRUE(writer.reserve(100));
  writer.commit(100);
  EXPECT_FALSE(IsReadable(*message));
  ASSERT_EQ(writer.arm(most), RingWait::kArmed) << "and publishes";
  EXPECT_TRUE(IsReadable(*message));
  EXPECT_EQ(reader.arm(), RingWait::kReady);
  ASSERT_TRUE(reader.next().has_value());
  ASSERT_EQ(reader.arm(), RingWait::kArmed) << "for one that was not shown";
  EXPECT_FALSE(IsReadable(*message));
  EXPECT_FALSE(IsReadable(*room));
  reader.release();
  EXPECT_TRUE(IsReadable(*room));
  ASSERT_EQ(reader.arm(), RingWait::kArmed);
  writer.close();
  EXPECT_TRUE(IsReadable(*message)) << "the end is an event";
  EXPECT_EQ(reader.arm(), RingWait::kClosed);
  EXPECT_FALSE(reader.peer_gone() || writer.peer_gone())
      << "it is this process";
}

// --- Two processes. ---

// A writer that ends leaves what it published; what it only committed is forgotten, and
// a new writer goes on after it.
TEST(MessageProcesses, WhatAnEndedWriterPublishedIsReadWhole) {
  absl::StatusOr<SharedRing<>> ring = SharedRing<>::Create(1);
  ASSERT_THAT(ring, IsOk());
  absl::StatusOr<RingInvitation> invitation = ring->Invite();
  ASSERT_THAT(invitation, IsOk());
  Child child([&] {
    absl::StatusOr<SharedRing<>> mine =
        SharedRing<>::Attach(*std::move(invitation));
    if (!mine.ok()) return 1;
    *ring = *std::move(mine);
    absl::StatusOr<RingWriter<>> handle = ring->writer();
    if (!handle.ok()) return 2;
    MessageWriter writer(*std::move(handle));
    for (uint64_t i = 0; i < 2'000; ++i) {
      while (writer.push(Payload(i, i)) != RingRoom::kRoom) {
        if (writer.wait(i) != RingWait::kReady) return 3;
      }
    }
    if (writer.wait(100) != RingWait::kReady) return 4;
    if (!writer.reserve(100)) return 5;
    writer.commit(100);
    _exit(0);  // Without an end of the handle.
  });
  invitation = absl::CancelledError();  // The child's alone.
  absl::StatusOr<RingReader<>> handle = ring->reader();
  ASSERT_THAT(handle, IsOk());
  MessageReader reader(*std::move(handle));
  for (uint64_t i = 0; i < 2'000; ++i) {
    ASSERT_EQ(reader.wait(), RingWait::kReady);
    ASSERT_EQ(Next(reader), Payload(i, i));
    reader.release();
  }
  EXPECT_EQ(reader.wait(), RingWait::kPeerGone);
  EXPECT_TRUE(reader.peer_gone());
  EXPECT_TRUE(Exited(child.Wait(), 0));
  absl::StatusOr<RingWriter<>> next_handle = ring->writer();
  ASSERT_THAT(next_handle, IsOk());
  MessageWriter writer(*std::move(next_handle));
  ASSERT_EQ(writer.push(Payload(7, 7)), RingRoom::kRoom);
  EXPECT_EQ(Next(reader), Payload(7, 7));
  EXPECT_THAT(reader.status(), IsOk());
}

// --- Two threads. ---

class MessageThreads : public ::testing::TestWithParam<LineOwnership> {};

INSTANTIATE_TEST_SUITE_P(LineOwnership, MessageThreads,
                         ::testing::Values(LineOwnership::kOn,
                                           LineOwnership::kOff),
                         [](const auto& info) {
                           return info.param == LineOwnership::kOn ? "On"
                                                                   : "Off";
                         });

// Lengths of all kinds, in batches of all kinds on both sides.
TEST_P(MessageThreads, PassMessagesInBatches) {
  SpscRing<> ring = MakeRing(1, {.line_ownership = GetParam()});
  const auto messages = static_cast<uint64_t>(Scaled(50'000, 20'000'000));
  const auto length = [](uint64_t number) { return number * 37 % 700; };
  std::thread producer([&, writer = MessageWriter(ring.writer())]() mutable {
    for (uint64_t i = 0; i < messages; ++i) {
      MessageReservation space = writer.reserve(length(i) + i % 9);
      while (!space) {
        ASSERT_EQ(space.room, RingRoom::kFull);
        writer.publish();
        std::this_thread::yield();
        space = writer.reserve(length(i) + i % 9);
      }
      for (size_t j = 0; j < length(i); ++j) {
        space.payload[j] = static_cast<std::byte>(i + j);
      }
      writer.commit(length(i));
      if (i % 5 == 0) writer.publish();
    }
    writer.publish();
    writer.close();
  });
  MessageReader reader(ring.reader());
  uint64_t number = 0;
  uint64_t wrong = 0;
  while (reader.wait() == RingWait::kReady) {
    while (const auto message = reader.next()) {
      wrong += message->size() != length(number) ? 1 : 0;
      for (size_t j = 0; j < message->size(); ++j) {
        wrong += (*message)[j] != static_cast<std::byte>(number + j) ? 1 : 0;
      }
      ++number;
      if (number % 7 == 0) break;
    }
    reader.release();
  }
  producer.join();
  EXPECT_EQ(number, messages);
  EXPECT_EQ(wrong, 0);
  EXPECT_THAT(reader.status(), IsOk());
}

TEST_P(MessageThreads, SleepOnBothSides) {
  SpscRing<> ring = MakeRing(1, {.line_ownership = GetParam()});
  const auto messages = static_cast<uint64_t>(Scaled(5'000, 1'000'000));
  constexpr RingWaitOptions kSleepAtOnce = {.spin = absl::ZeroDuration()};
  std::thread producer([&, writer = MessageWriter(ring.writer())]() mutable {
    for (uint64_t i = 0; i < messages;) {
      const size_t bytes = i * 101 % (writer.max_message_bytes() + 1);
      if (writer.push(Payload(bytes, i)) == RingRoom::kRoom) {
        ++i;
      } else {
        ASSERT_EQ(writer.wait(bytes, kSleepAtOnce), RingWait::kReady);
      }
    }
    writer.close();
  });
  MessageReader reader(ring.reader());
  std::vector<std::byte> buffer(ring.capacity());
  uint64_t number = 0;
  while (reader.wait(kSleepAtOnce) == RingWait::kReady) {
    const std::optional<size_t> bytes = reader.pop(buffer);
    ASSERT_TRUE(bytes.has_value());
    ASSERT_TRUE(std::ranges::equal(std::span(buffer).first(*bytes),
                                   Payload(*bytes, number)));
    ++number;
  }
  producer.join();
  EXPECT_EQ(number, messages);
}

}  // namespace
}  // namespace doppel
