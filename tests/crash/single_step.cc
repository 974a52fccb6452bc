// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/crash/single_step.h"

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include "absl/time/clock.h"
#include "doppel/tests/support/campaign.h"
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

void Stop() { kill(getpid(), SIGSTOP); }

pid_t StartChild(const Killed& killed) {
  const pid_t child = fork();
  if (child != 0) return child;
  ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  killed.prepare();
  if (killed.meet != nullptr) {
    Stop();
    killed.go_on();
  }
  Stop();
  killed.operate();
  Stop();
  _exit(0);
}

void ExpectStopped(pid_t child) {
  const int status = WaitFor(child);
  EXPECT_TRUE(StoppedBy(status, SIGSTOP)) << "wait status " << status;
}

#if defined(__x86_64__)
// Lets a child that is about to run absl::Now() come back from it. Whether it was.
//
// The clock measures how long it takes to read the time, and reads again until that was
// short: in single steps it never is.
bool StepOverClock(pid_t child) {
  constexpr uint64_t kBreakpoint = 0xcc;
  user_regs_struct registers = {};
  ptrace(PTRACE_GETREGS, child, nullptr, &registers);
  if (registers.rip != reinterpret_cast<uintptr_t>(&absl::Now)) return false;
  const long back = ptrace(PTRACE_PEEKDATA, child, registers.rsp, nullptr);
  const long code = ptrace(PTRACE_PEEKTEXT, child, back, nullptr);
  ptrace(PTRACE_POKETEXT, child, back,
         (static_cast<uint64_t>(code) & ~uint64_t{0xff}) | kBreakpoint);
  ptrace(PTRACE_CONT, child, nullptr, nullptr);
  EXPECT_TRUE(StoppedBy(WaitFor(child), SIGTRAP));
  ptrace(PTRACE_POKETEXT, child, back, code);
  ptrace(PTRACE_GETREGS, child, nullptr, &registers);
  registers.rip = static_cast<uint64_t>(back);
  ptrace(PTRACE_SETREGS, child, nullptr, &registers);
  return true;
}
#else
bool StepOverClock(pid_t) { return false; }
#endif

// Lets the child make up to n steps. Whether it came to the operation's end.
bool Step(pid_t child, StepBy by, int n) {
  const auto request =
      by == StepBy::kInstruction ? PTRACE_SINGLESTEP : PTRACE_SYSCALL;
  for (int i = 0; i < n; ++i) {
    if (by == StepBy::kInstruction && StepOverClock(child)) continue;
    if (ptrace(request, child, nullptr, nullptr) != 0) {
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

int KillAtEach(StepBy by, const Killed& killed, int stride) {
  for (int n = 1;; n += stride) {
    const pid_t child = StartChild(killed);
    ExpectStopped(child);
    if (killed.meet != nullptr && !::testing::Test::HasFailure()) {
      killed.meet();
      ptrace(PTRACE_CONT, child, nullptr, nullptr);
      ExpectStopped(child);
    }
    const bool finished = ::testing::Test::HasFailure() || Step(child, by, n);
    kill(child, SIGKILL);
    // A child that stopped may tell of more before it is gone.
    int status = WaitFor(child);
    while (WIFSTOPPED(status)) status = WaitFor(child);
    killed.check(n);
    if (finished || ::testing::Test::HasFailure()) return n;
  }
}

int KillAtEachInstruction(const Killed& killed) {
  return KillAtEach(StepBy::kInstruction, killed,
                    static_cast<int>(Scaled(3, 1)));
}

int KillAtEachInstruction(const std::function<void()>& prepare,
                          const std::function<void()>& operate,
                          const std::function<void(int)>& check) {
  return KillAtEachInstruction(
      {.prepare = prepare, .operate = operate, .check = check});
}

}  // namespace doppel::testing
