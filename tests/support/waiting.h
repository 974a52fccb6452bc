// SPDX-License-Identifier: Apache-2.0
//
// What tests of waiting have in common: options, polling, and counting system calls.
//
// Invariants:
//   1. A CallTotal sees the calls of all threads from its construction to its
//      destruction, and leaves the hook that it found.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   const CallTotal counter;
//   EXPECT_EQ(reader.wait(), RingWait::kReady);
//   EXPECT_EQ(counter.calls(), 0);

#ifndef DOPPEL_TESTS_SUPPORT_WAITING_H_
#define DOPPEL_TESTS_SUPPORT_WAITING_H_

#include <poll.h>

#include <atomic>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::testing {

inline constexpr RingWaitOptions kSleepAtOnce = {.spin = absl::ZeroDuration()};

inline RingWaitOptions Until(absl::Duration from_now) {
  return {.deadline = absl::Now() + from_now, .spin = absl::ZeroDuration()};
}

// Counts the calls that the waiting code makes.
class CallTotal final : public internal::sys::FaultHook {
 public:
  CallTotal() : before_(internal::sys::SetFaultHook(this)) {}
  ~CallTotal() override { internal::sys::SetFaultHook(before_); }
  int ErrnoFor(internal::sys::Call) override {
    calls_.fetch_add(1, std::memory_order_relaxed);
    return 0;
  }
  int calls() const { return calls_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int> calls_{0};
  internal::sys::FaultHook* const before_;
};

inline bool IsReadable(int fd, absl::Duration within = absl::ZeroDuration()) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&polled, 1, static_cast<int>(within / absl::Milliseconds(1))) ==
         1;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_WAITING_H_
