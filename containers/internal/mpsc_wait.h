// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of a ring of many producers do when there is nothing for them: the
// consumer without a message, and a producer without room.
//
//   consumer   FindMessage ── none ──▶ sleeps in `committed` ◀── each commit, close
//   producer   HasRoom ────── none ──▶ sleeps in `room` ◀─────── each hand-over, close
//
// Invariants:
//   1. Cursors come and go by value: a handle whose address is passed to a function lives
//      in memory and not in registers. What takes one by reference is inlined.
//   2. Frames to skip are handed back by a consumer that waits, too: producers may wait
//      for their room.
//   3. Who has closed is looked at before the messages, or the room: what was there at
//      the end is found.
//
// Thread safety: all functions; a cursor belongs to its caller.
// Errors: those of RingWait. EventOfConsumer fails as EventCount::EventFor does.
//
// Example:
//   const MpscWaited waited = WaitForMessage(*shared_, data_, cursor_, options);
//   cursor_ = waited.cursor;

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_WAIT_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_WAIT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// Zeroes what the consumer has passed, and hands it back to the producers.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void HandBackTo(
    MpscShared& shared, std::byte* data, MpscConsumerCursor<>& cursor) {
  // The user may have read by the second view what is zeroed by the first. To the
  // compiler they are different objects: it must not move the reads below.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  cursor.HandBack([data](uint64_t offset_bytes, uint64_t bytes) {
    std::memset(data + offset_bytes, 0, bytes);
  });
  shared.room.Notify();
}

// The header of the next message, past what is to be skipped; or not committed.
// Ends after a lap at the latest, as frames that were passed are not looked at.
// `none_shown`: the consumer has nothing of which it will hand the skipped back.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline MpscHeader FindMessage(
    MpscShared& shared, std::byte* data, MpscConsumerCursor<>& cursor,
    bool none_shown) {
  MpscHeader header = cursor.Look(MpscHeaderAt{data});
  if (ABSL_PREDICT_FALSE(header.skip())) {
    do {
      cursor.Pass(header);
      header = cursor.Look(MpscHeaderAt{data});
    } while (header.skip());
    // Who is shown no message has nothing to release: it would never be done.
    if (!header.committed() && none_shown) HandBackTo(shared, data, cursor);
  }
  return header;
}

struct MpscWaited {
  MpscConsumerCursor<> cursor;  // Goes on from the argument.
  RingWait result = RingWait::kReady;
};

// REQUIRES: nothing is shown that is not handed back.
MpscWaited WaitForMessage(MpscShared& shared, std::byte* data,
                          MpscConsumerCursor<> cursor,
                          const RingWaitOptions& options);

// REQUIRES: the same; EventOfConsumer succeeded.
MpscWaited ArmForMessage(MpscShared& shared, std::byte* data,
                         MpscConsumerCursor<> cursor);

// The consumer's event, made when it is asked for first.
absl::StatusOr<int> EventOfConsumer(MpscShared& shared);

using MpscRoomCursor = MpscProducerCursor<Mirror::kMaxViews == 2>;

RingWait WaitForMpscRoom(MpscShared& shared, MpscRoomCursor cursor,
                         uint64_t frame_bytes, const RingWaitOptions& options);

RingWait ArmForMpscRoom(MpscShared& shared, EventSeat& event,
                        MpscRoomCursor cursor, uint64_t frame_bytes);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_WAIT_H_
