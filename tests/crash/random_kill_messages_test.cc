// SPDX-License-Identifier: Apache-2.0
//
// kill -9 at random moments, over and over, of whoever writes or reads messages over a
// shared ring at full speed. Each message that was published is shown once and whole,
// whatever its length; a dead reader's are shown again from the first that it had not
// released.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>

#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_message.h"
#include "doppel/tests/crash/random_kill.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::kMostOperations;
using ::doppel::testing::kNone;
using ::doppel::testing::kSleepSoon;
using ::doppel::testing::Linger;
using ::doppel::testing::NumberedMessage;
using ::doppel::testing::NumberOf;
using ::doppel::testing::Reaper;
using ::doppel::testing::Scaled;
using ::doppel::testing::SharedDiary;
using ::doppel::testing::Tally;

using Ring = SharedRing<>;

constexpr size_t kCapacityBytes = 30'000;
constexpr uint64_t kMostMessages = 40;  // Of an operation.
constexpr uint64_t kMessagesPerPause = 8;

int64_t Rounds() { return Scaled(2'500, 25'000); }

// In the child, which gives up what it has of its parent's.
Ring AttachInChild(Ring& parents, RingInvitation& invitation) {
  Ring ring = *Ring::Attach(std::move(invitation));
  parents = std::move(ring);
  return std::move(parents);
}

// Pushes messages, numbered from `next` on, until it is killed.
int WriteUntilKilled(MessageWriter writer, uint64_t next, uint64_t seed,
                     SharedDiary& diary) {
  std::mt19937_64 random(seed);
  for (;;) {
    const uint64_t end = next + 1 + random() % kMostMessages;
    bool is_full = false;
    diary->Begin();
    while (next < end && !is_full) {
      const NumberedMessage message(next);
      const MessageReservation room = writer.reserve(message.bytes().size());
      is_full = room.room == RingRoom::kFull;
      if (is_full) break;
      message.CopyTo(room.payload);
      writer.stage(message.bytes().size());
      if (++next % kMessagesPerPause == 0) Linger(random);
    }
    writer.publish();
    diary->End(next);
    if (is_full && writer.wait(NumberedMessage::kMostBytes, kSleepSoon) !=
                       RingWait::kReady) {
      return 1;
    }
  }
}

// Shows messages and checks them until it is killed.
int ReadUntilKilled(MessageReader reader, uint64_t next, uint64_t seed,
                    SharedDiary& diary) {
  std::mt19937_64 random(seed);
  for (;;) {
    if (reader.wait(kSleepSoon) != RingWait::kReady) return 1;
    diary->Begin();
    for (uint64_t n = 1 + random() % kMostMessages; n > 0; --n) {
      const auto message = reader.next();
      if (!message) break;
      if (NumberOf(*message) != next++) return 2;
      if (next % kMessagesPerPause == 0) Linger(random);
    }
    reader.release();
    diary->End(next);
  }
}

TEST(RandomKillOfMessages, OfTheWriter) {
  Ring ring = *Ring::Create(kCapacityBytes);
  MessageReader reader(*ring.reader());
  Tally tally;
  std::mt19937_64 random(3);
  uint64_t expected = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(expected);
    RingInvitation invitation = *ring.Invite();
    const uint64_t seed = random();
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      return WriteUntilKilled(MessageWriter(*mine.writer()), expected, seed,
                              diary);
    });
    invitation.Reset();
    Reaper reaper(
        child, diary,
        {.round = round, .last_operation = random() % kMostOperations}, tally);
    RingWait waited = RingWait::kReady;
    while ((waited = reader.wait(kSleepSoon)) == RingWait::kReady) {
      while (const auto message = reader.next()) {
        ASSERT_EQ(NumberOf(*message), expected);
        ++expected;
      }
      reader.release();
      reaper.Look();
    }
    ASSERT_EQ(waited, RingWait::kPeerGone) << reader.status();
    EXPECT_TRUE(ring.empty()) << "round " << round;
    EXPECT_GE(expected, diary->number.load()) << "round " << round;
  }
  tally.Report("writer of messages");
}

// The number of the first message that a successor is shown, which all others follow;
// `written` if there is none.
uint64_t FirstLeft(Ring& ring, uint64_t written) {
  Ring successor = *Ring::Attach(*ring.Invite());
  MessageReader reader(*successor.reader());
  std::optional<uint64_t> first;
  uint64_t next = kNone;
  while (const auto message = reader.next()) {
    const uint64_t number = NumberOf(*message);
    if (!first) first = next = number;
    EXPECT_EQ(number, next++);
  }
  EXPECT_TRUE(reader.status().ok()) << reader.status();
  if (!first) return written;
  EXPECT_EQ(next, written);
  return *first;
}

TEST(RandomKillOfMessages, OfTheReader) {
  Ring ring = *Ring::Create(kCapacityBytes);
  MessageWriter writer(*ring.writer());
  Tally tally;
  std::mt19937_64 random(4);
  uint64_t written = 0;
  uint64_t finished = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(finished);
    RingInvitation invitation = *ring.Invite();
    const uint64_t seed = random();
    Child child([&] {
      Ring mine = AttachInChild(ring, invitation);
      return ReadUntilKilled(MessageReader(*mine.reader()), finished, seed,
                             diary);
    });
    invitation.Reset();
    Reaper reaper(
        child, diary,
        {.round = round, .last_operation = random() % kMostOperations}, tally);
    RingWait waited = RingWait::kReady;
    while ((waited = writer.wait(NumberedMessage::kMostBytes, kSleepSoon)) ==
           RingWait::kReady) {
      // Room for ever, once the reader is dead: then it shows at the latest.
      if (reaper.killed() && writer.peer_gone()) break;
      ASSERT_EQ(writer.push(NumberedMessage(written).bytes()), RingRoom::kRoom);
      ++written;
      reaper.Look();
    }
    EXPECT_TRUE(waited == RingWait::kReady || waited == RingWait::kPeerGone);
    finished = FirstLeft(ring, written);
    EXPECT_GE(finished, diary->number.load()) << "round " << round;
    EXPECT_LE(finished, diary->number.load() + kMostMessages)
        << "round " << round;
  }
  tally.Report("reader of messages");
}

}  // namespace
}  // namespace doppel
