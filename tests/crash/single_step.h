// SPDX-License-Identifier: Apache-2.0
//
// Kills a process at each of its instructions, or at each of its system calls.
//
//   child:   prepare │ SIGSTOP │ operation ............ │ SIGSTOP │
//   parent:            ├─ n steps (ptrace(2)) ─┤ SIGKILL
//
// Two processes that have to meet first do so between two stops:
//
//   child:   prepare │ SIGSTOP │        go_on │ SIGSTOP │ operation ...
//   parent:            meet ────────────▶       ├─ n steps ...
//
// Invariants:
//   1. For each step of the operation, or each strideth, a child is killed after it; the
//      last one has finished it. Where the way through the operation changes under way,
//      some children die where others did before.
//   2. A system call counts as one instruction: it is done, or not begun. So does a
//      reading of the clock. Where system calls are the steps, each has two: before it,
//      and after it.
//
// Thread safety: none; the parent's other threads must be quiet at a fork.
// Errors: what the system refuses is a test failure.
//
// Example:
//   const int instructions = KillAtEachInstruction(
//       [&] { writer.emplace(*ring.writer()); }, [&] { writer->try_push(1); },
//       [&](int n) { EXPECT_TRUE(RingIsWhole()) << n; });

#ifndef DOPPEL_TESTS_CRASH_SINGLE_STEP_H_
#define DOPPEL_TESTS_CRASH_SINGLE_STEP_H_

#include <functional>

namespace doppel::testing {

// One that is killed, and what this process does about it.
struct Killed {
  std::function<void()> prepare;  // The child.
  // This process, once the child has prepared, and then the child: if they have to
  // meet before the operation.
  std::function<void()> meet = nullptr;
  std::function<void()> go_on = nullptr;
  std::function<void()> operate;   // The child, until it is killed.
  std::function<void(int)> check;  // This process, after that.
};

enum class StepBy { kInstruction, kSystemCall };

// For n = 1, 1 + stride, ...: a child prepares, makes n steps of the operation, and is
// killed; then check(n). Ends after a child that finished the operation, or at the first
// failure. Returns the number of steps. The operation is to make the same instructions
// each time: what a process finds out once, this one should know before.
int KillAtEach(StepBy by, const Killed& killed, int stride = 1);

// At each instruction; in the short form of a campaign (support/campaign.h), at every
// third.
int KillAtEachInstruction(const Killed& killed);
int KillAtEachInstruction(const std::function<void()>& prepare,
                          const std::function<void()>& operate,
                          const std::function<void(int)>& check);

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_SINGLE_STEP_H_
