// SPDX-License-Identifier: Apache-2.0
//
// How often who waits looks at what, whatever it waits by.
//
//   spin   look × kLooksPerClock ─▶ clock ─▶ ...  each kSpinRound: has the other ended?
//   trial  Settle() ─▶ look ─▶ sleep: for kTrialSleep, all that a short wait needs
//   sleep  heavy fence ─▶ look ─▶ sleep until woken; kBlindSleep at most where nobody can
//          be relied on to wake; kUnlinkedSleep at most where the end of the other's
//          process wakes nobody
//
// Invariants:
//   1. Who waits looks again kTrialSleep after it began to, and from then on at least
//      each kBlindSleep, or is sure to be woken. Whatever is done to the clock that
//      deadlines are of.
//   2. A wait that ends before kTrialSleep makes no heavy fence, and so interrupts nobody:
//      membarrier(2) takes a microsecond while the others sleep, but where processors are
//      virtual it takes up to fifty for each that runs.
//
// Thread safety: WaitFences belongs to who waits; the others may be used by any thread.
// Errors: none.
//
// Example:
//   for (int i = 0; i < kLooksPerClock; ++i) if (Look()) return true;
//   return absl::Now() < deadline;

#ifndef DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
#define DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_

#include <atomic>
#include <chrono>

#include "absl/time/time.h"
#include "doppel/containers/internal/pause.h"

namespace doppel::internal {

// Looks before the clock is asked for the time.
inline constexpr int kLooksPerClock = 32;

// How long to spin before a system call tells whether the other side has ended.
inline constexpr absl::Duration kSpinRound = absl::Milliseconds(1);

// For who has announced that it waits, in place of the heavy fence: its announcement is
// out when this begins, and what the others had stored before they could see it is there
// when this ends, as a rule: a store stays on its processor for as long as its line and
// those of the stores before it take to come, some hundred nanoseconds each, and many
// come at a time.
inline void Settle() {
  constexpr double kNs = 1000;  // What the heavy fence takes where it is fast.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (auto i = static_cast<int>(kNs / PauseNs()); i > 0; --i) Pause();
}

// What is overlooked after Settle() is found as late as this. A wait that is shorter need
// make no heavy fence, and a timer that is longer than a tick of the kernel's (4 ms where
// there are 250 a second) need not be programmed into the processor.
inline constexpr absl::Duration kTrialSleep = absl::Milliseconds(4);

// How long who may not be woken sleeps before it looks again: where the heavy fence is
// denied, or what to sleep on cannot be had.
inline constexpr absl::Duration kBlindSleep = absl::Milliseconds(1);

// How long who has no link to the other's process sleeps before it asks the kernel
// whether that one lives: a few microseconds of a processor each second.
inline constexpr absl::Duration kUnlinkedSleep = absl::Milliseconds(50);

// The fences of one wait, one for each sleep, and how long that may last.
class WaitFences {
 public:
  // For who has announced that it waits. `heavy_fence` says whether it could be made.
  template <class HeavyFence>
  void Fence(HeavyFence heavy_fence) {
    const absl::Duration left =
        kTrialSleep - absl::FromChrono(Clock::now() - begin_);
    is_trial_ = left > absl::ZeroDuration();
    if (is_trial_) {
      at_most_ = left;
      Settle();
    } else {
      at_most_ = heavy_fence() ? absl::InfiniteDuration() : kBlindSleep;
    }
  }

  // Of the sleep behind the last fence, if a look after it found too little.
  absl::Duration at_most() const { return at_most_; }
  // Whether that is but a part of a short wait.
  bool is_trial() const { return is_trial_; }

 private:
  using Clock = std::chrono::steady_clock;

  const Clock::time_point begin_ = Clock::now();
  absl::Duration at_most_ = kBlindSleep;
  bool is_trial_ = true;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
