// SPDX-License-Identifier: Apache-2.0
//
// Messages over the byte handles of a guarded ring, within a process and between two,
// with a peer that dies and one that lies.

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/lanes.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hostile_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::HostileFile;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;

// Text i: of lengths from 0 on, so that frames lie across the wrap in every way.
std::string TextOf(uint64_t i) {
  std::string text(i * 37 % 501, static_cast<char>('a' + i % 26));
  if (text.size() >= sizeof(i)) std::memcpy(text.data(), &i, sizeof(i));
  return text;
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

bool IsText(std::span<const std::byte> message, uint64_t i) {
  const std::string text = TextOf(i);
  return message.size() == text.size() &&
         (text.empty() ||
          std::memcmp(message.data(), text.data(), text.size()) == 0);
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
bool Write(MessageWriter& writer, const std::string& text) {
  for (;;) {
    if (writer.push(BytesOf(text)) == RingRoom::kRoom) return true;
    if (writer.wait(text.size(), kSleepAtOnce) != RingWait::kReady) {
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
    const std::string text = TextOf(i);
    while (writer.push(BytesOf(text)) == RingRoom::kFull) {
      while (const auto message = reader.next()) {
        ASSERT_TRUE(IsText(*message, read++));
      }
      reader.release();
    }
  }
  EXPECT_GT(read, 900);
  std::array<std::byte, 501> buffer;
  for (; read < 1000; ++read) {
    const std::optional<size_t> bytes = reader.pop(buffer);
    ASSERT_TRUE(bytes.has_value());
    ASSERT_TRUE(IsText(std::span(buffer).first(*bytes), read));
  }
  EXPECT_EQ(reader.pop(buffer), std::nullopt);
  EXPECT_THAT(reader.status(), IsOk());
  EXPECT_THAT(writer.status(), IsOk());
}

TEST(GuardedRingMessages, TheLongestFillsTheRing) {
  Pair pair;
  MessageWriter writer(*pair.producer->writer());
  MessageReader reader(*pair.consumer->reader());
  const std::string longest(writer.max_message_bytes(), 'x');
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(writer.push(BytesOf(longest)), RingRoom::kRoom);
    EXPECT_EQ(writer.push({}), RingRoom::kFull);
    const auto message = reader.next();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->size(), longest.size());
    EXPECT_EQ(std::memcmp(message->data(), longest.data(), longest.size()), 0);
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
      if (!Write(writer, TextOf(i))) return 2;
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
      ASSERT_TRUE(IsText(*message, read)) << read;
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
      const std::string text = TextOf(i);
      const MessageReservation space = writer.reserve(text.size());
      if (!space) return 2;
      if (!text.empty()) {
        std::memcpy(space.payload.data(), text.data(), text.size());
      }
      writer.stage(text.size());
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
    EXPECT_TRUE(IsText(*message, i));
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
      for (uint64_t i = 0; Write(writer, TextOf(i)); ++i) {
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
        ASSERT_TRUE(IsText(*message, read)) << read;
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
      if (!IsText(*reader.next(), i)) return 3;
      reader.release();
    }
    return 0;
  });
  invitation.reset();
  ASSERT_THAT(producer->Accept(absl::Now() + absl::Seconds(60)), IsOk());
  MessageWriter writer(*producer->writer());
  uint64_t written = 0;
  while (Write(writer, TextOf(written))) ++written;
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
        if (!Write(writer, TextOf(n))) return 2;
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
        ASSERT_TRUE(IsText(*message, read[lanes.current()]++));
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

// --- A peer that lies. ---

// The producer's file made by hand, which holds frames made by hand.
struct HostileProducer {
  HostileProducer()
      : file({.sides = kWriterHere, .capacity_bytes = kPage, .item_bytes = 1}) {
    file.Seal();
    consumer = GuardedConsumer<>::Attach(file.Invite());
    EXPECT_THAT(consumer, IsOk());
  }

  // Stores a header, and publishes what it says.
  void Put(MessageHeader header) {
    std::memcpy(file.items() + written % kPage, &header, sizeof(header));
    written += MessageFrameBytes(header.payload_bytes);
    Publish(written);
  }
  void Publish(uint64_t position) { file.header().writer.position = position; }

  HostileFile file;
  absl::StatusOr<GuardedConsumer<>> consumer = absl::CancelledError();
  uint64_t written = 0;
};

void ExpectPoisoned(HostileProducer& peer, MessageReader& reader) {
  std::array<std::byte, kPage> buffer;
  ASSERT_THAT(reader.event(), IsOk());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(reader.next(), std::nullopt);
    EXPECT_EQ(reader.pop(buffer), std::nullopt);
    EXPECT_TRUE(reader.empty());
    EXPECT_EQ(reader.wait(), RingWait::kDataLoss);
    EXPECT_EQ(reader.arm(), RingWait::kDataLoss);
    EXPECT_THAT(reader.status(), StatusIs(absl::StatusCode::kDataLoss));
    // Who tells the truth again is not believed.
    peer.Put({});
  }
}

