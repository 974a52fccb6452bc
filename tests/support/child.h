// SPDX-License-Identifier: Apache-2.0
//
// Runs a function in a forked child, for what would end or change the process:
// signals, resource limits, privileges, fork policies.
//
// Invariants:
//   1. The child never returns into the test: it ends by _exit or by a signal.
//   2. The parent has waited for the child when RunInChild returns.
//
// Thread safety: fork(2) copies the calling thread only; call it where no other
//   thread holds a lock that the child needs.
// Errors: a fork that fails fails the test.
//
// Example:
//   EXPECT_TRUE(DiedOf(RunInChild([&] { *guard = 1; return 0; }), SIGSEGV));

#ifndef DOPPEL_TESTS_SUPPORT_CHILD_H_
#define DOPPEL_TESTS_SUPPORT_CHILD_H_

#include <functional>

namespace doppel::testing {

// The wait status (waitpid(2)) of a child whose exit code is what `body` returns.
int RunInChild(const std::function<int()>& body);

// Whether the wait status says that the child ended with this exit code.
bool Exited(int wait_status, int code);

// Whether the wait status says that the child was ended by this signal. A child that
// expects SIGSEGV under a sanitizer restores its default action first.
bool DiedOf(int wait_status, int signal);

// Whether touching the byte faults (SIGSEGV or SIGBUS), found out in a child.
bool Faults(const volatile void* byte);

// Makes RLIMIT_MEMLOCK bind root too: gives up CAP_IPC_LOCK (capabilities(7)), for
// good, so in a child. True if the process has it no longer.
bool DropLockPrivilege();

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_CHILD_H_
