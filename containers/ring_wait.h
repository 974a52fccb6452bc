// SPDX-License-Identifier: Apache-2.0
//
// Waiting for a ring: how long, how, and how it ended.
//
//   wait(n) ──▶ look, spin ──▶ sleep ──▶ kReady, kClosed, kPeerGone, kDataLoss
//                  │            ▲ │  └──▶ kDeadlineExceeded
//                  └─ enough    └─┘ woken early
//
//   arm(n)  ──▶ look ──▶ kArmed ──▶ poll(2) on event() ──▶ look again
//                 └────▶ kReady, kClosed, kPeerGone, kDataLoss
//
// Invariants:
//   1. While no side waits, no side makes a system call.
//   2. A wake is never lost. A store that takes longer than a microsecond to arrive may be
//      overlooked by a wait that began a moment before, until that is 4 ms old; where
//      membarrier(2) is denied, by each sleep for a millisecond (internal/wait_pace.h).
//   3. Only kReady says that n are available. After each other result whatever is left
//      can still be taken, with a smaller n.
//
// Thread safety: values.
// Errors: none.
//
// Example:
//   while (reader.wait(1) == RingWait::kReady) Use(*reader.try_pop());

#ifndef DOPPEL_CONTAINERS_RING_WAIT_H_
#define DOPPEL_CONTAINERS_RING_WAIT_H_

#include <cstdint>

#include "absl/time/time.h"

namespace doppel {

enum class RingWait : uint8_t {
  kReady,     // As many as were wanted are available.
  kClosed,    // They are not, and the other side has closed.
  kPeerGone,  // They are not, and the other side's process has ended.
  kDataLoss,  // They are not, and the other side's words cannot be true.
  kDeadlineExceeded,  // wait: they are not yet.
  kArmed,             // arm: they are not yet, and the event will tell.
};

struct RingWaitOptions {
  // Wall-clock time, as absl::Mutex takes it.
  absl::Time deadline = absl::InfiniteFuture();

  // How long to look again and again before the thread sleeps. A wake takes the
  // kernel some microseconds, and a look a fraction of one. absl::InfiniteDuration():
  // never sleeps.
  absl::Duration spin = absl::Microseconds(5);
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_WAIT_H_
