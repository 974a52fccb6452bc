// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/crash/single_step.h"

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
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

enum class Came : uint8_t { kToTheStep, kToTheEnd, kAnotherWay };

#if defined(__x86_64__)
// Of the instruction that the child is about to make.
uintptr_t AddressIn(pid_t child) {
  return static_cast<uintptr_t>(
      ptrace(PTRACE_PEEKUSER, child, offsetof(user_regs_struct, rip), nullptr));
}

uintptr_t StackIn(pid_t child) {
  return static_cast<uintptr_t>(
      ptrace(PTRACE_PEEKUSER, child, offsetof(user_regs_struct, rsp), nullptr));
}

// Lets the child run until it is about to make the instruction at `address`. Whether it
// came there, and not to the operation's end.
bool RunTo(pid_t child, uintptr_t address) {
  constexpr uint64_t kBreakpoint = 0xcc;
  const long code = ptrace(PTRACE_PEEKTEXT, child, address, nullptr);
  ptrace(PTRACE_POKETEXT, child, address,
         (static_cast<uint64_t>(code) & ~uint64_t{0xff}) | kBreakpoint);
  ptrace(PTRACE_CONT, child, nullptr, nullptr);
  const int status = WaitFor(child);
  if (StoppedBy(status, SIGSTOP)) return false;
  EXPECT_TRUE(StoppedBy(status, SIGTRAP)) << "wait status " << status;
  ptrace(PTRACE_POKETEXT, child, address, code);
  ptrace(PTRACE_POKEUSER, child, offsetof(user_regs_struct, rip), address);
  return true;
}

// Lets a child that is about to run absl::Now() come back from it. Whether it was.
//
// The clock measures how long it takes to read the time, and reads again until that was
// short: in single steps it never is.
bool StepOverClock(pid_t child, uintptr_t address) {
  if (address != reinterpret_cast<uintptr_t>(&absl::Now)) return false;
  const long back = ptrace(PTRACE_PEEKDATA, child, StackIn(child), nullptr);
  EXPECT_TRUE(RunTo(child, static_cast<uintptr_t>(back)));
  return true;
}
#else
// Not known: each child makes all its steps singly.
uintptr_t AddressIn(pid_t) { return 0; }
uintptr_t StackIn(pid_t) { return 0; }
bool RunTo(pid_t, uintptr_t) { return false; }
bool StepOverClock(pid_t, uintptr_t) { return false; }
#endif

// Lets the child make one step. Whether it is not at the operation's end.
bool Step(pid_t child, StepBy by) {
  const auto request =
      by == StepBy::kInstruction ? PTRACE_SINGLESTEP : PTRACE_SYSCALL;
  if (ptrace(request, child, nullptr, nullptr) != 0) {
    ADD_FAILURE() << "ptrace, errno " << errno;
    return false;
  }
  const int status = WaitFor(child);
  if (StoppedBy(status, SIGSTOP)) return false;
  EXPECT_TRUE(StoppedBy(status, SIGTRAP))
      << "the child ended, wait status " << status;
  return StoppedBy(status, SIGTRAP);
}

// How the children come to the steps at which they are killed. A single step takes as
// long as tens of thousands of instructions that are not stepped: so of the way that the
// children before have shown, only the last bit is gone in steps.
//
//   ─────────── runs ──────────▶ mark ─ step ─ step ─ step │ killed
//                                └ where the operation comes to this instruction for
//                                  the first time
//
// A child may leave the way of those before it: what this process has found out once it
// need not find out again. Then the mark is given up, and what came after the mark
// before it is gone through again.
class Way {
 public:
  // Memory is taken before: a child whose heap is another takes another way.
  explicit Way(StepBy by) : by_(by) {
    constexpr size_t kMarks = size_t{1} << 16;
    marks_.reserve(kMarks);
    known_.reserve(kMarks);
  }

  // Lets the child make n steps.
  Came Go(pid_t child, int n) {
    int at = 0;
    uintptr_t address = 0;
    if (!marks_.empty()) {
      const Mark& mark = marks_.back();
      address = mark.address;
      if (!RunTo(child, address) || StackIn(child) != mark.stack) {
        return Came::kAnotherWay;
      }
      at = mark.at;
    } else if (by_ == StepBy::kInstruction) {
      address = AddressIn(child);
      known_.insert(address);
    }
    for (; at < n; ++at) {
      if (!StepOverClock(child, address) && !Step(child, by_)) {
        return Came::kToTheEnd;
      }
      if (by_ == StepBy::kSystemCall) continue;
      address = AddressIn(child);
      if (address != 0 && known_.insert(address).second) {
        marks_.push_back({address, StackIn(child), at + 1});
      }
    }
    return Came::kToTheStep;
  }

  // After a child that went another way: where to go on.
  int Back() {
    marks_.pop_back();
    return marks_.empty() ? 1 : marks_.back().at + 1;
  }

 private:
  struct Mark {
    uintptr_t address;
    uintptr_t stack;  // Another one: the child is elsewhere, in the same code.
    int at;           // In steps from the beginning.
  };

  const StepBy by_;
  std::vector<Mark> marks_;
  // Of marks that stand, and of what is none: where the operation begins, and marks that
  // were given up.
  absl::flat_hash_set<uintptr_t> known_;
};

}  // namespace

int KillAtEach(StepBy by, const Killed& killed, int stride) {
  Way way(by);
  for (int n = 1;;) {
    const pid_t child = StartChild(killed);
    ExpectStopped(child);
    if (killed.meet != nullptr && !::testing::Test::HasFailure()) {
      killed.meet();
      ptrace(PTRACE_CONT, child, nullptr, nullptr);
      ExpectStopped(child);
    }
    const Came came =
        ::testing::Test::HasFailure() ? Came::kToTheEnd : way.Go(child, n);
    kill(child, SIGKILL);
    // A child that stopped may tell of more before it is gone.
    int status = WaitFor(child);
    while (WIFSTOPPED(status)) status = WaitFor(child);
    killed.check(n);
    if (came == Came::kToTheEnd || ::testing::Test::HasFailure()) return n;
    n = came == Came::kAnotherWay ? way.Back() : n + stride;
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
