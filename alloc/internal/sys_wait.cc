// SPDX-License-Identifier: Apache-2.0

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>

#include "absl/base/macros.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/internal/sys_invoke.h"

namespace doppel::internal::sys {
namespace {

long Futex(const std::atomic<uint32_t>& word, int operation, uint32_t value,
           const timespec* timeout, uint32_t bits) {
  return syscall(SYS_futex, &word, operation, value, timeout, nullptr, bits);
}

int WithScope(int operation, FutexScope scope) {
  return scope == FutexScope::kProcess ? operation | FUTEX_PRIVATE_FLAG
                                       : operation;
}

absl::Status Membarrier(int command) {
  if (Invoke(Call::kMembarrier,
             [&] { return syscall(SYS_membarrier, command, 0U, 0); }) == 0) {
    return absl::OkStatus();
  }
  return Failure(Call::kMembarrier, absl::StrCat(command),
                 "a filter of system calls may forbid it (seccomp); sleeping "
                 "for a ring needs it");
}

}  // namespace

void FutexWait(const std::atomic<uint32_t>& word, uint32_t expected,
               absl::Time deadline, FutexScope scope) {
  const bool for_ever = deadline == absl::InfiniteFuture();
  const timespec at = absl::ToTimespec(deadline);
  const int operation =
      WithScope(FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, scope);
  InvokeOnce(Call::kFutex, [&] {
    return Futex(word, operation, expected, for_ever ? nullptr : &at,
                 FUTEX_BITSET_MATCH_ANY);
  });
}

void FutexWake(const std::atomic<uint32_t>& word, FutexScope scope) {
  InvokeOnce(Call::kFutex, [&] {
    return Futex(word, WithScope(FUTEX_WAKE, scope), INT_MAX, nullptr, 0);
  });
}

absl::Status Barrier(FutexScope scope) {
  if (scope == FutexScope::kMachine) {
    return Membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
  }
  absl::Status done = Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  // EPERM: the process has not registered yet.
  if (done.ok() || CallErrno() != EPERM) return done;
  done = Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  if (!done.ok()) return done;
  return Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

absl::Status RegisterForBarriers() {
  return Membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

absl::StatusOr<int> EventFd() {
  const int fd = Invoke(Call::kEventfd,
                        [] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
  if (fd >= 0) return fd;
  return Failure(Call::kEventfd, "0");
}

// Neither can fail on a descriptor of EventFd but with EAGAIN: the counter is full, or
// empty, which is what the caller wants of it.
void SignalEvent(int fd) {
  const uint64_t one = 1;
  Invoke(Call::kWrite, [&] { return write(fd, &one, sizeof(one)); });
}

void ClearEvent(int fd) {
  uint64_t count = 0;
  Invoke(Call::kRead, [&] { return read(fd, &count, sizeof(count)); });
}

absl::StatusOr<int> PidfdOpen(int process) {
  const int fd = Invoke(Call::kPidfdOpen, [&] {
    return static_cast<int>(syscall(SYS_pidfd_open, process, 0U));
  });
  if (fd >= 0) return fd;
  return Failure(
      Call::kPidfdOpen, absl::StrCat(process),
      CallErrno() == ESRCH ? "there is no such process any more" : "");
}

absl::StatusOr<uint32_t> Poll(std::span<const int> fds, absl::Time deadline) {
  ABSL_HARDENING_ASSERT(fds.size() <= kMaxPolled);
  std::array<pollfd, kMaxPolled> polled = {};
  for (size_t i = 0; i < fds.size(); ++i) {
    polled[i] = {.fd = fds[i], .events = POLLIN, .revents = 0};
  }
  const bool for_ever = deadline == absl::InfiniteFuture();
  const timespec left =
      absl::ToTimespec(std::max(absl::ZeroDuration(), deadline - absl::Now()));
  const int ready = InvokeOnce(Call::kPoll, [&] {
    return ppoll(polled.data(), fds.size(), for_ever ? nullptr : &left,
                 nullptr);
  });
  if (ready < 0 && CallErrno() != EINTR) {
    return Failure(Call::kPoll, absl::StrCat(fds.size()));
  }
  uint32_t mask = 0;
  if (ready <= 0) return mask;
  for (size_t i = 0; i < fds.size(); ++i) {
    if (polled[i].revents != 0) mask |= uint32_t{1} << i;
  }
  return mask;
}

}  // namespace doppel::internal::sys
