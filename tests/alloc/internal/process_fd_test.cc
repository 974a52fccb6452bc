// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/process_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;

int AnyFd() {
  const int fd = dup(STDERR_FILENO);
  EXPECT_GE(fd, 0);
  return fd;
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(ProcessFd, OwnsWhatItTakes) {
  const LeakCheck before;
  const int number = AnyFd();
  {
    ProcessFd fd;
    EXPECT_EQ(fd.fd(), -1);
    fd.Take(-1);
    fd.Drop();  // Of nothing.
    fd.Take(number);
    EXPECT_EQ(fd.fd(), number);
    EXPECT_EQ(fd.word()->load(), number);
    fd.Drop();
    EXPECT_EQ(fd.fd(), -1);
    EXPECT_FALSE(IsOpen(number));
    fd.Take(AnyFd());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(ProcessFd, AChildHasNone) {
  std::array<ProcessFd, 3> fds;
  std::array<int, 3> numbers = {};
  for (int i = 0; i < 3; ++i) fds[i].Take(numbers[i] = AnyFd());
  const int kept = AnyFd();
  fds[1].Drop();
  EXPECT_TRUE(Exited(RunInChild([&] {
                       for (int i = 0; i < 3; ++i) {
                         if (fds[i].fd() != -1 || IsOpen(numbers[i])) return 1;
                       }
                       if (!IsOpen(kept)) return 2;
                       // It goes on, and has children itself.
                       fds[0].Drop();
                       fds[2].Take(dup(kept));
                       const int own = fds[2].fd();
                       return Exited(RunInChild([&] {
                                       return fds[2].fd() == -1 && !IsOpen(own)
                                                  ? 0
                                                  : 1;
                                     }),
                                     0)
                                  ? 0
                                  : 3;
                     }),
                     0));
  EXPECT_TRUE(IsOpen(numbers[0]));
  EXPECT_TRUE(IsOpen(numbers[2]));
  close(kept);
}

// Descriptors come and go in threads while another one forks.
TEST(ProcessFd, ForksAtAnyMoment) {
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done.load()) {
      std::array<ProcessFd, 4> fds;
      for (ProcessFd& fd : fds) fd.Take(AnyFd());
    }
  });
  ProcessFd fd;
  fd.Take(AnyFd());
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(Exited(RunInChild([&] { return fd.fd() == -1 ? 0 : 1; }), 0));
  }
  done.store(true);
  other.join();
}

}  // namespace
}  // namespace doppel::internal
