// SPDX-License-Identifier: Apache-2.0
//
// Decides whether a ring's consumer shall own the lines that it has read
// (ring_options.h, "Line ownership").
//
//   kOn, kOff ──▶ as asked     kAuto ──▶ measured once: a block of 32 KiB goes to a thread
//                                        on another core and back, with and without
//
// The ring's size does not matter: of a ring larger than the cache, too, a line whose
// reader did not take it over stands shared in both cores' caches or in the one behind
// them, and the writer's next store to it waits until both have given it up.
//
// The other thread is kept on a processor of its own: a scheduler leaves a new thread
// beside its maker for some milliseconds, and two that take turns on one processor share
// its cache, which says nothing. It is one of those that the process was started with: a
// thread that has pinned itself before it makes a ring still passes items to others.
//
// Invariants:
//   1. The measurement ends after kCalibrationLimit, undecided: on. Where it does not pay
//      it costs a tenth; where it does, being without costs several times.
//   2. It runs once a process (threads that make their first rings at one moment each
//      measure, and the first result stands), and not where there is one processor.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   const bool owns = OwnsLines(LineOwnership::kAuto);

#ifndef DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_
#define DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_

#include "absl/time/time.h"
#include "doppel/containers/ring_options.h"

namespace doppel::internal {

inline constexpr absl::Duration kCalibrationLimit = absl::Milliseconds(20);
inline constexpr double kWorthwhileGain = 1.2;

bool OwnsLines(LineOwnership asked);

// A processor of another core than the calling thread's, if the process was started with
// one; else another processor; -1: there is none, or none is known.
int OtherProcessor();

// How many times faster data passes with owned lines than without; 0: undecided.
// Takes about 2 ms, and two threads, one after the other.
double MeasureOwnershipGain();

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_
