// SPDX-License-Identifier: Apache-2.0
//
// Sleeping until the other side of a ring has gone on, and waking it.
//
//   waits                                  goes on
//   BeforeSleep: wish ── fence ── look     Publish: position ── fence ── wish?
//        │ too little                           │ fulfilled
//        ▼                                      ▼
//   futex(2) on their signal ◀── wake ──── WakeOther: changes its signal
//   or ppoll(2) on an event  ◀── send ───
//
// Invariants:
//   1. The fence of the side that waits is membarrier(2), which puts one into the
//      other side's threads; theirs costs nothing. The first kTrialSleep of a wait go
//      without (internal/wait_pace.h): a wake may come late by what is left of them.
//   2. Where membarrier(2) is denied, or the other process takes no part in it, each
//      later sleep ends after kBlindSleep, and the side looks again: a wake may come late
//      by as much, and is never lost. Arm sleeps as long, and looks again.
//   3. A side whose peer is at the other end of a link sleeps in ppoll(2) on it, so
//      that the end of the other process wakes it at once.
//   4. A side of a ring between processes that has no link sleeps for kUnlinkedSleep at
//      most. If no wake came, after that, a deadline or a blind sleep, it asks the kernel whether the other side's process has it
//      still (shared_locks.h): who is woken in time makes no system call for it.
//
// Cursors come and go by value: a handle whose address is passed to a function lives
// in memory and not in registers.
//
// Thread safety: all functions; a cursor belongs to its caller.
// Errors: those of RingWait.
//
// Example:
//   if (cursor.Publish()) WakeOther(seat);

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_WAKE_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_WAKE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// Wakes the other side, whose wish has been fulfilled.
void WakeOther(RingSeat& seat) noexcept;

// The same, however the other side sleeps: this one has closed, or has come.
void WakeAtEnd(RingSeat& seat) noexcept;

struct RingWaited {
  RingCursor<> cursor;  // Goes on from the argument.
  RingWait result = RingWait::kReady;
};

// Waits until `wanted` are available to the cursor.
RingWaited WaitFor(RingCursor<> cursor, RingSeat& seat, uint64_t wanted,
                   const RingWaitOptions& options);

// The seat's event, made when it is asked for first; the link where there is one.
// Fails with what eventfd(2) reports, and with what membarrier(2) does: without it a
// wake could be lost, and who waits in poll(2) would not notice. FailedPrecondition
// for a ring between processes that has no link.
absl::StatusOr<int> EventOf(RingSeat& seat);

// Makes the event poll as readable once `wanted` are available or the other side ends.
// REQUIRES: EventOf(seat) succeeded.
RingWaited Arm(RingCursor<> cursor, RingSeat& seat, uint64_t wanted);

struct RingArmed {
  RingWaited waited;
  bool sure = false;  // Whether the event tells of all that comes from now on.
};

// The same, but sleeps never: who is not sure to be told looks again after kBlindSleep.
RingArmed TryArm(RingCursor<> cursor, RingSeat& seat, uint64_t wanted);

// Whether the link has hung up.
bool PeerGone(const RingSeat& seat);

// Whether the process that had the other side has ended: its link has hung up; or, where
// there is none, a process has had the side and none has it. A side of this process is no
// other's. No, where the kernel does not say.
bool OtherGone(const RingSeat& seat);

// OK, or DataLoss for a cursor that was lied to.
absl::Status StatusOf(RingCursor<> cursor);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_WAKE_H_
