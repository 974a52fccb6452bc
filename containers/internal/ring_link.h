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
#include <atomic>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/ring_invitation.h"

namespace doppel::internal {

// Both ends of a new link, which are the caller's to close. Fails with what the kernel
// reports.
absl::StatusOr<std::array<RingInvitation::Link, 2>> MakeRingLink();

class RingLink {
 public:
  RingLink() = default;
  ~RingLink() { Drop(); }
  RingLink(const RingLink&) = delete;
  RingLink& operator=(const RingLink&) = delete;

  // The descriptor; -1: none.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  const std::atomic<int>* word() const { return &fd_; }

  // REQUIRES: there is none.
  void Take(int fd) { fd_.store(fd, std::memory_order_release); }

  // Takes it in place of what there is, whose number it gets. Closes it if that fails.
  absl::Status Replace(int fd);

  void Drop();

  // Whether nobody is at the other end, or there is none: a system call.
  bool HungUp() const;

 private:
  std::atomic<int> fd_{-1};
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_LINK_H_
