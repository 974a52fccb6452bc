// SPDX-License-Identifier: Apache-2.0
//
// What another process needs to attach to a ring: the file that holds it, and one end
// of a link, whose other end stays with the process that invites.
//
//   inviting process                       invited process
//     SharedRing ── Invite() ──▶ RingInvitation ──▶ SharedRing::Attach
//       │                          │ Send, Receive (unix(7), SCM_RIGHTS)
//       │                          │ or fork(2)
//       └── link ◀────────────────▶└── link     wakes the peer; hangs up when it ends
//
// Invariants:
//   1. The link belongs to the ring. Nothing else is sent over it.
//   2. An invitation is for one process. The link hangs up when the last descriptor of
//      its other end is closed: after a fork(2) the parent destroys the invitation that
//      the child keeps. (The ends that rings have are closed in a child.)
//
// Thread safety: as a value type.
// Errors: a Status; nothing is held then.
//
// Example:
//   absl::StatusOr<RingInvitation> invitation = ring.Invite();
//   absl::Status sent = invitation->Send(socket);
//   // In the other process:
//   absl::StatusOr<RingInvitation> received = RingInvitation::Receive(socket);
//   auto ring = SharedRing<int>::Attach(*std::move(received));

#ifndef DOPPEL_CONTAINERS_RING_INVITATION_H_
#define DOPPEL_CONTAINERS_RING_INVITATION_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace doppel {

class RingInvitation {
 public:
  // An end of the socket between the two processes, and a number that both ends have.
  struct Link {
    int fd = -1;  // -1: there is none.
    uint64_t id = 0;
  };

  // For who has a descriptor of the ring's file from elsewhere (/proc/PID/fd, an
  // inherited number): no link, so that a peer's end is noticed later (shared_ring.h) and
  // event() is not to be had. The descriptor is duplicated.
  static absl::StatusOr<RingInvitation> WithoutLink(int ring_fd,
                                                    uint64_t offset_bytes = 0);

  // Takes what Send sent. Blocks as the socket does.
  // Fails with Unavailable at the end of the stream, InvalidArgument for any other
  // message, ResourceExhausted if this process may have no more descriptors: try again.
  static absl::StatusOr<RingInvitation> Receive(int unix_socket);

  RingInvitation(RingInvitation&& other) noexcept
      : ring_fd_(std::exchange(other.ring_fd_, -1)),
        link_(std::exchange(other.link_, {})),
        offset_bytes_(other.offset_bytes_),
        ring_number_(other.ring_number_) {}
  RingInvitation& operator=(RingInvitation&& other) noexcept;
  ~RingInvitation() { Close(); }

  // Gives it to the process at the socket's other end: this one is used up then. Blocks
  // as the socket does. Fails with FailedPrecondition if it was used before, and with what
  // sendmsg(2) reports; it is as it was then.
  absl::Status Send(int unix_socket);

  // Closes what it has: after a fork(2), in the process that it is not for.
  void Reset() { *this = RingInvitation(); }

  // Where the ring begins in its file.
  uint64_t offset_bytes() const { return offset_bytes_; }
  // Which ring it is, of those that stand there one after another; 0: whichever.
  uint64_t ring_number() const { return ring_number_; }

  // For the rings: the descriptors are the caller's to close.
  int ReleaseRing() { return std::exchange(ring_fd_, -1); }
  Link ReleaseLink() { return std::exchange(link_, {}); }

  // For the rings: takes the descriptors.
  RingInvitation(int ring_fd, Link link, uint64_t offset_bytes,
                 uint64_t ring_number = 0)
      : ring_fd_(ring_fd),
        link_(link),
        offset_bytes_(offset_bytes),
        ring_number_(ring_number) {}

 private:
  RingInvitation() = default;
  void Close();

  int ring_fd_ = -1;           // Owned; -1 when given away.
  Link link_;                  // Owned.
  uint64_t offset_bytes_ = 0;  // More than 0 for a ring in an arena's file.
  uint64_t ring_number_ = 0;
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_INVITATION_H_
