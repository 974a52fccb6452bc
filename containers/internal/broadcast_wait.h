// SPDX-License-Identifier: Apache-2.0
//
// What the sides of a ring with one writer and many readers do when there is too little
// for them.
//
//   reader   too few items ──▶ sleeps in `items` ◀── each publish of the writer, its end
//   writer   too few slots ──▶ makes a wish,
//                              sleeps in `room`  ◀── the reader that comes to stand at
//                                                    it, each that joins or leaves
//
// Invariants:
//   1. Cursors come and go by value: a handle whose address is passed to a function lives
//      in memory and not in registers.
//   2. Whether the writer has closed is looked at before its position: what was there at
//      the end is found.
//   3. A writer that is armed keeps its wish until it waits, is armed again or ends: each
//      reader grants it once.
//
// Thread safety: all functions; a cursor belongs to its caller.
// Errors: those of RingWait. EventOfReader and EventOfWriter fail as EventCount::EventFor
//   does.
//
// Example:
//   const RingWaited waited = WaitForItems(cursor_, seat, n, options);
//   cursor_ = waited.cursor;

#ifndef DOPPEL_CONTAINERS_INTERNAL_BROADCAST_WAIT_H_
#define DOPPEL_CONTAINERS_INTERNAL_BROADCAST_WAIT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/internal/ring_wake.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// Each returns the cursor that goes on from the argument, and how the wait ended. To arm
// means to have the event told of it; REQUIRES: it was asked for.

struct BroadcastWaited {
  BroadcastCursor<> cursor;
  RingWait result = RingWait::kReady;
};

// REQUIRES: wanted <= cursor.capacity().
BroadcastWaited WaitForRoom(BroadcastCursor<> cursor, BroadcastStorage& storage,
                            uint64_t wanted, const RingWaitOptions& options);
BroadcastWaited ArmForRoom(BroadcastCursor<> cursor, BroadcastStorage& storage,
                           uint64_t wanted);

// REQUIRES: the same.
RingWaited WaitForItems(RingCursor<> cursor, BroadcastSeat& seat,
                        uint64_t wanted, const RingWaitOptions& options);
RingWaited ArmForItems(RingCursor<> cursor, BroadcastSeat& seat,
                       uint64_t wanted);

struct OverwriteWaited {
  OverwriteReaderCursor<> cursor;
  RingWait result = RingWait::kReady;
};

// REQUIRES: as many can be intact at any time.
OverwriteWaited WaitForItems(OverwriteReaderCursor<> cursor,
                             BroadcastSeat& seat, uint64_t wanted,
                             const RingWaitOptions& options);
OverwriteWaited ArmForItems(OverwriteReaderCursor<> cursor, BroadcastSeat& seat,
                            uint64_t wanted);

// The event of a seat, or the writer's, made when it is asked for first.
absl::StatusOr<int> EventOfReader(BroadcastSeat& seat);
absl::StatusOr<int> EventOfWriter(BroadcastStorage& storage);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_BROADCAST_WAIT_H_
