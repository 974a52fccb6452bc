// SPDX-License-Identifier: Apache-2.0
//
// A ring that one child after another attaches to and is killed, and what of it the test
// knows.
//
//   Invite ── the child: Attach ── killed ──▶ Succeed: who comes in its place ── Invite
//
// Invariants:
//   1. Of an invitation with a link nobody has a copy but the child: the link hangs up
//      when it is dead.
//
// Thread safety: none.
// Errors: what the ring refuses ends the test.
//
// Example:
//   SharedWorld<int> world(Link::kNone);
//   auto reader = world.ring().reader();
//   KillAtEachInstruction([&] { ring.emplace(world.Attach()); ...

#ifndef DOPPEL_TESTS_CRASH_SHARED_WORLD_H_
#define DOPPEL_TESTS_CRASH_SHARED_WORLD_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "doppel/alloc/mapping.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/shared_ring.h"
#include "gtest/gtest.h"

namespace doppel::testing {

// Whether the two processes have a link.
enum class Link : uint8_t { kNone, kSocket };

template <class T>
class SharedWorld {
 public:
  using Ring = SharedRing<T>;

  explicit SharedWorld(Link link, LineOwnership ownership = LineOwnership::kOff)
      : link_(link),
        ownership_(ownership),
        ring_(*Ring::Create(1, {.line_ownership = ownership})),
        page_(*Mapping::Reserve(kPageBytes)) {
    EXPECT_TRUE(
        page_.Show(ring_.memfd(), ring_.offset_bytes(), kPageBytes, 0).ok());
    Invite();
  }

  Ring& ring() { return ring_; }

  // The words, as any of the two could store to its own.
  RingHeader<>& words() {
    return *reinterpret_cast<RingHeader<>*>(page_.data());
  }

  // Before the next child, if there are links. The one before is dead.
  void Invite() {
    invitation_.reset();
    if (link_ == Link::kSocket) invitation_.emplace(*ring_.Invite());
  }

  // In the child: another mapping of the ring, of its own.
  Ring Attach() {
    RingInvitation invitation =
        link_ == Link::kSocket
            ? *std::exchange(invitation_, std::nullopt)
            : *RingInvitation::WithoutLink(ring_.memfd().fd());
    return *Ring::Attach(std::move(invitation), {.line_ownership = ownership_});
  }

  // The child is dead, and nobody has its invitation any more.
  void ChildIsDead() { invitation_.reset(); }

  // In its place, in this process.
  Ring Succeed() {
    Invite();
    return Attach();
  }

  uint64_t pushed() const { return ring_.statistics().pushed; }
  uint64_t popped() const { return ring_.statistics().popped; }

 private:
  static constexpr uint64_t kPageBytes = 4096;

  Link link_;
  LineOwnership ownership_;
  Ring ring_;
  Mapping page_;
  std::optional<RingInvitation> invitation_;
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_SHARED_WORLD_H_
