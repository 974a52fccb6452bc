// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/support/child.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace doppel::testing {
namespace {

// As execve(2) wants them.
std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

int RunInChild(const std::function<int()>& body) { return Child(body).Wait(); }

Child::Child(const std::function<int()>& body) : pid_(fork()) {
  if (pid_ == 0) {
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    _exit(body());
  }
  EXPECT_GT(pid_, 0) << "fork failed, errno " << errno;
}

Child::~Child() { Kill(); }

int Child::Wait() {
  if (pid_ <= 0) return status_;
  status_ = -1;
  while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status_;
}

int Child::Kill() {
  if (pid_ > 0) kill(pid_, SIGKILL);
  return Wait();
}

int ExecTest(const std::string& test, std::vector<std::string> environment) {
  constexpr int kNoProgram = 127;
  const char* const self = "/proc/self/exe";
  std::vector<std::string> arguments = {self,
                                        absl::StrCat("--gtest_filter=", test),
                                        "--gtest_also_run_disabled_tests"};
  execve(self, Pointers(arguments).data(), Pointers(environment).data());
  return kNoProgram;
}

bool Exited(int wait_status, int code) {
  return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == code;
}

bool DiedOf(int wait_status, int signal) {
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == signal;
}

bool Faults(const volatile void* byte) {
  const int status = RunInChild([byte] {
    // The default action, not a sanitizer's report.
    (void)std::signal(SIGSEGV, SIG_DFL);
    (void)std::signal(SIGBUS, SIG_DFL);
    (void)*static_cast<const volatile char*>(byte);
    return 0;
  });
  return DiedOf(status, SIGSEGV) || DiedOf(status, SIGBUS);
}

bool DropLockPrivilege() {
  // Not setuid(2): /proc/self would be root's from then on.
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, sets) != 0) return false;
  __user_cap_data_struct& set = sets[CAP_TO_INDEX(CAP_IPC_LOCK)];
  set.effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
  set.permitted &= ~CAP_TO_MASK(CAP_IPC_LOCK);
  return syscall(SYS_capset, &header, sets) == 0;
}

}  // namespace doppel::testing
