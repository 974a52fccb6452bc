// SPDX-License-Identifier: Apache-2.0
//
// This process's end of the link by which two processes that have a ring in common wake
// each other, and learn of each other's end: a pair of stream sockets.
//
//   RingSeat ── link_fd ──▶ RingLink ◀── socket ──▶ the other process's
//
// Invariants:
//   1. The descriptor belongs to the link, and is closed with it.
//   2. Whoever loads word() finds a descriptor of this link, or -1: a handle may be about
//      to signal it while it is replaced.
//
// Thread safety: word() may be loaded by any thread; the rest by one at a time.
// Errors: each function says; nothing is held then.
//
// Example:
//   absl::StatusOr<std::array<RingInvitation::Link, 2>> ends = MakeRingLink();
//   link.Take((*ends)[0].fd);

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_LINK_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_LINK_H_

#include <array>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/internal/process_fd.h"
#include "doppel/containers/ring_invitation.h"

namespace doppel::internal {

// Both ends of a new link, which are the caller's to close. Fails with what the kernel
// reports.
absl::StatusOr<std::array<RingInvitation::Link, 2>> MakeRingLink();

// A child of fork(2) has no end of its parent's links.
class RingLink : public ProcessFd {
 public:
  // Takes it in place of what there is, whose number it gets. Closes it if that fails.
  absl::Status Replace(int fd);

  // Whether nobody is at the other end, or there is none: a system call.
  bool HungUp() const;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_LINK_H_
