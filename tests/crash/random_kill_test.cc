// SPDX-License-Identifier: Apache-2.0
//
// kill -9 at random moments, over and over, of whoever writes or reads a shared ring at
// full speed. What was published is read once and whole, the survivor notices the end
// and never hangs, and a new peer goes on.

#include "doppel/tests/crash/random_kill.h"

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>

#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::ExpectLeft;
using ::doppel::testing::Item;
using ::doppel::testing::kMostOperations;
using ::doppel::testing::ReadUntilGone;
using ::doppel::testing::ReadUntilKilled;
using ::doppel::testing::Reaper;
using ::doppel::testing::Scaled;
using ::doppel::testing::SharedDiary;
using ::doppel::testing::Tally;
using ::doppel::testing::WriteUntilGone;
using ::doppel::testing::WriteUntilKilled;

using Ring = SharedRing<Item>;

constexpr size_t kCapacity = 2000;

// In the child, which gives up what it has of its parent's.
Ring AttachInChild(Ring& parents, RingInvitation& invitation) {
  Ring ring = *Ring::Attach(
      std::move(invitation),
      {.line_ownership =
           parents.owns_lines() ? LineOwnership::kOn : LineOwnership::kOff});
  parents = std::move(ring);
  return std::move(parents);
}

class RandomKill : public ::testing::TestWithParam<LineOwnership> {
 protected:
  static int64_t Rounds() { return Scaled(2'500, 25'000); }

  Ring ring_ = *Ring::Create(kCapacity, {.line_ownership = GetParam()});
  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(LineOwnership, RandomKill,
                         ::testing::Values(LineOwnership::kOn,
                                           LineOwnership::kOff),
                         [](const auto& info) {
                           return info.param == LineOwnership::kOn ? "On"
                                                                   : "Off";
                         });

TEST_P(RandomKill, OfTheWriter) {
  Tally tally;
  auto reader = *ring_.reader();
  uint64_t expected = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(expected);
    RingInvitation invitation = *ring_.Invite();
    const uint64_t seed = random_();
    Child child([&] {
      Ring ring = AttachInChild(ring_, invitation);
      return WriteUntilKilled(*ring.writer(), expected, seed, diary);
    });
    invitation.Reset();
    Reaper reaper(
        child, diary,
        {.round = round, .last_operation = random_() % kMostOperations}, tally);
    ReadUntilGone(reader, expected, reaper);
    EXPECT_EQ(ring_.statistics().pushed, expected) << "round " << round;
    EXPECT_GE(expected, diary->number.load()) << "round " << round;
  }
  tally.Report("writer");
}

TEST_P(RandomKill, OfTheReader) {
  Tally tally;
  auto writer = *ring_.writer();
  uint64_t written = 0;
  uint64_t finished = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary(finished);
    RingInvitation invitation = *ring_.Invite();
    const uint64_t seed = random_();
    Child child([&] {
      Ring ring = AttachInChild(ring_, invitation);
      return ReadUntilKilled(*ring.reader(), seed, diary);
    });
    invitation.Reset();
    Reaper reaper(
        child, diary,
        {.round = round, .last_operation = random_() % kMostOperations}, tally);
    WriteUntilGone(writer, written, reaper);
    Ring successor = *Ring::Attach(*ring_.Invite());
    auto reader = *successor.reader();
    ExpectLeft(reader, written, diary, finished);
    EXPECT_LE(ring_.statistics().popped, finished);
  }
  tally.Report("reader");
}

}  // namespace
}  // namespace doppel
