// SPDX-License-Identifier: Apache-2.0
//
// Decides whether a ring's consumer shall own the lines that it has read
// (ring_options.h, "Line ownership").
//
//   kOn, kOff ──▶ as asked     kAuto ──▶ larger than the cache? ──▶ off
//                                             │ no
//                                             ▼
//                              measured once: passing 64 KiB round and round to
//                              a thread on another core, with and without
//
// The other thread is kept on a processor of its own: a scheduler leaves a new thread
// beside its maker for some milliseconds, and two that take turns on one processor share
// its cache, which says nothing. It is one of those that the process was started with: a
// thread that has pinned itself before it makes a ring still passes items to others.
//
// Invariants:
//   1. The measurement ends after kCalibrationLimit, undecided: on. Where it does not pay
//      it costs a tenth; where it does, being without costs several times.
//   2. It runs once a process, and not where there is one processor.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   const bool owns = OwnsLines(LineOwnership::kAuto, 65536);

#ifndef DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_
#define DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_

#include <cstdint>

#include "absl/time/time.h"
#include "doppel/containers/ring_options.h"

namespace doppel::internal {

inline constexpr absl::Duration kCalibrationLimit = absl::Milliseconds(20);
inline constexpr double kWorthwhileGain = 1.2;

bool OwnsLines(LineOwnership asked, uint64_t footprint_bytes);

// A processor of another core than the calling thread's, if the process was started with
// one; else another processor; -1: there is none, or none is known.
int OtherProcessor();

// How many times faster data passes with owned lines than without; 0: undecided.
// Takes about 1 ms, and two threads, one after the other.
double MeasureOwnershipGain();

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_LINE_OWNERSHIP_H_
