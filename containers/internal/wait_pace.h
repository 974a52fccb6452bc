// SPDX-License-Identifier: Apache-2.0
//
// How often who waits looks at what, whatever it waits by.
//
//   spin   look × kLooksPerClock ─▶ clock ─▶ ...  each kSpinRound: has the other ended?
//   sleep  until woken; kBlindSleep at most where nobody can be relied on to wake;
//          kUnlinkedSleep at most where the end of the other's process wakes nobody
//
// Invariants:
//   1. Who waits looks at least each kBlindSleep, or is sure to be woken.
//
// Thread safety: constants.
// Errors: none.
//
// Example:
//   for (int i = 0; i < kLooksPerClock; ++i) if (Look()) return true;
//   return absl::Now() < deadline;

#ifndef DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
#define DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_

#include "absl/time/time.h"

namespace doppel::internal {

// Looks before the clock is asked for the time.
inline constexpr int kLooksPerClock = 32;

// How long to spin before a system call tells whether the other side has ended.
inline constexpr absl::Duration kSpinRound = absl::Milliseconds(1);

// How long who may not be woken sleeps before it looks again: where the heavy fence is
// denied, or what to sleep on cannot be had.
inline constexpr absl::Duration kBlindSleep = absl::Milliseconds(1);

// How long who has no link to the other's process sleeps before it asks the kernel
// whether that one lives: a few microseconds of a processor each second.
inline constexpr absl::Duration kUnlinkedSleep = absl::Milliseconds(50);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_WAIT_PACE_H_
