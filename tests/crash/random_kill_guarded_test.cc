// SPDX-License-Identifier: Apache-2.0
//
// kill -9 at random moments, over and over, of whoever writes or reads a guarded ring at
// full speed. A producer that is killed takes its ring with it, but nothing that it had
// published; one that loses its consumer goes on with the next, which reads all that
// the dead one had not finished.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/crash/meeting_place.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/random_kill.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::ExpectLeft;
using ::doppel::testing::IsReadable;
using ::doppel::testing::Item;
using ::doppel::testing::kMostOperations;
using ::doppel::testing::MeetingPlace;
using ::doppel::testing::ReadUntilGone;
using ::doppel::testing::ReadUntilKilled;
using ::doppel::testing::Reaper;
using ::doppel::testing::Scaled;
using ::doppel::testing::SharedDiary;
using ::doppel::testing::Tally;
using ::doppel::testing::WriteUntilGone;
using ::doppel::testing::WriteUntilKilled;

using Producer = GuardedProducer<Item>;
using Consumer = GuardedConsumer<Item>;

constexpr size_t kCapacity = 2000;

// None is waited for in vain: no child dies before it has met its parent.
constexpr absl::Duration kLong = absl::Seconds(60);

int64_t Rounds() { return Scaled(2'500, 25'000); }

// The child's part until it is killed.
int ProduceUntilKilled(const MeetingPlace& place, uint64_t seed,
                       SharedDiary& diary) {
  Producer producer = *Producer::Create(kCapacity);
  if (!producer.Invite()->Send(place.childs_end()).ok()) return 3;
  if (!producer.Accept(absl::Now() + kLong).ok()) return 4;
  return WriteUntilKilled(*producer.writer(), 0, seed, diary);
}

TEST(RandomKillOfGuarded, AProducer) {
  const MeetingPlace place;
  Tally tally;
  std::mt19937_64 random(1);
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(0);
    const uint64_t seed = random();
    Child child([&] { return ProduceUntilKilled(place, seed, diary); });
    ASSERT_TRUE(IsReadable(place.this_end(), kLong));
    Consumer consumer =
        *Consumer::Attach(*RingInvitation::Receive(place.this_end()));
    auto reader = *consumer.reader();
    Reaper reaper(
        child, diary,
        {.round = round, .last_operation = random() % kMostOperations}, tally);
    uint64_t expected = 0;
    ReadUntilGone(reader, expected, reaper);
    EXPECT_EQ(consumer.statistics().pushed, expected) << "round " << round;
    EXPECT_GE(expected, diary->number.load()) << "round " << round;
    EXPECT_TRUE(reader.status().ok()) << reader.status();
  }
  tally.Report("guarded producer");
}

TEST(RandomKillOfGuarded, AConsumer) {
  Producer producer = *Producer::Create(kCapacity);
  Tally tally;
  std::mt19937_64 random(2);
  uint64_t written = 0;
  uint64_t finished = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(finished);
    std::optional<RingInvitation> invitation = *producer.Invite();
    const uint64_t seed = random();
    Child child([&] {
      Consumer consumer =
          *Consumer::Attach(*std::exchange(invitation, std::nullopt));
      return ReadUntilKilled(*consumer.reader(), seed, diary);
    });
    invitation.reset();
    ASSERT_TRUE(producer.Accept(absl::Now() + kLong).ok());
    {
      auto writer = *producer.writer();
      Reaper reaper(
          child, diary,
          {.round = round, .last_operation = random() % kMostOperations},
          tally);
      WriteUntilGone(writer, written, reaper);
      EXPECT_TRUE(writer.status().ok()) << writer.status();
    }
    Consumer successor = *Consumer::Attach(*producer.Invite());
    ASSERT_TRUE(producer.Accept(absl::Now() + kLong).ok());
    auto reader = *successor.reader();
    ExpectLeft(reader, written, diary, finished);
  }
  tally.Report("guarded consumer");
}

}  // namespace
}  // namespace doppel
