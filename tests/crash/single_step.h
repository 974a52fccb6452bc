// SPDX-License-Identifier: Apache-2.0
//
// Kills a process at each of its instructions.
//
//   child:   prepare │ SIGSTOP │ operation ............ │ SIGSTOP │
//   parent:            ├─ n steps (ptrace(2)) ─┤ SIGKILL
//
// Invariants:
//   1. The n-th child is killed after its n-th instruction within the operation; the
//      last one has finished it.
//   2. A system call counts as one instruction: it is done, or not begun.
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

// For n = 1, 2, ...: a child calls prepare(), then operate() for n instructions, and is
// killed; then the parent calls check(n). Ends after a child that finished operate(), or
// at the first failure. Returns the number of instructions.
int KillAtEachInstruction(const std::function<void()>& prepare,
                          const std::function<void()>& operate,
                          const std::function<void(int)>& check);

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_SINGLE_STEP_H_
