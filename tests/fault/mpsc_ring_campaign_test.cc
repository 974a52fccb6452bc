// SPDX-License-Identifier: Apache-2.0
//
// Every system call that making a ring of many producers takes fails in turn, and each
// that its events take, with each errno that its manual page lists.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCall;
using ::doppel::testing::IsOk;
using ::doppel::testing::IsReadable;
using ::doppel::testing::kBeyondTrial;
using ::doppel::testing::Until;

// An arena, a ring in it that must not notice anything, and the one that is made.
struct State {
  std::shared_ptr<Arena> arena;
  std::optional<MpscRing> neighbour;
  std::optional<MpscRing> made;
};

State Prepare(const Arena::Options& options) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create(options);
  EXPECT_THAT(arena, IsOk());
  absl::StatusOr<MpscRing> ring = MpscRing::Create(1, {.arena = *arena});
  EXPECT_THAT(ring, IsOk());
  State state = {*std::move(arena), *std::move(ring), std::nullopt};
  const std::vector<std::byte> message(50, std::byte{50});
  EXPECT_EQ(state.neighbour->producer().push(message), RingRoom::kRoom);
  return state;
}

// Whether messages go over the wrap of an empty ring.
bool Works(MpscRing& ring) {
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const std::vector<std::byte> message(ring.max_message_bytes() / 2 + 100,
                                       std::byte{1});
  for (int i = 0; i < 5; ++i) {
    if (producer.push(message) != RingRoom::kRoom) return false;
    std::vector<std::byte> got(message.size());
    if (consumer.pop(got) != message.size() || got != message) return false;
  }
  return ring.empty();
}

// After a fault the neighbour has its message, a ring that was made nevertheless
// works, and the next one can be made.
void Check(State& state, const absl::Status& outcome) {
  std::vector<std::byte> message(50);
  EXPECT_EQ(state.neighbour->consumer().pop(message), 50);
  EXPECT_EQ(message, std::vector<std::byte>(50, std::byte{50}));
  EXPECT_EQ(outcome.ok(), state.made.has_value());
  if (outcome.ok()) {
    EXPECT_TRUE(Works(*state.made));
  } else {
    EXPECT_NE(outcome.message(), "");
  }
  absl::StatusOr<MpscRing> next = MpscRing::Create(1, {.arena = state.arena});
  ASSERT_THAT(next, IsOk());
  EXPECT_TRUE(Works(*next));
}

int Campaign(const Arena::Options& options, uint64_t capacity_bytes) {
  return FailEachCall(
      [&] { return Prepare(options); },
      [&](State& state) {
        absl::StatusOr<MpscRing> ring =
            MpscRing::Create(capacity_bytes, {.arena = state.arena});
        if (ring.ok()) state.made.emplace(*std::move(ring));
        return ring.status();
      },
      [](const absl::Status& outcome) { return !outcome.ok(); }, Check);
}

TEST(MpscRingCampaign, SmallRing) { EXPECT_GT(Campaign({}, 1), 20); }

TEST(MpscRingCampaign, LargerThanATransparentUnit) {
  EXPECT_GT(Campaign({}, uint64_t{3} << 20), 20);
}

TEST(MpscRingCampaign, LockedArena) {
  EXPECT_GT(Campaign({.lock = true}, 1), 20);
}

// A ring and its handles, which end before it.
struct Sides {
  explicit Sides(MpscRing made)
      : ring(std::move(made)),
        producer(ring.producer()),
        consumer(ring.consumer()) {}

  MpscRing ring;
  MpscRing::Producer producer;
  MpscRing::Consumer consumer;
};

// Both sides sleep until the deadline, and find what is there, without events too.
void CheckWaits(Sides& sides) {
  const std::vector<std::byte> message(sides.ring.max_message_bytes());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(sides.consumer.wait(Until(kBeyondTrial)),
              RingWait::kDeadlineExceeded);
    EXPECT_EQ(sides.producer.wait(message.size()), RingWait::kReady);
    EXPECT_EQ(sides.producer.push(message), RingRoom::kRoom);
    EXPECT_EQ(sides.producer.wait(1, Until(kBeyondTrial)),
              RingWait::kDeadlineExceeded);
    EXPECT_EQ(sides.consumer.wait(), RingWait::kReady);
    EXPECT_TRUE(sides.consumer.next().has_value());
    sides.consumer.release();
  }
}

void CheckEvents(Sides& sides) {
  const absl::StatusOr<int> room = sides.producer.event();
  const absl::StatusOr<int> messages = sides.consumer.event();
  ASSERT_THAT(room, IsOk());
  ASSERT_THAT(messages, IsOk());
  ASSERT_EQ(sides.consumer.arm(), RingWait::kArmed);
  ASSERT_EQ(sides.producer.push({}), RingRoom::kRoom);
  EXPECT_TRUE(IsReadable(*messages));
  ASSERT_EQ(sides.producer.arm(sides.ring.max_message_bytes()),
            RingWait::kArmed);
  EXPECT_TRUE(sides.consumer.next().has_value());
  sides.consumer.release();
  EXPECT_TRUE(IsReadable(*room));
}

int EventCampaign(absl::StatusOr<int> (*event)(Sides& sides)) {
  // A process registers for membarrier(2) once.
  Sides warm(*MpscRing::Create(1));
  EXPECT_THAT(event(warm), IsOk());
  return FailEachCall(
      [] {
        absl::StatusOr<MpscRing> ring = MpscRing::Create(1);
        EXPECT_THAT(ring, IsOk());
        return std::make_unique<Sides>(*std::move(ring));
      },
      [&](std::unique_ptr<Sides>& sides) { return event(*sides).status(); },
      [](const absl::Status& outcome) { return !outcome.ok(); },
      [](std::unique_ptr<Sides>& sides, const absl::Status& outcome) {
        EXPECT_EQ(outcome.ok(), outcome.message().empty());
        CheckWaits(*sides);
        CheckEvents(*sides);
      });
}

TEST(MpscRingCampaign, EventOfTheConsumer) {
  EXPECT_GT(EventCampaign([](Sides& sides) { return sides.consumer.event(); }),
            5);
}

TEST(MpscRingCampaign, EventOfAProducer) {
  EXPECT_GT(EventCampaign([](Sides& sides) { return sides.producer.event(); }),
            5);
}

}  // namespace
}  // namespace doppel
