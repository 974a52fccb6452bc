// SPDX-License-Identifier: Apache-2.0
//
// How often who waits looks at what, whatever it waits by.
//
//   spin   look × kLooksPerClock ─▶ clock ─▶ ...  each kSpinRound: has the other ended?
//   trial  Settle() ─▶ look ─▶ sleep, kTrialSleep at most: all that a short wait needs
//   sleep  heavy fence ─▶ look ─▶ sleep until woken; kBlindSleep at most where nobody can
//          be relied on to wake; kUnlinkedSleep at most where the end of the other's
//          process wakes nobody
//
// Invariants:
//   1. Who waits looks again after kTrialSleep, and from then on at least each
//      kBlindSleep, or is sure to be woken.
//   2. A wait that ends before kTrialSleep makes no heavy fence, and so interrupts nobody:
//      membarrier(2) takes a microsecond while the others sleep, but where processors are
//      virtual it takes up to fifty for each that runs.
//
// Thread safety: any thread.
// Errors: none.
//
// Example:
//   for (int i = 0; i < kLooksPerClock; ++i) if (Look()) return true;
//   return absl::Now() < deadline;

#ifndef DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
#define DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_

#include <atomic>

#include "absl/time/time.h"
#include "doppel/containers/internal/pause.h"

namespace doppel::internal {

// Looks before the clock is asked for the time.
inline constexpr int kLooksPerClock = 32;

// How long to spin before a system call tells whether the other side has ended.
inline constexpr absl::Duration kSpinRound = absl::Milliseconds(1);

// For who has announced that it waits, in place of the heavy fence: its announcement is
// out when this begins, and what the others had stored before they could see it is there
// when this ends. All but sure: a store stays on its processor for as long as its line
// takes to come, and no rule says how long that is.
inline void Settle() {
  constexpr int kTurns = 16;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (int i = 0; i < kTurns; ++i) Pause();
}

// How long the first sleep of a wait lasts at most. What was overlooked against all odds
// is found then. A shorter one would have the kernel set the processor's timer each time.
inline constexpr absl::Duration kTrialSleep = absl::Milliseconds(4);

// How long who may not be woken sleeps before it looks again: where the heavy fence is
// denied, or what to sleep on cannot be had.
inline constexpr absl::Duration kBlindSleep = absl::Milliseconds(1);

// How long who has no link to the other's process sleeps before it asks the kernel
// whether that one lives: a few microseconds of a processor each second.
inline constexpr absl::Duration kUnlinkedSleep = absl::Milliseconds(50);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
