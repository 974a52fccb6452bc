// SPDX-License-Identifier: Apache-2.0
//
// What the handles of a ring are made of whose readers are many. RingWriter's and
// RingReader's functions stand on them, as on RingHandle where there is one reader.
//
//   RingWriter ── BroadcastWriterHandle ── claim, cursor, place    as RingHandle's
//                                       ── storage ──▶ where readers wait, and it
//   RingReader ── BroadcastReaderHandle ── RingHandle
//                                       ── hold ──▶ its seat among the readers
//
// Invariants:
//   1. No function is called with the address of the handle: it lives in registers. What
//      waits is given a copy of the cursor, and gives it back.
//   2. Whatever waits hands over first what is staged or finished, or both sides could
//      wait for each other.
//   3. Each store of the writer's position, and of its end, is followed by a look for
//      readers that wait.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: RingWait.
//
// Example:
//   RingWriter<int, BroadcastWriterHandle> writer(storage);
//   while (!writer.try_push(7)) writer.wait();

#ifndef DOPPEL_CONTAINERS_INTERNAL_BROADCAST_HANDLE_H_
#define DOPPEL_CONTAINERS_INTERNAL_BROADCAST_HANDLE_H_

#include <cstddef>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/broadcast_wait.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_handle.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/internal/ring_wake.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

class BroadcastWriterHandle {
 public:
  // REQUIRES: no other writer's handle lives; the storage's ring is one that refuses.
  ABSL_ATTRIBUTE_ALWAYS_INLINE explicit BroadcastWriterHandle(
      BroadcastStorage& storage)
      : claim_(storage.writer_seat.taken),
        cursor_(&*storage.watch),
        place_(PlaceOf(storage.end, cursor_.position())),
        storage_(&storage),
        scratch_(storage.end.scratch) {
    cursor_.Open();
  }

  // broadcast_ring.h says what these do.
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    Publish();
    const BroadcastWaited waited = WaitForRoom(cursor_, *storage_, n, options);
    cursor_ = waited.cursor;
    return waited.result;
  }
  absl::StatusOr<int> event() { return EventOfWriter(*storage_); }
  RingWait arm(size_t n = 1) {
    Publish();
    const BroadcastWaited armed = ArmForRoom(cursor_, *storage_, n);
    cursor_ = armed.cursor;
    return armed.result;
  }
  void close() {
    cursor_.Close();
    storage_->items.Notify();
  }
  size_t capacity() const { return cursor_.capacity(); }

 protected:
  BroadcastWriterHandle(BroadcastWriterHandle&&) noexcept = default;
  BroadcastWriterHandle& operator=(BroadcastWriterHandle&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~BroadcastWriterHandle() = default;

  // Hands over all that is staged.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Publish() {
    cursor_.Publish();
    storage_->items.Notify();
  }

  RingClaim claim_;  // First: what follows is read under it.
  BroadcastCursor<> cursor_;
  RingPlace place_;  // Of the next item.
  BroadcastStorage* storage_;
  std::byte* scratch_;  // Canonical build: for spans that wrap.
};

class BroadcastReaderHandle : private BroadcastHold, public RingHandle {
 public:
  // Of the seat that is held, whose end it is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE BroadcastReaderHandle(const RingEnd& end,
                                                     BroadcastHold hold)
      : BroadcastHold(std::move(hold)), RingHandle(end) {}

  // broadcast_ring.h says what these do.
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    Publish();
    const RingWaited waited = WaitForItems(cursor_, seat(), n, options);
    cursor_ = waited.cursor;
    return waited.result;
  }
  absl::StatusOr<int> event() { return EventOfReader(seat()); }
  RingWait arm(size_t n = 1) {
    Publish();
    const RingWaited armed = ArmForItems(cursor_, seat(), n);
    cursor_ = armed.cursor;
    return armed.result;
  }

 protected:
  BroadcastReaderHandle(BroadcastReaderHandle&&) noexcept = default;
  // The ring's own seat is free before the hold of it ends.
  BroadcastReaderHandle& operator=(BroadcastReaderHandle&& other) noexcept {
    RingHandle::operator=(static_cast<RingHandle&&>(other));
    BroadcastHold::operator=(static_cast<BroadcastHold&&>(other));
    return *this;
  }
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~BroadcastReaderHandle() = default;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_BROADCAST_HANDLE_H_
