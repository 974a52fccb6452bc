// SPDX-License-Identifier: Apache-2.0
//
// What the tests of SharedRing share: a ring of numbers, a second view of it, and a
// child's attachment.
//
// Invariants:
//   1. A child that could not attach ends with the exit code 100.
//
// Thread safety: functions of their arguments.
// Errors: what cannot be made fails the test.
//
// Example:
//   SharedNumbers ring = MakeSharedRing();
//   RingInvitation invitation = Invite(ring);
//   Child child([&] { return Use(AttachInChild(ring, invitation)); });
//   Forget(std::move(invitation));

#ifndef DOPPEL_TESTS_CONTAINERS_SHARED_RING_SUPPORT_H_
#define DOPPEL_TESTS_CONTAINERS_SHARED_RING_SUPPORT_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::testing {

using SharedNumbers = SharedRing<uint64_t>;

inline SharedNumbers MakeSharedRing(size_t min_capacity = 1,
                                    const RingOptions& options = {}) {
  absl::StatusOr<SharedNumbers> ring =
      SharedNumbers::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

inline RingInvitation Invite(SharedNumbers& ring) {
  absl::StatusOr<RingInvitation> invitation = ring.Invite();
  EXPECT_THAT(invitation, IsOk());
  return *std::move(invitation);
}

// A second view of the ring, as another process would have it.
inline SharedNumbers AttachHere(const SharedNumbers& ring) {
  absl::StatusOr<RingInvitation> invitation =
      RingInvitation::WithoutLink(ring.memfd().fd(), ring.offset_bytes());
  EXPECT_THAT(invitation, IsOk());
  absl::StatusOr<SharedNumbers> attached =
      SharedNumbers::Attach(*std::move(invitation));
  EXPECT_THAT(attached, IsOk());
  return *std::move(attached);
}

// In a child: the ring of the invitation, with the parent's own given up.
inline SharedNumbers AttachInChild(SharedNumbers& parents,
                                   RingInvitation& invitation) {
  absl::StatusOr<SharedNumbers> ring =
      SharedNumbers::Attach(std::move(invitation));
  if (!ring.ok()) _exit(100);
  parents = *std::move(ring);
  return std::move(parents);
}

// Gives the child's end of the link up: the child alone has it.
inline void Forget(RingInvitation invitation) { (void)invitation; }

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CONTAINERS_SHARED_RING_SUPPORT_H_
