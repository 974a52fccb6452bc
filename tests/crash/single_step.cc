// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/crash/single_step.h"

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "gtest/gtest.h"

namespace doppel::testing {
namespace {

// The next change of the child's state.
int WaitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

bool StoppedBy(int status, int signal) {
  return WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

pid_t StartChild(const std::function<void()>& prepare,
                 const std::function<void()>& operate) {
  const pid_t child = fork();
  if (child != 0) return child;
  ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  prepare();
  kill(getpid(), SIGSTOP);
  operate();
  kill(getpid(), SIGSTOP);
  _exit(0);
}

// Lets the child make up to n instructions. Whether it came to the operation's end.
bool Step(pid_t child, int n) {
  for (int i = 0; i < n; ++i) {
    if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) {
      ADD_FAILURE() << "ptrace, errno " << errno;
      return true;
    }
    const int status = WaitFor(child);
    if (StoppedBy(status, SIGSTOP)) return true;
    if (!StoppedBy(status, SIGTRAP)) {
      ADD_FAILURE() << "the child ended, wait status " << status;
      return true;
    }
  }
  return false;
}

}  // namespace

int KillAtEachInstruction(const std::function<void()>& prepare,
                          const std::function<void()>& operate,
                          const std::function<void(int)>& check) {
  for (int n = 1;; ++n) {
    const pid_t child = StartChild(prepare, operate);
    const int ready = WaitFor(child);
    EXPECT_TRUE(StoppedBy(ready, SIGSTOP)) << "wait status " << ready;
    const bool finished = ::testing::Test::HasFailure() || Step(child, n);
    kill(child, SIGKILL);
    // A child that stopped may tell of more before it is gone.
    int status = WaitFor(child);
    while (WIFSTOPPED(status)) status = WaitFor(child);
    check(n);
    if (finished || ::testing::Test::HasFailure()) return n;
  }
}

}  // namespace doppel::testing
