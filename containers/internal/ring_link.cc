// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_link.h"

#include <array>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel::internal {

absl::StatusOr<std::array<RingInvitation::Link, 2>> MakeRingLink() {
  const absl::StatusOr<std::array<int, 2>> fds = sys::SocketPair();
  if (!fds.ok()) return fds.status();
  // As long as a socket lives no other has its number.
  const absl::StatusOr<struct stat> stat = sys::Fstat((*fds)[0]);
  if (!stat.ok()) {
    for (const int fd : *fds) sys::Close(fd);
    return stat.status();
  }
  return std::array<RingInvitation::Link, 2>{
      {{.fd = (*fds)[0], .id = stat->st_ino},
       {.fd = (*fds)[1], .id = stat->st_ino}}};
}

absl::Status RingLink::Replace(int fd) {
  const int former = this->fd();
  if (former < 0) {
    Take(fd);
    return absl::OkStatus();
  }
  // A handle may be about to signal the former: its number stays a link's.
  absl::Status replaced = sys::Replace(former, fd);
  if (!replaced.ok()) sys::Close(fd);
  return replaced;
}

bool RingLink::HungUp() const {
  return fd() < 0 || sys::Poll(fd(), absl::InfinitePast()).hung_up;
}

}  // namespace doppel::internal
