// SPDX-License-Identifier: Apache-2.0
//
// Where this process and each of its children, one after another, pass invitations.
//
// Invariants:
//   1. Neither end waits: what has not come when it is looked for does not come.
//
// Thread safety: none.
// Errors: what the system refuses is a test failure.
//
// Example:
//   MeetingPlace place;
//   invitation.Send(place.childs_end());       // The child.
//   RingInvitation::Receive(place.this_end());  // This process.

#ifndef DOPPEL_TESTS_CRASH_MEETING_PLACE_H_
#define DOPPEL_TESTS_CRASH_MEETING_PLACE_H_

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "gtest/gtest.h"

namespace doppel::testing {

class MeetingPlace {
 public:
  MeetingPlace() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                         ends_.data()),
              0);
  }
  ~MeetingPlace() {
    for (const int end : ends_) close(end);
  }
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;

  int this_end() const { return ends_[0]; }
  int childs_end() const { return ends_[1]; }

 private:
  std::array<int, 2> ends_ = {-1, -1};
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_MEETING_PLACE_H_
