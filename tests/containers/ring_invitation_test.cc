// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_invitation.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
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
  return RingInvitation(dup(STDIN_FILENO), {.fd = dup(STDERR_FILENO), .id = 3},
                        offset_bytes);
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
  const int link = invitation.ReleaseLink().fd;
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
    RingInvitation sent(dup(memfd->fd()), {.fd = dup(sockets.fds[0]), .id = 3},
                        4096, 5);
    ASSERT_THAT(sent.Send(sockets.fds[0]), IsOk());
    EXPECT_THAT(sent.Send(sockets.fds[0]),
                StatusIs(absl::StatusCode::kFailedPrecondition))
        << "it is for one process";
  }
  absl::StatusOr<RingInvitation> received =
      RingInvitation::Receive(sockets.fds[1]);
  ASSERT_THAT(received, IsOk());
  EXPECT_EQ(received->offset_bytes(), 4096);
  EXPECT_EQ(received->ring_number(), 5);
  const RingInvitation::Link link = received->ReleaseLink();
  EXPECT_EQ(link.id, 3);
  close(link.fd);
  const int ring = received->ReleaseRing();
  EXPECT_EQ(InodeOf(ring), InodeOf(memfd->fd()));
  close(ring);
}

TEST(RingInvitation, WithoutALinkItIsNotSent) {
  const Sockets sockets;
  const LeakCheck before;
  absl::StatusOr<RingInvitation> invitation =
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

// To poll it, or to write to it, would ask the file system that it is of, which may be the
// sender's own and never answer.
TEST(RingInvitationRegression, ALinkThatIsNoSocketIsRefused) {
  const Sockets sockets;
  const LeakCheck before;
  const int event = eventfd(0, EFD_CLOEXEC);
  const int datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (const int link : {event, datagrams, STDERR_FILENO}) {
    RingInvitation sent(dup(STDIN_FILENO), {.fd = dup(link), .id = 3}, 0);
    ASSERT_THAT(sent.Send(sockets.fds[0]), IsOk());
    EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("no stream socket")));
  }
  close(event);
  close(datagrams);
  EXPECT_TRUE(before.Unchanged()) << "what came along is closed";
}

// Any number of descriptors in one message, by hand.
void SendMany(int socket, size_t count) {
  uint64_t word = 0;
  iovec data = {&word, sizeof(word)};
  const std::vector<int> fds(count, STDERR_FILENO);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(count * sizeof(int));
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  std::memcpy(CMSG_DATA(header), fds.data(), count * sizeof(int));
  ASSERT_EQ(sendmsg(socket, &message, 0), sizeof(word));
}

TEST(RingInvitationRegression, DescriptorsWithoutTheWordsAreRefusedAndClosed) {
  const Sockets sockets;
  const LeakCheck before;
  SendMany(sockets.fds[0], 2);
  EXPECT_THAT(
      RingInvitation::Receive(sockets.fds[1]),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no invitation")));
  EXPECT_TRUE(before.Unchanged());
}

TEST(RingInvitationRegression, WhatFoundNoRoomIsReceivedLater) {
  const Sockets sockets;
  absl::StatusOr<Memfd> memfd = Memfd::Create({});
  RingInvitation sent(dup(memfd->fd()), {.fd = dup(sockets.fds[0]), .id = 3},
                      4096);
  ASSERT_THAT(sent.Send(sockets.fds[0]), IsOk());
  {
    const testing::ScopedRlimit none(RLIMIT_NOFILE, 3);
    EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]), IsOk());
}

// The kernel fills the receiver's buffer to its end, which is aligned: a fourth
// descriptor was written past the array that was to hold three.
TEST(RingInvitationRegression, TooManyDescriptorsAreRefusedAndClosed) {
  const Sockets sockets;
  const LeakCheck before;
  for (const size_t count : {1, 3, 4, 5, 6, 15}) {
    SendMany(sockets.fds[0], count);
    EXPECT_THAT(RingInvitation::Receive(sockets.fds[1]),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << count;
    EXPECT_TRUE(before.Unchanged()) << count;
  }
}

}  // namespace
}  // namespace doppel
