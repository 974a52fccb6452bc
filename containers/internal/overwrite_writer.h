// SPDX-License-Identifier: Apache-2.0
//
// How the producer of a ring that overwrites copies items in: OverwritingRing's Writer,
// without the items' type.
//
// Invariants:
//   1. Items are stored by relaxed atomic words, after the cursor has said which slots
//      are no longer intact.
//   2. Each hand-over, and the end, is followed by a look for readers that wait.
//   3. No function is called with the address of the handle: it lives in registers.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: none.
//
// Example:
//   struct Writer : OverwriteWriter<sizeof(int)> {
//     void push(int item) { PushOne(reinterpret_cast<std::byte*>(&item)); }
//   };

#ifndef DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_WRITER_H_
#define DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_WRITER_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/attributes.h"
#include "doppel/containers/internal/atomic_words.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_place.h"

namespace doppel::internal {

template <size_t kItemBytes>
class OverwriteWriter {
 public:
  // REQUIRES: no other writer's handle lives; the storage's ring is one that overwrites.
  ABSL_ATTRIBUTE_ALWAYS_INLINE explicit OverwriteWriter(
      BroadcastStorage& storage)
      : claim_(storage.writer_seat.taken),
        cursor_(&*storage.overwrite_watch),
        place_(PlaceOf(storage.end, cursor_.position())),
        items_(&storage.items) {
    cursor_.Open();
  }

  // overwriting_ring.h says what these do.
  void close() {
    cursor_.Close();
    items_->Notify();
  }
  size_t capacity() const { return cursor_.capacity(); }

 protected:
  OverwriteWriter(OverwriteWriter&&) noexcept = default;
  OverwriteWriter& operator=(OverwriteWriter&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~OverwriteWriter() = default;

  ABSL_ATTRIBUTE_ALWAYS_INLINE void PushOne(const std::byte* item) {
    cursor_.MakeRoom(1);
    StoreWords<kItemBytes>(place_.here(), item, kItemBytes);
    if constexpr (Mirror::kMaxViews == 2) {
      if (place_.EndsLine(kItemBytes)) {
        FetchToWrite(place_.here() + kAheadBytes, kItemBytes);
      }
    } else {
      place_.Advance(kItemBytes);
    }
    Publish(1);
  }

  // How many may go in at a time.
  uint64_t lead() const { return cursor_.lead(); }

  // Appends n items, published at once. REQUIRES: n <= lead().
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PushSome(const std::byte* items, size_t n) {
    cursor_.MakeRoom(n);
    place_.ForEachRun(n * kItemBytes, [&](std::byte* to, size_t bytes) {
      StoreWords<kItemBytes>(to, items, bytes);
      items += bytes;
    });
    place_.Advance(n * kItemBytes);
    Publish(n);
  }

 private:
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Publish(size_t n) {
    cursor_.Publish(n);
    items_->Notify();
  }

  RingClaim claim_;  // First: what follows is read under it.
  OverwriteWriterCursor<> cursor_;
  RingPlace place_;    // Where the next item goes.
  EventCount* items_;  // Where readers wait.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_WRITER_H_
