// SPDX-License-Identifier: Apache-2.0
//
// Every system call that making a ring of many readers takes, joining it, and its events,
// fails in turn, with each errno that its manual page lists.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"
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

using Back = BroadcastRing<uint64_t>;
using Over = OverwritingRing<uint64_t>;

// Makes a ring and joins it.
template <class Ring>
absl::Status Make(const std::shared_ptr<Arena>& arena, uint64_t capacity,
                  std::optional<Ring>& made,
                  std::optional<typename Ring::Reader>& reader) {
  absl::StatusOr<Ring> ring = Ring::Create(capacity, {.arena = arena});
  if (!ring.ok()) return ring.status();
  made.emplace(*std::move(ring));
  auto joined = made->reader();
  if (!joined.ok()) {
    EXPECT_EQ(made->readers(), 0) << "who did not join holds no seat";
    return joined.status();
  }
  reader.emplace(*std::move(joined));
  return absl::OkStatus();
}

// Whether items go over the wrap.
template <class Ring>
bool Works(Ring& ring, typename Ring::Reader& reader) {
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 3 * ring.capacity(); i += 2) {
    const std::array<uint64_t, 2> items = {i, i + 1};
    writer.push(items);
    std::array<uint64_t, 2> got{};
    if (reader.pop(got) != 2 || got != items) return false;
  }
  return reader.size() == 0;
}

template <class Ring>
bool AnotherWorks(const std::shared_ptr<Arena>& arena) {
  absl::StatusOr<Ring> ring = Ring::Create(1, {.arena = arena});
  if (!ring.ok()) return false;
  auto reader = ring->reader();
  return reader.ok() && Works(*ring, *reader);
}

template <class Ring>
struct State {
  std::shared_ptr<Arena> arena;
  std::optional<Ring> made;
  std::optional<typename Ring::Reader> reader;  // Ends before its ring.
};

template <class Ring>
int Campaign(const Arena::Options& options, uint64_t capacity) {
  return FailEachCall(
      [&] {
        absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create(options);
        EXPECT_THAT(arena, IsOk());
        return State<Ring>{*std::move(arena), std::nullopt, std::nullopt};
      },
      [&](State<Ring>& state) {
        return Make<Ring>(state.arena, capacity, state.made, state.reader);
      },
      [](const absl::Status& outcome) { return !outcome.ok(); },
      [](State<Ring>& state, const absl::Status& outcome) {
        EXPECT_EQ(outcome.ok(), state.reader.has_value());
        if (outcome.ok()) {
          EXPECT_TRUE(Works(*state.made, *state.reader));
        } else {
          EXPECT_NE(outcome.message(), "");
        }
        EXPECT_TRUE(AnotherWorks<Ring>(state.arena));
      });
}

TEST(BroadcastRingCampaign, SmallRing) { EXPECT_GT(Campaign<Back>({}, 1), 20); }

TEST(BroadcastRingCampaign, LargerThanATransparentUnit) {
  EXPECT_GT(Campaign<Back>({}, (uint64_t{3} << 20) / 8), 20);
}

TEST(BroadcastRingCampaign, LockedArena) {
  EXPECT_GT(Campaign<Back>({.lock = true}, 1), 20);
}

TEST(OverwritingRingCampaign, SmallRing) {
  EXPECT_GT(Campaign<Over>({}, 1), 20);
}

// A ring and its handles, which end before it.
template <class Ring>
struct Sides {
  explicit Sides(Ring made)
      : ring(std::move(made)), writer(ring.writer()), reader(*ring.reader()) {}

  Ring ring;
  typename Ring::Writer writer;
  typename Ring::Reader reader;
};

void Push(Back::Writer& writer, uint64_t item) {
  EXPECT_EQ(writer.wait(), RingWait::kReady);
  EXPECT_TRUE(writer.try_push(item));
}
void Push(Over::Writer& writer, uint64_t item) { writer.push(item); }

// The reader sleeps until the deadline, and finds what is there, without an event too.
template <class Ring>
void CheckWaits(Sides<Ring>& sides) {
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sides.reader.wait(1, Until(kBeyondTrial)),
              RingWait::kDeadlineExceeded);
    Push(sides.writer, i);
    EXPECT_EQ(sides.reader.wait(), RingWait::kReady);
    EXPECT_EQ(sides.reader.try_pop(), i);
  }
}

template <class Ring>
void CheckEvents(Sides<Ring>& sides) {
  const absl::StatusOr<int> items = sides.reader.event();
  ASSERT_THAT(items, IsOk());
  ASSERT_EQ(sides.reader.arm(), RingWait::kArmed);
  Push(sides.writer, 7);
  EXPECT_TRUE(IsReadable(*items));
  EXPECT_EQ(sides.reader.try_pop(), 7);
}

template <class Ring>
int EventCampaign(absl::StatusOr<int> (*event)(Sides<Ring>& sides)) {
  // A process registers for membarrier(2) once.
  Sides<Ring> warm(*Ring::Create(1));
  EXPECT_THAT(event(warm), IsOk());
  return FailEachCall(
      [] {
        absl::StatusOr<Ring> ring = Ring::Create(1);
        EXPECT_THAT(ring, IsOk());
        return std::make_unique<Sides<Ring>>(*std::move(ring));
      },
      [&](std::unique_ptr<Sides<Ring>>& sides) {
        return event(*sides).status();
      },
      [](const absl::Status& outcome) { return !outcome.ok(); },
      [](std::unique_ptr<Sides<Ring>>& sides, const absl::Status& outcome) {
        EXPECT_EQ(outcome.ok(), outcome.message().empty());
        CheckWaits(*sides);
        CheckEvents(*sides);
      });
}

TEST(BroadcastRingCampaign, EventOfTheWriter) {
  EXPECT_GT(
      EventCampaign<Back>([](auto& sides) { return sides.writer.event(); }), 5);
}

TEST(BroadcastRingCampaign, EventOfAReader) {
  EXPECT_GT(
      EventCampaign<Back>([](auto& sides) { return sides.reader.event(); }), 5);
}

TEST(OverwritingRingCampaign, EventOfAReader) {
  EXPECT_GT(
      EventCampaign<Over>([](auto& sides) { return sides.reader.event(); }), 5);
}

}  // namespace
}  // namespace doppel
