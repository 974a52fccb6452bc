// SPDX-License-Identifier: Apache-2.0
//
// A descriptor that a child of fork(2) does not keep. What the kernel does when the last
// copy of a descriptor is closed (a socket hangs up, a lock is free again) happens at the
// end of the process that has it, whatever children it had.
//
//   parent   fd 7 ──▶ socket        fork()      child   -1     (pthread_atfork(3))
//
// Invariants:
//   1. fd() is a descriptor of the process that called Take, and -1 in its children.
//
// Thread safety: fd() and word() from any thread; Take and Drop from one at a time.
// Errors: none. A child that clone(2) made without fork(2)'s handlers keeps a copy, until
//   it runs another program (the descriptors are close-on-exec).
//
// Example:
//   ProcessFd lock_file;
//   lock_file.Take(*sys::Reopen(fd));

#ifndef DOPPEL_ALLOC_INTERNAL_PROCESS_FD_H_
#define DOPPEL_ALLOC_INTERNAL_PROCESS_FD_H_

#include <atomic>

namespace doppel::internal {

class ProcessFd {
 public:
  ProcessFd() = default;
  ~ProcessFd() { Drop(); }
  ProcessFd(const ProcessFd&) = delete;
  ProcessFd& operator=(const ProcessFd&) = delete;

  // The descriptor; -1: none.
  int fd() const { return fd_.load(std::memory_order_relaxed); }
  const std::atomic<int>* word() const { return &fd_; }

  // Owns it from then on, unless it is -1. REQUIRES: there is none.
  void Take(int fd);

  // Closes it, if there is one.
  void Drop();

 private:
  friend class ProcessFds;

  std::atomic<int> fd_{-1};
  // Of all that have a descriptor.
  ProcessFd* next_ = nullptr;
  ProcessFd** link_to_this_ = nullptr;
};

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_PROCESS_FD_H_
