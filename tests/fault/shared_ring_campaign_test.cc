// SPDX-License-Identifier: Apache-2.0
//
// Every system call of making, inviting to, attaching to and taking a side of a ring
// between processes fails in turn, with each errno that its manual page lists.

#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCall;
using ::doppel::testing::IsOk;

using Ring = SharedRing<uint64_t>;

const RingOptions kOff = {.arena = nullptr,
                          .line_ownership = LineOwnership::kOff};

bool Failed(const absl::Status& outcome) { return !outcome.ok(); }

// A ring with an item in it, which must not notice anything.
struct Shared {
  std::optional<Ring> ring;
  std::optional<Ring> other;
  std::optional<RingInvitation> invitation;
};

Shared PrepareShared() {
  Shared state;
  state.ring = *Ring::Create(1, kOff);
  EXPECT_TRUE(state.ring->writer()->try_push(7));
  state.invitation = *RingInvitation::WithoutLink(state.ring->memfd().fd());
  return state;
}

void CheckShared(Shared& state, const absl::Status& outcome) {
  if (!outcome.ok()) {
    EXPECT_NE(outcome.message(), "");
  }
  state.other.reset();
  auto reader = state.ring->reader();
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(reader->try_pop(), 7);
  EXPECT_TRUE(state.ring->writer()->try_push(8));
  EXPECT_EQ(reader->try_pop(), 8);
}

TEST(SharedRingCampaign, Create) {
  // What the machine can do is read once by a process.
  ASSERT_THAT(Ring::Create(1, kOff), IsOk());
  EXPECT_GT(FailEachCall([] { return std::optional<Ring>(); },
                         [](std::optional<Ring>& made) {
                           absl::StatusOr<Ring> ring = Ring::Create(1000, kOff);
                           if (ring.ok()) made = *std::move(ring);
                           return ring.status();
                         },
                         Failed,
                         [](std::optional<Ring>& made, const absl::Status&) {
                           if (!made.has_value()) return;
                           EXPECT_TRUE(made->writer()->try_push(1));
                           EXPECT_EQ(made->reader()->try_pop(), 1);
                         }),
            50);
}

TEST(SharedRingCampaign, CreateInAnArena) {
  struct State {
    std::shared_ptr<Arena> arena = *Arena::Create();
    std::optional<Ring> made;
  };
  EXPECT_GT(FailEachCall([] { return State(); },
                         [](State& state) {
                           absl::StatusOr<Ring> ring = Ring::Create(
                               1000, {.arena = state.arena,
                                      .line_ownership = LineOwnership::kOff});
                           if (ring.ok()) state.made = *std::move(ring);
                           return ring.status();
                         },
                         Failed,
                         [](State& state, const absl::Status& outcome) {
                           if (outcome.ok()) return;
                           EXPECT_EQ(state.arena->Query()->handed_out_bytes, 0);
                         }),
            50);
}

TEST(SharedRingCampaign, Attach) {
  EXPECT_GT(FailEachCall(
                PrepareShared,
                [](Shared& state) {
                  absl::StatusOr<Ring> ring = Ring::Attach(
                      RingInvitation(dup(state.ring->memfd().fd()), {}, 0),
                      {.line_ownership = LineOwnership::kOff});
                  if (ring.ok()) state.other = *std::move(ring);
                  return ring.status();
                },
                Failed, CheckShared),
            50);
}

TEST(SharedRingCampaign, Invite) {
  EXPECT_GT(FailEachCall(
                PrepareShared,
                [](Shared& state) { return state.ring->Invite().status(); },
                Failed, CheckShared),
            5);
}

TEST(SharedRingCampaign, TakeASide) {
  EXPECT_GT(FailEachCall(
                PrepareShared,
                [](Shared& state) { return state.ring->reader().status(); },
                Failed, CheckShared),
            5);
}

}  // namespace
}  // namespace doppel
