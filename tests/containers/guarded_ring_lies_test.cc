// SPDX-License-Identifier: Apache-2.0
//
// Messages from a peer that lies: it poisons its own handle, and nothing else.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <thread>
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
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/containers/message_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hostile_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::HostileFile;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::NumberedPayload;
using ::doppel::testing::Payload;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;

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

TEST(GuardedRingLies, FramesMadeByHandAreTaken) {
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

TEST(GuardedRingLies, APositionThatLiesPoisonsTheReader) {
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
TEST(GuardedRingLies, APositionThatIsNoFramesPoisonsTheReader) {
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

TEST(GuardedRingLies, AHeaderThatLiesPoisonsTheReader) {
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
TEST(GuardedRingLies, ALengthThatChangesIsLoadedOnce) {
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
TEST(GuardedRingLies, PoisonOutlivesTheHandle) {
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

TEST(GuardedRingLies, AConsumerThatLiesPoisonsTheWriter) {
  for (const uint64_t lie : {kPage + 1, uint64_t{1} << 63, UINT64_MAX}) {
    HostileFile file({.sides = kReaderHere, .item_bytes = 1});
    file.Seal();
    auto producer = GuardedProducer<>::Create(1);
    ASSERT_THAT(producer, IsOk());
    file.Answer(*producer->Invite());
    ASSERT_THAT(producer->Accept(), IsOk());
    MessageWriter writer(*producer->writer());
    ASSERT_EQ(writer.push(Payload(8, 0)), RingRoom::kRoom);
    file.header().reader.position = lie;
    // What was free before stays so, and there is no more than that.
    const std::vector<std::byte> message = Payload(100, 1);
    size_t pushed = 0;
    while (writer.push(message) == RingRoom::kRoom) ++pushed;
    EXPECT_EQ(pushed, (kPage - 16) / MessageFrameBytes(message.size()));
    EXPECT_THAT(writer.status(), StatusIs(absl::StatusCode::kDataLoss));
    file.header().reader.position = 16;
    EXPECT_EQ(writer.push(message), RingRoom::kFull);
    EXPECT_EQ(writer.reserve(kPage).room, RingRoom::kTooBig);
    EXPECT_EQ(writer.wait(message.size()), RingWait::kDataLoss);
    ASSERT_THAT(writer.event(), IsOk());
    EXPECT_EQ(writer.arm(message.size()), RingWait::kDataLoss);
  }
}

// A peer that takes no part in fences may store a position after this side's look, and
// not see the wish: it is looked at again, and holds up nobody in the meantime.
TEST(GuardedRingLies, APeerThatDoesNotTellIsLookedAtAgain) {
  HostileProducer peer;
  peer.file.header().writer.fenced = kUnfencedHere;
  Lanes<MessageReader> lanes;
  MessageReader reader(*peer.consumer->reader());
  ASSERT_THAT(reader.event(), IsOk());
  bool sure = true;
  EXPECT_EQ(reader.TryArm(sure), RingWait::kArmed);
  EXPECT_FALSE(sure);
  peer.file.header().writer.fenced = kFencedHere;
  EXPECT_EQ(reader.TryArm(sure), RingWait::kArmed);
  EXPECT_TRUE(sure);
  peer.file.header().writer.fenced = kUnfencedHere;
  ASSERT_THAT(lanes.Add(std::move(reader)), IsOk());
  std::thread partner([&] {
    absl::SleepFor(absl::Milliseconds(10));
    peer.Put({.payload_bytes = 8});
  });
  EXPECT_EQ(lanes.wait(kSleepAtOnce), RingWait::kReady);
  partner.join();
}

// The lies come from another process, which then dies of nothing that it did here.
TEST(GuardedRingLies, AProcessThatLiesIsRemovedFromItsLane) {
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
    while (writer.push(NumberedPayload(written)) == RingRoom::kRoom) ++written;
    for (size_t turn = 0; turn < lanes.size(); ++turn) {
      MessageReader* reader = lanes.Next();
      if (reader == nullptr) break;
      while (const auto message = reader->next()) {
        ASSERT_LE(message->size(), kPage - sizeof(MessageHeader));
        if (lanes.current() == 0) {
          ASSERT_TRUE(std::ranges::equal(*message, NumberedPayload(read++)));
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
