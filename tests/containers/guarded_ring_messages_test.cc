// SPDX-License-Identifier: Apache-2.0
//
// Messages over the byte handles of a guarded ring, within a process and between two,
// with a peer that dies (for one that lies, guarded_ring_lies_test.cc).

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/lanes.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/containers/message_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::NumberedPayload;
using ::doppel::testing::Payload;

constexpr uint64_t kPage = 4096;

bool IsNumbered(std::span<const std::byte> message, uint64_t number) {
  return std::ranges::equal(message, NumberedPayload(number));
}

// A ring whose two sides are in this process.
struct Pair {
  Pair()
      : producer(GuardedProducer<>::Create(1)),
        consumer(GuardedConsumer<>::Attach(*producer->Invite())) {
    EXPECT_THAT(consumer, IsOk());
    EXPECT_THAT(producer->Accept(), IsOk());
  }
  absl::StatusOr<GuardedProducer<>> producer;
  absl::StatusOr<GuardedConsumer<>> consumer;
};

// The two ends of a socket by which an invitation goes to a child.
struct Sockets {
  Sockets() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0); }
  ~Sockets() {
    for (const int end : ends) close(end);
  }
  std::array<int, 2> ends = {-1, -1};
};

// Makes a ring and gives it away; nothing if that failed.
std::optional<GuardedProducer<>> Offer(int socket) {
  auto producer = GuardedProducer<>::Create(1);
  if (!producer.ok() || !producer->Invite()->Send(socket).ok()) {
    return std::nullopt;
  }
  if (!producer->Accept(absl::Now() + absl::Seconds(60)).ok()) {
    return std::nullopt;
  }
  return *std::move(producer);
}

absl::StatusOr<GuardedConsumer<>> Receive(int socket) {
  absl::StatusOr<RingInvitation> invitation = RingInvitation::Receive(socket);
  if (!invitation.ok()) return invitation.status();
  return GuardedConsumer<>::Attach(*std::move(invitation));
}

// Puts a message in, and waits for room. Whether the consumer is there.
bool Write(MessageWriter& writer, std::span<const std::byte> message) {
  for (;;) {
    if (writer.push(message) == RingRoom::kRoom) return true;
    if (writer.wait(message.size(), kSleepAtOnce) != RingWait::kReady) {
      return false;
    }
  }
}

TEST(GuardedRingMessages, Pass) {
  Pair pair;
  MessageWriter writer(*pair.producer->writer());
  MessageReader reader(*pair.consumer->reader());
  EXPECT_EQ(writer.max_message_bytes(), kPage - sizeof(MessageHeader));
  uint64_t read = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    while (writer.push(NumberedPayload(i)) == RingRoom::kFull) {
      while (const auto message = reader.next()) {
        ASSERT_TRUE(IsNumbered(*message, read++));
      }
      reader.release();
    }
  }
  EXPECT_GT(read, 900);
  std::array<std::byte, 501> buffer;
  for (; read < 1000; ++read) {
    const std::optional<size_t> bytes = reader.pop(buffer);
    ASSERT_TRUE(bytes.has_value());
    ASSERT_TRUE(IsNumbered(std::span(buffer).first(*bytes), read));
  }
  EXPECT_EQ(reader.pop(buffer), std::nullopt);
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_THAT(writer.status(), IsOk());
}

TEST(GuardedRingMessages, TheLongestFillsTheRing) {
  Pair pair;
  MessageWriter writer(*pair.producer->writer());
  MessageReader reader(*pair.consumer->reader());
  const std::vector<std::byte> longest = Payload(writer.max_message_bytes(), 1);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(writer.push(longest), RingRoom::kRoom);
    EXPECT_EQ(writer.push({}), RingRoom::kFull);
    const auto message = reader.next();
    ASSERT_TRUE(message.has_value());
    EXPECT_TRUE(std::ranges::equal(*message, longest));
    reader.release();
  }
  EXPECT_EQ(writer.reserve(longest.size() + 1).room, RingRoom::kTooBig);
}

