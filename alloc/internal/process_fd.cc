// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/process_fd.h"

#include <pthread.h>

#include <atomic>
#include <mutex>
#include <type_traits>

#include "doppel/alloc/internal/sys.h"

namespace doppel::internal {

// All that have a descriptor. The lock is held over a fork, so that the child finds the
// list whole.
class ProcessFds {
 public:
  // Needs no memory, and nothing of it is destroyed: descriptors may be closed by
  // destructors of statics.
  static ProcessFds& Instance() {
    static ProcessFds instance;
    return instance;
  }

  void Add(ProcessFd& one) {
    const std::lock_guard lock(mutex_);
    one.next_ = first_;
    one.link_to_this_ = &first_;
    if (first_ != nullptr) first_->link_to_this_ = &one.next_;
    first_ = &one;
  }

  // Whether it was there.
  bool Remove(ProcessFd& one) {
    const std::lock_guard lock(mutex_);
    if (one.link_to_this_ == nullptr) return false;
    *one.link_to_this_ = one.next_;
    if (one.next_ != nullptr) one.next_->link_to_this_ = one.link_to_this_;
    one.link_to_this_ = nullptr;
    return true;
  }

 private:
  ProcessFds() {
    // Without memory for handlers children keep copies.
    (void)pthread_atfork([] { Instance().mutex_.lock(); },
                         [] { Instance().mutex_.unlock(); },
                         [] { Instance().CloseInChild(); });
  }

  void CloseInChild() {
    while (first_ != nullptr) {
      ProcessFd& one = *first_;
      first_ = one.next_;
      one.link_to_this_ = nullptr;
      sys::Close(one.fd_.exchange(-1, std::memory_order_relaxed));
    }
    mutex_.unlock();
  }

  std::mutex mutex_;
  ProcessFd* first_ = nullptr;
};

static_assert(std::is_trivially_destructible_v<ProcessFds>);

void ProcessFd::Take(int fd) {
  if (fd < 0) return;
  fd_.store(fd, std::memory_order_release);
  ProcessFds::Instance().Add(*this);
}

void ProcessFd::Drop() {
  if (fd() < 0 || !ProcessFds::Instance().Remove(*this)) return;
  sys::Close(fd_.exchange(-1, std::memory_order_acq_rel));
}

}  // namespace doppel::internal