TEST(GuardedRingMessagesRegression, FramesMadeByHandAreTaken) {
  HostileProducer peer;
  MessageReader reader(*peer.consumer->reader());
  for (uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{8}, uint64_t{4064}}) {
    peer.Put({.payload_bytes = static_cast<uint32_t>(bytes)});
    const auto message = reader.next();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->size(), bytes);
    reader.release();
  }
  EXPECT_THAT(reader.status(), IsOk());
}

TEST(GuardedRingMessagesRegression, APositionThatLiesPoisonsTheReader) {
  for (const uint64_t lie :
       {kPage + 1, kPage + 8, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    SCOPED_TRACE(absl::StrCat(lie));
    HostileProducer peer;
    MessageReader reader(*peer.consumer->reader());
    peer.Put({.payload_bytes = 8});
    ASSERT_TRUE(reader.next().has_value());
    peer.Publish(lie);
    ExpectPoisoned(peer, reader);
    reader.release();  // What was shown can still be handed back.
    EXPECT_EQ(peer.consumer->statistics().popped, 16);
  }
}

// A position within a header, or before what was known.
TEST(GuardedRingMessagesRegression, APositionThatIsNoFramesPoisonsTheReader) {
  for (const uint64_t lie : {uint64_t{0}, uint64_t{8}, uint64_t{15},
                             uint64_t{17}, uint64_t{20}, uint64_t{23}}) {
    SCOPED_TRACE(absl::StrCat(lie));
    HostileProducer peer;
    MessageReader reader(*peer.consumer->reader());
    peer.Put({.payload_bytes = 8});
    ASSERT_TRUE(reader.next().has_value());
    peer.Publish(lie);
    ExpectPoisoned(peer, reader);
  }
}

TEST(GuardedRingMessagesRegression, AHeaderThatLiesPoisonsTheReader) {
  for (const MessageHeader lie :
       {MessageHeader{.payload_bytes = 9},
        MessageHeader{.payload_bytes = kPage - 8},
        MessageHeader{.payload_bytes = kPage},
        MessageHeader{.payload_bytes = 0x8000'0000},
        MessageHeader{.payload_bytes = UINT32_MAX},
        MessageHeader{.payload_bytes = 8, .reserved = 1},
        MessageHeader{.payload_bytes = UINT32_MAX, .reserved = UINT32_MAX}}) {
    SCOPED_TRACE(absl::StrCat(lie.payload_bytes, " ", lie.reserved));
    HostileProducer peer;
    MessageReader reader(*peer.consumer->reader());
    std::memcpy(peer.file.items(), &lie, sizeof(lie));
    peer.Publish(16);
    EXPECT_EQ(reader.next(), std::nullopt);
    EXPECT_THAT(reader.status(),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr(absl::StrCat(lie.payload_bytes))));
    ExpectPoisoned(peer, reader);
  }
}

// A double fetch (XSA-155, bhyve SA-24:17): the length changes after it was looked at.
TEST(GuardedRingMessagesRegression, ALengthThatChangesIsLoadedOnce) {
  HostileProducer peer;
  MessageReader reader(*peer.consumer->reader());
  peer.Put({.payload_bytes = 8});
  ASSERT_EQ(reader.wait(), RingWait::kReady);  // Has looked at the header.
  const MessageHeader lie = {.payload_bytes = 4000};
  std::memcpy(peer.file.items(), &lie, sizeof(lie));
  std::array<std::byte, 8> buffer;
  EXPECT_EQ(reader.pop(buffer), 8);
  EXPECT_THAT(reader.status(), IsOk());
}

// A reader that is made anew, in the middle of what it never took.
TEST(GuardedRingMessagesRegression, PoisonOutlivesTheHandle) {
  HostileProducer peer;
  {
    MessageReader reader(*peer.consumer->reader());
    peer.Publish(UINT64_MAX);
    EXPECT_EQ(reader.next(), std::nullopt);
  }
  peer.Publish(0);
  peer.Put({});
  MessageReader reader(*peer.consumer->reader());
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_THAT(reader.status(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(GuardedRingMessagesRegression, AConsumerThatLiesPoisonsTheWriter) {
  for (const uint64_t lie : {kPage + 1, uint64_t{1} << 63, UINT64_MAX}) {
    HostileFile file({.sides = kReaderHere, .item_bytes = 1});
    file.Seal();
    auto producer = GuardedProducer<>::Create(1);
    ASSERT_THAT(producer, IsOk());
    file.Answer(*producer->Invite());
    ASSERT_THAT(producer->Accept(), IsOk());
    MessageWriter writer(*producer->writer());
    ASSERT_EQ(writer.push(BytesOf("12345678")), RingRoom::kRoom);
    file.header().reader.position = lie;
    // What was free before stays so, and there is no more than that.
    const std::string text(100, 'x');
    size_t pushed = 0;
    while (writer.push(BytesOf(text)) == RingRoom::kRoom) ++pushed;
    EXPECT_EQ(pushed, (kPage - 16) / MessageFrameBytes(text.size()));
    EXPECT_THAT(writer.status(), StatusIs(absl::StatusCode::kDataLoss));
    file.header().reader.position = 16;
    EXPECT_EQ(writer.push(BytesOf(text)), RingRoom::kFull);
    EXPECT_EQ(writer.reserve(kPage).room, RingRoom::kTooBig);
    EXPECT_EQ(writer.wait(text.size()), RingWait::kDataLoss);
    ASSERT_THAT(writer.event(), IsOk());
    EXPECT_EQ(writer.arm(text.size()), RingWait::kDataLoss);
  }
}

// The lies come from another process, which then dies of nothing that it did here.
TEST(GuardedRingMessagesRegression, AProcessThatLiesIsRemovedFromItsLane) {
  auto honest = GuardedProducer<>::Create(1);
  ASSERT_THAT(honest, IsOk());
  auto trusted = GuardedConsumer<>::Attach(*honest->Invite());
  ASSERT_THAT(trusted, IsOk());
  ASSERT_THAT(honest->Accept(), IsOk());
  HostileFile file(
      {.sides = kWriterHere, .capacity_bytes = kPage, .item_bytes = 1});
  file.Seal();
  auto consumer = GuardedConsumer<>::Attach(file.Invite());
  ASSERT_THAT(consumer, IsOk());
  Child liar([&] {
    const MessageHeader frame = {.payload_bytes = 24};
    const MessageHeader lie = {.payload_bytes = 0x7fff'ffff};
    std::memcpy(file.items(), &frame, sizeof(frame));
    std::memcpy(file.items() + 32, &lie, sizeof(lie));
    file.header().writer.position.store(64, std::memory_order_release);
    // Goes on changing whatever it can reach.
    for (uint64_t i = 0;; ++i) {
      std::memset(file.items(), static_cast<int>(i), kPage);
      file.header().writer.position.store(i << i % 64);
      file.header().writer.wish.store(i);
      file.header().writer.signal.store(static_cast<uint32_t>(i));
    }
    return 0;
  });
  Lanes<MessageReader> lanes;
  ASSERT_THAT(lanes.Add(MessageReader(*trusted->reader())), IsOk());
  ASSERT_THAT(lanes.Add(MessageReader(*consumer->reader())), IsOk());
  MessageWriter writer(*honest->writer());
  uint64_t written = 0;
  uint64_t read = 0;
  std::optional<RingWait> why;
  while (read < 5000 || !why.has_value()) {
    while (writer.push(BytesOf(TextOf(written))) == RingRoom::kRoom) ++written;
    for (size_t turn = 0; turn < lanes.size(); ++turn) {
      MessageReader* reader = lanes.Next();
      if (reader == nullptr) break;
      while (const auto message = reader->next()) {
        ASSERT_LE(message->size(), kPage - sizeof(MessageHeader));
        if (lanes.current() == 0) {
          ASSERT_TRUE(IsText(*message, read++));
        }
      }
      reader->release();
    }
    for (const auto& ended : lanes.RemoveEnded()) {
      ASSERT_EQ(ended.lane, 1);
      why = ended.why;
    }
  }
  liar.Kill();
  EXPECT_EQ(*why, RingWait::kDataLoss);
}

}  // namespace
}  // namespace doppel
