// SPDX-License-Identifier: Apache-2.0
//
// What tests of waiting have in common: options, polling, and what a sleep may cost.
//
// Invariants:
//   1. None of the options spins: who waits by them sleeps at once.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   EXPECT_EQ(reader.wait(1, Until(absl::Milliseconds(1))),
//             RingWait::kDeadlineExceeded);

#ifndef DOPPEL_TESTS_SUPPORT_WAITING_H_
#define DOPPEL_TESTS_SUPPORT_WAITING_H_

#include <poll.h>

#include <ctime>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/internal/wait_pace.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/support/fault_plan.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline constexpr RingWaitOptions kSleepAtOnce = {.spin = absl::ZeroDuration()};

// Who has waited for as long sleeps behind its heavy fence.
inline const absl::Duration kBeyondTrial =
    internal::kTrialSleep + absl::Milliseconds(2);

// Until then, on the processor: a sleep would end some tens of microseconds late.
inline void SpinUntil(absl::Time then) {
  while (absl::Now() < then) continue;
}

inline RingWaitOptions Until(absl::Duration from_now) {
  return {.deadline = absl::Now() + from_now, .spin = absl::ZeroDuration()};
}

inline bool IsReadable(int fd, absl::Duration within = absl::ZeroDuration()) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&polled, 1, static_cast<int>(within / absl::Milliseconds(1))) ==
         1;
}

// CPU time of the calling thread.
inline absl::Duration CpuTime() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

// That a wait in vain, with the options that it is given, is a sleep to its deadline.
template <class Wait>
void ExpectSleepsThrough(Wait wait) {
  const CallCounter counter;
  const absl::Duration before = CpuTime();
  EXPECT_EQ(wait(Until(absl::Milliseconds(300))), RingWait::kDeadlineExceeded);
  EXPECT_LT(CpuTime() - before, absl::Milliseconds(100));
  EXPECT_LE(counter.count(Call::kFutex), 2) << "it looked in between";
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_WAITING_H_
