// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <new>
#include <span>

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

flock ByteLock(uint64_t offset_bytes) {
  flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset_bytes);
  lock.l_len = 1;
  return lock;
}

int PollUntil(std::span<pollfd> polled, absl::Time deadline) {
  const bool for_ever = deadline == absl::InfiniteFuture();
  const timespec left =
      absl::ToTimespec(std::max(absl::ZeroDuration(), deadline - absl::Now()));
  return InvokeOnce(Call::kPoll, [&] {
    return ppoll(polled.data(), polled.size(), for_ever ? nullptr : &left,
                 nullptr);
  });
}

}  // namespace

void FutexWait(const std::atomic<uint32_t>& word, uint32_t expected,
               absl::Time deadline, absl::Duration at_most, FutexScope scope) {
  int operation = FUTEX_WAIT_BITSET;
  timespec until = {};
  const timespec* end = nullptr;
  if (at_most < deadline - absl::Now()) {
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    until = absl::ToTimespec(absl::DurationFromTimespec(now) + at_most);
    end = &until;
  } else if (deadline != absl::InfiniteFuture()) {
    operation |= FUTEX_CLOCK_REALTIME;
    until = absl::ToTimespec(deadline);
    end = &until;
  }
  InvokeOnce(Call::kFutex, [&] {
    return Futex(word, WithScope(operation, scope), expected, end,
                 FUTEX_BITSET_MATCH_ANY);
  });
}

void FutexWake(const std::atomic<uint32_t>& word, FutexScope scope) {
  Invoke(Call::kFutex, [&] {
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

absl::StatusOr<std::array<int, 2>> SocketPair() {
  std::array<int, 2> ends = {-1, -1};
  if (Invoke(Call::kSocketpair, [&] {
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data());
      }) == 0) {
    return ends;
  }
  return Failure(Call::kSocketpair, "AF_UNIX, SOCK_STREAM");
}

bool IsUnixStream(int fd) {
  const auto is = [fd](int option, int wanted) {
    int value = 0;
    socklen_t bytes = sizeof(value);
    return Invoke(Call::kGetsockopt,
                  [&] {
                    return getsockopt(fd, SOL_SOCKET, option, &value, &bytes);
                  }) == 0 &&
           value == wanted;
  };
  return is(SO_DOMAIN, AF_UNIX) && is(SO_TYPE, SOCK_STREAM);
}

void SignalSocket(int fd) {
  const char byte = 0;
  // EAGAIN: it is readable already. EPIPE: nobody is there to be woken.
  Invoke(Call::kSendmsg,
         [&] { return send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL); });
}

void ClearSocket(int fd) {
  std::array<char, 4096> bytes;
  Invoke(Call::kRecvmsg,
         [&] { return recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT); });
}

Polled Poll(int fd, absl::Time deadline) {
  return PollWith(fd, /*event=*/-1, deadline);
}

Polled PollWith(int fd, int event, absl::Time deadline) {
  // A negative descriptor is passed over (poll(2)).
  std::array<pollfd, 2> polled = {
      pollfd{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0},
      pollfd{.fd = event, .events = POLLIN, .revents = 0}};
  if (PollUntil(polled, deadline) <= 0) return {};
  return {.readable = (polled[0].revents & POLLIN) != 0,
          .hung_up = (polled[0].revents &
                      (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0,
          .told = (polled[1].revents & POLLIN) != 0};
}

absl::Status PollAny(std::span<const int> fds, absl::Time deadline) {
  const std::unique_ptr<pollfd[]> polled(new (std::nothrow) pollfd[fds.size()]);
  if (polled == nullptr) return absl::ResourceExhaustedError("no memory");
  for (size_t i = 0; i < fds.size(); ++i) {
    polled[i] = {.fd = fds[i], .events = POLLIN | POLLRDHUP, .revents = 0};
  }
  if (PollUntil(std::span(polled.get(), fds.size()), deadline) >= 0 ||
      CallErrno() == EINTR) {
    return absl::OkStatus();
  }
  return Failure(Call::kPoll, absl::StrCat(fds.size(), " descriptors"),
                 CallErrno() == EINVAL ? "more than RLIMIT_NOFILE" : "");
}

absl::StatusOr<bool> TryLockByte(int fd, uint64_t offset_bytes) {
  flock lock = ByteLock(offset_bytes);
  if (Invoke(Call::kFcntl, [&] { return fcntl(fd, F_OFD_SETLK, &lock); }) ==
      0) {
    return true;
  }
  if (CallErrno() == EAGAIN || CallErrno() == EACCES) return false;
  return Failure(Call::kFcntl, absl::StrCat(fd, ", F_OFD_SETLK"));
}

void UnlockByte(int fd, uint64_t offset_bytes) {
  flock lock = ByteLock(offset_bytes);
  lock.l_type = F_UNLCK;
  Invoke(Call::kFcntl, [&] { return fcntl(fd, F_OFD_SETLK, &lock); });
}

absl::StatusOr<bool> IsLockedElsewhere(int fd, uint64_t offset_bytes) {
  flock lock = ByteLock(offset_bytes);
  if (Invoke(Call::kFcntl, [&] { return fcntl(fd, F_OFD_GETLK, &lock); }) ==
      0) {
    return lock.l_type != F_UNLCK;
  }
  return Failure(Call::kFcntl, absl::StrCat(fd, ", F_OFD_GETLK"));
}

}  // namespace doppel::internal::sys
