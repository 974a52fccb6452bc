// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_invitation.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

struct Sockets {
  Sockets() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()), 0); }
  ~Sockets() {
    for (const int fd : fds) close(fd);
  }
  std::array<int, 2> fds = {-1, -1};
};

// With descriptors that are no ring's: nobody looks before a ring attaches.
RingInvitation MakeInvitation(uint64_t offset_bytes) {
  return RingInvitation(dup(STDIN_FILENO), dup(STDERR_FILENO), offset_bytes);
}

uint64_t InodeOf(int fd) {
  absl::StatusOr<Memfd> memfd = Memfd::Adopt(dup(fd), {});
  EXPECT_THAT(memfd, IsOk());
  return memfd->Query()->inode;
}

TEST(RingInvitation, ClosesWhatItHolds) {
  const LeakCheck before;
  {
    RingInvitation invitation = MakeInvitation(0);
    RingInvitation moved = std::move(invitation);
    moved = MakeInvitation(8);
    EXPECT_EQ(moved.offset_bytes(), 8);
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(RingInvitation, GivesAwayWhatIsReleased) {
  const LeakCheck before;
  RingInvitation invitation = MakeInvitation(0);
  const int ring = invitation.ReleaseRing();
  const int link = invitation.ReleaseLink();
  EXPECT_EQ(invitation.ReleaseRing(), -1);
  EXPECT_EQ(close(ring), 0);
  EXPECT_EQ(close(link), 0);
  EXPECT_TRUE(before.Unchanged());
}

TEST(RingInvitation, GoesOverASocketWhole) {
  const Sockets sockets;
  absl::StatusOr<Memfd> memfd = Memfd::Create({});
  ASSERT_THAT(memfd, IsOk());
  {
    const RingInvitation sent(dup(memfd->fd()), dup(STDERR_FILENO), 4096);
    ASSERT_THAT(sent.Send(sockets.fds[0]), IsOk());
  }
  absl::StatusOr<RingInvitation> received =
      RingInvitation::Receive(sockets.fds[1]);
  ASSERT_THAT(received, IsOk());
  EXPECT_EQ(received->offset_bytes(), 4096);
  const int ring = received->ReleaseRing();
  EXPECT_EQ(InodeOf(ring), InodeOf(memfd->fd()));
  close(ring);
}

TEST(RingInvitation, WithoutALinkItIsNotSent) {
  const Sockets sockets;
  const LeakCheck before;
  const absl::StatusOr<RingInvitation> invitation =
      RingInvitation::WithoutLink(STDIN_FILENO, 4096);
  ASSERT_THAT(invitation, IsOk());
  EXPECT_THAT(invitation->Send(sockets.fds[0]),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("ask the ring for another")));
  EXPECT_FALSE(RingInvitation::WithoutLink(-1).ok());
}

TEST(RingInvitation, WhatIsNoInvitationIsRefused) {
  const Sockets sockets;
  const LeakCheck before;
  absl::StatusOr<Memfd> memfd = Memfd::Create({});
  ASSERT_THAT(memfd->Send(sockets.fds[0]), IsOk());
  EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("1 descriptors in place of 2")));
  ASSERT_EQ(write(sockets.fds[0], "x", 1), 1);
  EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
              StatusIs(absl::StatusCode::kInvalidArgument));
  memfd = absl::CancelledError();
  EXPECT_TRUE(before.Unchanged()) << "what came along is closed";
  shutdown(sockets.fds[0], SHUT_RDWR);
  EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace doppel