// Both wait for the other, and the reader gets all, the end too.
TEST(GuardedRingMessages, ProcessesWaitForEachOther) {
  constexpr uint64_t kMessages = 20'000;
  Sockets sockets;
  Child child([&] {
    auto producer = Offer(sockets.ends[1]);
    if (!producer.has_value()) return 1;
    MessageWriter writer(*producer->writer());
    for (uint64_t i = 0; i < kMessages; ++i) {
      if (!Write(writer, NumberedPayload(i))) return 2;
    }
    writer.close();
    // The consumer has taken all, and closes: who waits for room is told.
    return writer.wait(writer.max_message_bytes(), kSleepAtOnce) ==
                       RingWait::kReady &&
                   writer.status().ok()
               ? 0
               : 3;
  });
  auto consumer = Receive(sockets.ends[0]);
  ASSERT_THAT(consumer, IsOk());
  MessageReader reader(*consumer->reader());
  uint64_t read = 0;
  while (reader.wait(kSleepAtOnce) == RingWait::kReady) {
    while (const auto message = reader.next()) {
      ASSERT_TRUE(IsNumbered(*message, read)) << read;
      ++read;
    }
    reader.release();
  }
  EXPECT_EQ(read, kMessages);
  EXPECT_TRUE(reader.closed());
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

// What is committed and not published goes with the writer; what is published stays.
TEST(GuardedRingMessages, WhatADeadProducerPublishedIsRead) {
  constexpr uint64_t kMessages = 5;
  Sockets sockets;
  Child child([&] {
    auto producer = Offer(sockets.ends[1]);
    if (!producer.has_value()) return 1;
    MessageWriter writer(*producer->writer());
    for (uint64_t i = 0; i < 2 * kMessages; ++i) {
      const std::vector<std::byte> message = NumberedPayload(i);
      const MessageReservation space = writer.reserve(message.size());
      if (!space) return 2;
      std::ranges::copy(message, space.payload.begin());
      writer.stage(message.size());
      if (i + 1 == kMessages) writer.publish();
    }
    // And one that is half written.
    if (!writer.reserve(100)) return 3;
    if (write(sockets.ends[1], "x", 1) != 1) return 4;
    for (;;) pause();
  });
  auto consumer = Receive(sockets.ends[0]);
  ASSERT_THAT(consumer, IsOk());
  char written = 0;
  ASSERT_EQ(read(sockets.ends[0], &written, 1), 1);
  EXPECT_TRUE(DiedOf(child.Kill(), SIGKILL));
  MessageReader reader(*consumer->reader());
  for (uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(reader.wait(kSleepAtOnce), RingWait::kReady);
    const auto message = reader.next();
    ASSERT_TRUE(message.has_value());
    EXPECT_TRUE(IsNumbered(*message, i));
  }
  EXPECT_EQ(reader.wait(kSleepAtOnce), RingWait::kPeerGone);
  EXPECT_EQ(reader.next(), std::nullopt);
  reader.release();
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_EQ(consumer->statistics().pushed, consumer->statistics().popped);
}

// Killed at any moment: the messages before it are whole, and none is shown twice.
TEST(GuardedRingMessages, AProducerKilledAtAnyMoment) {
  for (int round = 0; round < 20; ++round) {
    Sockets sockets;
    Child child([&] {
      auto producer = Offer(sockets.ends[1]);
      if (!producer.has_value()) return 1;
      MessageWriter writer(*producer->writer());
      for (uint64_t i = 0; Write(writer, NumberedPayload(i)); ++i) {
      }
      return 2;
    });
    auto consumer = Receive(sockets.ends[0]);
    ASSERT_THAT(consumer, IsOk());
    MessageReader reader(*consumer->reader());
    const uint64_t until = static_cast<uint64_t>(round) * 97;
    uint64_t read = 0;
    RingWait waited = RingWait::kReady;
    while ((waited = reader.wait(kSleepAtOnce)) == RingWait::kReady) {
      while (const auto message = reader.next()) {
        ASSERT_TRUE(IsNumbered(*message, read)) << read;
        if (read++ == until) child.Kill();
      }
      reader.release();
    }
    EXPECT_EQ(waited, RingWait::kPeerGone);
    EXPECT_THAT(reader.status(), IsOk());
    EXPECT_GT(read, until);
  }
}

TEST(GuardedRingMessages, AConsumerThatDiesEndsTheWait) {
  auto producer = GuardedProducer<>::Create(1);
  ASSERT_THAT(producer, IsOk());
  std::optional<RingInvitation> invitation = *producer->Invite();
  Child child([&] {
    auto consumer = GuardedConsumer<>::Attach(*std::move(invitation));
    if (!consumer.ok()) return 1;
    producer = absl::CancelledError();  // Its end of the link.
    MessageReader reader(*consumer->reader());
    for (uint64_t i = 0; i < 10; ++i) {
      if (reader.wait(kSleepAtOnce) != RingWait::kReady) return 2;
      if (!IsNumbered(*reader.next(), i)) return 3;
      reader.release();
    }
    return 0;
  });
  invitation.reset();
  ASSERT_THAT(producer->Accept(absl::Now() + absl::Seconds(60)), IsOk());
  MessageWriter writer(*producer->writer());
  uint64_t written = 0;
  while (Write(writer, NumberedPayload(written))) ++written;
  EXPECT_TRUE(Exited(child.Wait(), 0));
  EXPECT_GE(written, 10);
  EXPECT_TRUE(writer.peer_gone());
  EXPECT_EQ(writer.wait(writer.max_message_bytes(), kSleepAtOnce),
            RingWait::kPeerGone);
  EXPECT_THAT(writer.status(), IsOk());
}

// Producers that do not trust each other, nor are trusted: a lane each.
TEST(GuardedRingMessages, InLanes) {
  constexpr size_t kProducers = 3;
  constexpr uint64_t kMessages = 2000;
  std::vector<GuardedConsumer<>> consumers;
  Lanes<MessageReader> lanes;
  std::vector<std::unique_ptr<Child>> children;
  for (size_t i = 0; i < kProducers; ++i) {
    Sockets sockets;
    children.push_back(std::make_unique<Child>([&] {
      consumers.clear();
      auto producer = Offer(sockets.ends[1]);
      if (!producer.has_value()) return 1;
      MessageWriter writer(*producer->writer());
      for (uint64_t n = 0; n < kMessages; ++n) {
        if (!Write(writer, NumberedPayload(n))) return 2;
      }
      return 0;  // Without closing.
    }));
    consumers.push_back(*Receive(sockets.ends[0]));
    ASSERT_THAT(lanes.Add(MessageReader(*consumers.back().reader())), IsOk());
  }
  std::array<uint64_t, kProducers> read = {};
  while (lanes.size() > 0) {
    if (lanes.wait(kSleepAtOnce) == RingWait::kReady) {
      MessageReader* reader = lanes.Next();
      while (const auto message = reader->next()) {
        ASSERT_TRUE(IsNumbered(*message, read[lanes.current()]++));
      }
      reader->release();
    }
    for (const auto& ended : lanes.RemoveEnded()) {
      EXPECT_EQ(ended.why, RingWait::kPeerGone);
    }
  }
  for (const uint64_t n : read) EXPECT_EQ(n, kMessages);
  for (const auto& child : children) EXPECT_TRUE(Exited(child->Wait(), 0));
}

}  // namespace
}  // namespace doppel
