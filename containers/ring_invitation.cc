// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_invitation.h"

#include <array>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {

namespace sys = internal::sys;

absl::StatusOr<RingInvitation> RingInvitation::WithoutLink(
    int ring_fd, uint64_t offset_bytes) {
  const absl::StatusOr<int> duplicate = sys::Dup(ring_fd);
  if (!duplicate.ok()) return duplicate.status();
  return RingInvitation(*duplicate, Link(), offset_bytes);
}

absl::StatusOr<RingInvitation> RingInvitation::Receive(int unix_socket) {
  const absl::StatusOr<sys::PassedDescriptors> passed =
      sys::ReceiveDescriptors(unix_socket, 2);
  if (!passed.ok()) return passed.status();
  RingInvitation invitation(passed->fds[0],
                            {.fd = passed->fds[1], .id = passed->words[1]},
                            passed->words[0], passed->words[2]);
  if (!passed->has_words) {
    return absl::InvalidArgumentError(
        "the message has descriptors, but is no invitation to a ring");
  }
  if (!sys::IsUnixStream(passed->fds[1])) {
    return absl::InvalidArgumentError(
        "the invitation's link is no stream socket of AF_UNIX");
  }
  return invitation;
}

RingInvitation& RingInvitation::operator=(RingInvitation&& other) noexcept {
  if (this != &other) {
    Close();
    ring_fd_ = std::exchange(other.ring_fd_, -1);
    link_ = std::exchange(other.link_, {});
    offset_bytes_ = other.offset_bytes_;
    ring_number_ = other.ring_number_;
  }
  return *this;
}

absl::Status RingInvitation::Send(int unix_socket) {
  if (ring_fd_ < 0 || link_.fd < 0) {
    return absl::FailedPreconditionError(
        "an invitation without a link, or one that was used, is not to be "
        "sent; ask the ring for another");
  }
  if (absl::Status sent =
          sys::SendDescriptors(unix_socket, std::array{ring_fd_, link_.fd},
                               {offset_bytes_, link_.id, ring_number_});
      !sent.ok()) {
    return sent;
  }
  Reset();
  return absl::OkStatus();
}

void RingInvitation::Close() {
  for (const int fd : {ring_fd_, link_.fd}) {
    if (fd >= 0) sys::Close(fd);
  }
}

}  // namespace doppel
