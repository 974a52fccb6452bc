// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/sys.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/sys_invoke.h"

namespace doppel::internal::sys {

constinit std::atomic<FaultHook*> fault_hook{nullptr};

FaultHook* SetFaultHook(FaultHook* hook) {
  return fault_hook.exchange(hook, std::memory_order_acq_rel);
}

namespace {
constinit thread_local int call_errno = 0;
}  // namespace

int CallErrno() { return call_errno; }
void SaveCallErrno() { call_errno = errno; }

const char* CallName(Call call) {
  static constexpr std::array<const char*, kCalls> kNames = {
      "memfd_create",
      "shm_open",
      "shm_unlink",
      "open",
      "dup",
      "ftruncate",
      "fallocate",
      "fcntl",
      "fstat",
      "fstatfs",
      "pread",
      "pwrite",
      "read",
      "sendmsg",
      "recvmsg",
      "mmap",
      "munmap",
      "mprotect",
      "mremap",
      "madvise",
      "mlock2",
      "munlock",
      "mlockall",
      "munlockall",
      "msync",
      "ioctl",
      "getrlimit",
      "futex",
      "membarrier",
      "eventfd",
      "ppoll",
      "write",
      "socketpair",
      "getsockopt",
      "sched_getaffinity",
      "sched_setaffinity"};
  return kNames[static_cast<size_t>(call)];
}

namespace {

// What holds whichever call it was.
absl::string_view GeneralAdvice(int error) {
  switch (error) {
    case EMFILE:
      return "the process has no free descriptor: close some or raise "
             "RLIMIT_NOFILE (ulimit -n)";
    case ENFILE:
      return "the system has no free descriptor: raise fs.file-max";
    case ENOMEM:
      return "out of memory, of address space (RLIMIT_AS, ulimit -v) or of "
             "mappings (vm.max_map_count)";
    case ENOSPC:
      return "no memory left for the file's pages: free some or raise the "
             "memory limit of the control group";
    case EPERM:
      return "a seal of the file or a missing privilege forbids it";
    default:
      return {};
  }
}

}  // namespace

absl::Status Failure(Call call, absl::string_view arguments,
                     absl::string_view advice) {
  const int error = CallErrno();
  if (advice.empty()) advice = GeneralAdvice(error);
  absl::Status status = absl::ErrnoToStatus(
      error, absl::StrCat(CallName(call), "(", arguments, ")"));
  if (advice.empty()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), "; ", advice));
}

}  // namespace doppel::internal::sys
