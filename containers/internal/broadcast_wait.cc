// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/broadcast_wait.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/base/macros.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {
namespace {

std::optional<RingWait> LookForRoom(BroadcastCursor<>& cursor,
                                    uint64_t wanted) {
  cursor.Look();
  if (cursor.known() >= wanted) return RingWait::kReady;
  return std::nullopt;
}

// A reader's look, of either kind.
template <class Cursor>
std::optional<RingWait> LookForItems(Cursor& cursor, uint64_t wanted) {
  // Before the look, which then finds all that was published until the end.
  const bool closed = cursor.closed();
  cursor.Look();
  if (cursor.known() >= wanted) return RingWait::kReady;
  if (closed) return RingWait::kClosed;
  return std::nullopt;
}

void CheckIntact([[maybe_unused]] uint64_t capacity,
                 [[maybe_unused]] uint64_t wanted) {
  ABSL_HARDENING_ASSERT(
      wanted <= std::max<uint64_t>(1, capacity - capacity / kOverwriteLeads) &&
      "as many are not always intact");
}

template <class Waited, class Cursor>
Waited Wait(Cursor cursor, BroadcastSeat& seat, uint64_t wanted,
            const RingWaitOptions& options) {
  // Counted as every call that finds too little.
  if (cursor.AvailableFor(wanted) >= wanted) {
    return {.cursor = cursor, .result = RingWait::kReady};
  }
  const RingWait result =
      seat.items->Wait([&] { return LookForItems(cursor, wanted); }, options);
  return {.cursor = cursor, .result = result};
}

template <class Waited, class Cursor>
Waited Arm(Cursor cursor, BroadcastSeat& seat, uint64_t wanted) {
  ABSL_HARDENING_ASSERT(seat.event != nullptr && "ask for the event first");
  const RingWait result = seat.items->Arm(
      *seat.event, [&] { return LookForItems(cursor, wanted); });
  return {.cursor = cursor, .result = result};
}

// The descriptor of the event that `event` holds from now on.
absl::StatusOr<int> EventOf(EventCount& count, EventSeat*& event) {
  const absl::StatusOr<EventSeat*> found = count.EventFor(event);
  if (!found.ok()) return found.status();
  event = *found;
  return event->fd;
}

}  // namespace

BroadcastWaited WaitForRoom(BroadcastCursor<> cursor, BroadcastStorage& storage,
                            uint64_t wanted, const RingWaitOptions& options) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  if (cursor.AvailableFor(wanted) >= wanted) {
    return {.cursor = cursor, .result = RingWait::kReady};
  }
  cursor.Wish(wanted);
  const RingWait result =
      storage.room.Wait([&] { return LookForRoom(cursor, wanted); }, options);
  cursor.EndWish();
  return {.cursor = cursor, .result = result};
}

BroadcastWaited ArmForRoom(BroadcastCursor<> cursor, BroadcastStorage& storage,
                           uint64_t wanted) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  ABSL_HARDENING_ASSERT(storage.writer_event != nullptr &&
                        "ask for the event first");
  cursor.Wish(wanted);
  const RingWait result = storage.room.Arm(
      *storage.writer_event, [&] { return LookForRoom(cursor, wanted); });
  if (result != RingWait::kArmed) cursor.EndWish();
  return {.cursor = cursor, .result = result};
}

RingWaited WaitForItems(RingCursor<> cursor, BroadcastSeat& seat,
                        uint64_t wanted, const RingWaitOptions& options) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  return Wait<RingWaited>(cursor, seat, wanted, options);
}

RingWaited ArmForItems(RingCursor<> cursor, BroadcastSeat& seat,
                       uint64_t wanted) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  return Arm<RingWaited>(cursor, seat, wanted);
}

OverwriteWaited WaitForItems(OverwriteReaderCursor<> cursor,
                             BroadcastSeat& seat, uint64_t wanted,
                             const RingWaitOptions& options) {
  CheckIntact(cursor.capacity(), wanted);
  return Wait<OverwriteWaited>(cursor, seat, wanted, options);
}

OverwriteWaited ArmForItems(OverwriteReaderCursor<> cursor, BroadcastSeat& seat,
                            uint64_t wanted) {
  CheckIntact(cursor.capacity(), wanted);
  return Arm<OverwriteWaited>(cursor, seat, wanted);
}

absl::StatusOr<int> EventOfReader(BroadcastSeat& seat) {
  return EventOf(*seat.items, seat.event);
}

absl::StatusOr<int> EventOfWriter(BroadcastStorage& storage) {
  return EventOf(storage.room, storage.writer_event);
}

}  // namespace doppel::internal
