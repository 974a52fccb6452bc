// SPDX-License-Identifier: Apache-2.0
//
// Runs a function in a forked child, for what would end or change the process
// (signals, resource limits, privileges, fork policies) or needs another one.
//
// Invariants:
//   1. The child never returns into the test: it ends by _exit or by a signal.
//   2. The parent has waited for the child when RunInChild returns, or when the
//      Child is destroyed.
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
#include <string>
#include <vector>

namespace doppel::testing {

// The wait status (waitpid(2)) of a child whose exit code is what `body` returns.
int RunInChild(const std::function<int()>& body);

// A child that runs beside its parent, and is killed with this object.
class Child {
 public:
  // REQUIRES: body is called in the child only, so that it may move from what it holds.
  explicit Child(const std::function<int()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  int pid() const { return pid_; }

  // The wait status, once the child has ended by itself.
  int Wait();

  // Ends the child by SIGKILL, unless it has ended; the wait status.
  int Kill();

 private:
  int pid_ = -1;    // -1: waited for.
  int status_ = 0;  // Once waited for.
};

// In a child: goes on as another program, this very binary from its start. It runs the
// one test, disabled or not, in this environment and no more. Returns an exit code if
// that cannot be.
int ExecTest(const std::string& test, std::vector<std::string> environment);

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
