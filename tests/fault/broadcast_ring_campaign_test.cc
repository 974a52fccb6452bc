// SPDX-License-Identifier: Apache-2.0
//
// Every system call that making a ring of many readers takes, and joining it, fails in
// turn, with each errno that its manual page lists.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCall;
using ::doppel::testing::IsOk;

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

}  // namespace
}  // namespace doppel
