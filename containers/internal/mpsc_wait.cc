// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/mpsc_wait.h"

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/base/macros.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {
namespace {

// How a wait ends that has looked, after the other side's word said `closed`.
std::optional<RingWait> Found(bool ready, bool closed) {
  if (ready) return RingWait::kReady;
  if (closed) return RingWait::kClosed;
  return std::nullopt;
}

std::optional<RingWait> LookForMessage(MpscShared& shared, std::byte* data,
                                       MpscConsumerCursor<>& cursor) {
  const bool closed = shared.senders.ended();
  const MpscHeader header =
      FindMessage(shared, data, cursor, /*none_shown=*/true);
  return Found(header.committed(), closed);
}

std::optional<RingWait> LookForRoom(const MpscShared& shared,
                                    MpscRoomCursor& cursor,
                                    uint64_t frame_bytes) {
  const bool closed = shared.consumer_end.closed();
  return Found(cursor.HasRoom(frame_bytes), closed);
}

}  // namespace

MpscWaited WaitForMessage(MpscShared& shared, std::byte* data,
                          MpscConsumerCursor<> cursor,
                          const RingWaitOptions& options) {
  const RingWait result = shared.committed.Wait(
      [&] { return LookForMessage(shared, data, cursor); }, options);
  return {.cursor = cursor, .result = result};
}

MpscWaited ArmForMessage(MpscShared& shared, std::byte* data,
                         MpscConsumerCursor<> cursor) {
  ABSL_HARDENING_ASSERT(shared.consumer_event != nullptr &&
                        "ask for the event first");
  const RingWait result = shared.committed.Arm(*shared.consumer_event, [&] {
    return LookForMessage(shared, data, cursor);
  });
  return {.cursor = cursor, .result = result};
}

absl::StatusOr<int> EventOfConsumer(MpscShared& shared) {
  const absl::StatusOr<EventSeat*> event =
      shared.committed.EventFor(shared.consumer_event);
  if (!event.ok()) return event.status();
  shared.consumer_event = *event;
  return (*event)->fd;
}

RingWait WaitForMpscRoom(MpscShared& shared, MpscRoomCursor cursor,
                         uint64_t frame_bytes, const RingWaitOptions& options) {
  return shared.room.Wait(
      [&] { return LookForRoom(shared, cursor, frame_bytes); }, options);
}

RingWait ArmForMpscRoom(MpscShared& shared, EventSeat& event,
                        MpscRoomCursor cursor, uint64_t frame_bytes) {
  return shared.room.Arm(
      event, [&] { return LookForRoom(shared, cursor, frame_bytes); });
}

}  // namespace doppel::internal
