// SPDX-License-Identifier: Apache-2.0
//
// Messages whose sides wait, end, and stand in other threads and processes.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/ring_writer.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/containers/message_support.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::IsReadable;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::MakeByteRing;
using ::doppel::testing::Next;
using ::doppel::testing::Payload;
using ::doppel::testing::Scaled;

TEST(MessageWaiting, ClosedAndDrainedIsTheEnd) {
  SpscRing<> ring = MakeByteRing();
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

TEST(MessageWaiting, WaitsForWhatIsNotShownYet) {
  SpscRing<> ring = MakeByteRing();
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
TEST(MessageWaiting, TheWritersWaitPublishes) {
  SpscRing<> ring = MakeByteRing();
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
    writer.stage(1500);
  }
  writer.publish();
  writer.close();
  partner.join();
}

TEST(MessageWaiting, EventsTellOfMessagesAndOfRoom) {
  SpscRing<> ring = MakeByteRing();
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
  writer.stage(100);
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
    writer.stage(100);
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
  SpscRing<> ring = MakeByteRing(1, {.line_ownership = GetParam()});
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
      writer.stage(length(i));
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
  SpscRing<> ring = MakeByteRing(1, {.line_ownership = GetParam()});
  const auto messages = static_cast<uint64_t>(Scaled(5'000, 1'000'000));
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
