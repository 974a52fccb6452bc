// SPDX-License-Identifier: Apache-2.0
//
// What the handles of both sides of a ring are made of, and do alike: they wait, are
// told by an event, and close.
//
//   RingWriter, RingReader ── RingHandle ── claim    the side is this handle's
//                                        ── cursor   positions, in registers
//                                        ── place    the address of the next item
//                                        ── seat ──▶ what only waiting needs
//
// Items are what is available to the side: free slots to a writer, readable items to a
// reader.
//
// Invariants:
//   1. No function is called with the address of the handle: it lives in registers. What
//      waits is given a copy of the cursor, and gives it back.
//   2. Whatever waits hands over first what is staged or finished, or both sides could
//      wait for each other.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: RingWait; status() is DataLoss once the other side's words could not be true.
//
// Example:
//   while (reader.wait() == RingWait::kReady) Use(*reader.try_pop());

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_HANDLE_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_HANDLE_H_

#include <cstddef>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/internal/ring_wake.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

class RingHandle {
 public:
  // REQUIRES: no other handle of this side lives. Inlined, as what is destroyed is
  // (invariant 1).
  ABSL_ATTRIBUTE_ALWAYS_INLINE explicit RingHandle(const RingEnd& end)
      : claim_(end.seat->taken),
        cursor_(end.seat->watch),
        place_(PlaceOf(end, cursor_.position())),
        seat_(end.seat),
        scratch_(end.scratch) {
    cursor_.Open();
    // A reader that ended before it handed back what it had finished.
    Publish();
  }

  // Waits until n items are available. REQUIRES: n <= capacity().
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    Publish();
    const RingWaited waited = WaitFor(cursor_, *seat_, n, options);
    cursor_ = waited.cursor;
    return waited.result;
  }

  // A descriptor for epoll(7) and its like, which the ring owns. It polls as readable
  // once what arm() asked for may have come about. Do not read from it. Of a ring between
  // processes it serves for as long as the other side stays in the process where it is.
  // Fails with what eventfd(2) and membarrier(2) report; FailedPrecondition where the other
  // side is not in this process and there is no link to it (shared_ring.h).
  absl::StatusOr<int> event() { return EventOf(*seat_); }

  // Asks that the event becomes readable once n items may be available, or the other
  // side ends. What is so already is the result, and the event may not tell of it; only
  // after kArmed wait for it, and then ask again. REQUIRES: event() succeeded; n <= capacity().
  RingWait arm(size_t n = 1) {
    Publish();
    const RingWaited armed = Arm(cursor_, *seat_, n);
    cursor_ = armed.cursor;
    return armed.result;
  }

  // For who arms many (lanes.h): the same, but sleeps never. If `sure` is false, the
  // event may not tell, and is to be armed again within a millisecond: the other side's
  // process takes no part in membarrier(2), or says so.
  RingWait TryArm(bool& sure, size_t n = 1) {
    Publish();
    const RingArmed armed = internal::TryArm(cursor_, *seat_, n);
    cursor_ = armed.waited.cursor;
    sure = armed.sure;
    return armed.waited.result;
  }

  // Whether the other side's process has ended (shared_ring.h): a system call. What it
  // handed over before is still there.
  bool peer_gone() const { return OtherGone(*seat_); }

  // Ends this side, and wakes the other, which still gets what was handed over. A
  // handle of this side that comes later opens it again.
  void close() {
    cursor_.Close();
    WakeAtEnd(*seat_);
  }

  // Whether the other side has closed. What it handed over before is still there: the
  // end is closed(), and after that nothing available.
  bool closed() const { return cursor_.closed(); }

  size_t capacity() const { return cursor_.capacity(); }

  // OK, or DataLoss: see "Errors".
  absl::Status status() const { return StatusOf(cursor_); }

 protected:
  RingHandle(RingHandle&&) noexcept = default;
  RingHandle& operator=(RingHandle&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~RingHandle() = default;

  // Hands over all that is staged or finished.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Publish() {
    if (ABSL_PREDICT_FALSE(cursor_.Publish())) WakeOther(*seat_);
  }

  RingClaim claim_;  // First: what follows is read under it.
  RingCursor<> cursor_;
  RingPlace place_;  // Of the next item.
  RingSeat* seat_;
  std::byte* scratch_;  // Canonical build: for spans that wrap.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_HANDLE_H_
