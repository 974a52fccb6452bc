// SPDX-License-Identifier: Apache-2.0
//
// How a reader of a ring that overwrites copies items out, and finds its place again when
// it was overrun: OverwritingRing's Reader, without the items' type.
//
//   look ─▶ copy ─▶ overwritten meanwhile? ─ no ───▶ done
//    ▲                          └ all of it ┐ └ the first of it ─▶ the rest is done
//    └─────── the place of where to go on ──┘
//
// Invariants:
//   1. Items are loaded by relaxed atomic words, and only what is confirmed after the copy
//      is given away.
//   2. The place is that of the cursor's position after each operation.
//   3. No function is called with the address of the handle: it lives in registers.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: those of RingWait; event() fails as EventOfReader does.
//
// Example:
//   struct Reader : OverwriteReader<sizeof(int)> {
//     bool pop(int& item) { return PopOne(reinterpret_cast<std::byte*>(&item)); }
//   };

#ifndef DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_READER_H_
#define DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_READER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/atomic_words.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/broadcast_wait.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

template <size_t kItemBytes>
class OverwriteReader {
 public:
  // Takes the hold of a seat whose reader begins at the position.
  ABSL_ATTRIBUTE_ALWAYS_INLINE
  OverwriteReader(const BroadcastStorage& storage, BroadcastSeat* seat,
                  uint64_t position)
      : hold_(seat),
        cursor_(&*seat->overwrite_watch, position),
        place_(PlaceOf(storage.end, position)),
        end_(&storage.end) {}

  // overwriting_ring.h says what these do.
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    return Went(WaitForItems(cursor_, hold_.seat(), n, options));
  }
  absl::StatusOr<int> event() { return EventOfReader(hold_.seat()); }
  RingWait arm(size_t n = 1) {
    return Went(ArmForItems(cursor_, hold_.seat(), n));
  }
  uint64_t lost() const { return cursor_.lost(); }
  size_t size() {
    const uint64_t position = cursor_.position();
    cursor_.Look();
    FollowFrom(position);
    return cursor_.Intact();
  }
  bool closed() const { return cursor_.closed(); }
  size_t capacity() const { return cursor_.capacity(); }

 protected:
  OverwriteReader(OverwriteReader&&) noexcept = default;
  OverwriteReader& operator=(OverwriteReader&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~OverwriteReader() = default;

  // False if there is none. What is at `to` then is anything.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool PopOne(std::byte* to) {
    for (uint32_t tries = 0;; ++tries) {
      if (ABSL_PREDICT_FALSE(Find(1) == 0)) return false;
      LoadWords<kItemBytes>(to, place_.here(), kItemBytes);
      if (ABSL_PREDICT_TRUE(cursor_.Confirm(1, tries) == 0)) break;
      FindPlace();
    }
    place_.Advance(kItemBytes);
    return true;
  }

  // Up to `most` items; how many.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(std::byte* to, size_t most) {
    for (uint32_t tries = 0;; ++tries) {
      const size_t n = std::min<uint64_t>(most, Find(most));
      if (n == 0) return 0;
      CopyOut(to, n);
      const size_t spoiled = cursor_.Confirm(n, tries);
      if (ABSL_PREDICT_FALSE(spoiled == n)) {
        FindPlace();
        continue;
      }
      place_.Advance(n * kItemBytes);
      if (ABSL_PREDICT_FALSE(spoiled > 0)) {
        std::memmove(to, to + spoiled * kItemBytes, (n - spoiled) * kItemBytes);
      }
      return n - spoiled;
    }
  }

 private:
  // Goes on where a wait has come to.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait Went(const OverwriteWaited& waited) {
    const bool moved = waited.cursor.position() != cursor_.position();
    cursor_ = waited.cursor;
    if (moved) FindPlace();
    return waited.result;
  }

  // After a look: the cursor may have gone on from `position`, where it was overrun.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void FollowFrom(uint64_t position) {
    if (ABSL_PREDICT_FALSE(cursor_.position() != position)) {
      FindPlace();
    }
  }

  // Out of line, and given no handle: seldom is a reader overrun.
  ABSL_ATTRIBUTE_NOINLINE static uint64_t OffsetNow(const RingEnd* end,
                                                    uint64_t position) {
    return OffsetOf(*end, position);
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void FindPlace() {
    place_.MoveTo(OffsetNow(end_, cursor_.position()));
  }

  // Items that are known of, if there are fewer than `wanted` after a look.
  ABSL_ATTRIBUTE_ALWAYS_INLINE uint64_t Find(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(cursor_.known() < wanted)) {
      const uint64_t position = cursor_.position();
      cursor_.AvailableFor(wanted);
      FollowFrom(position);
    }
    return cursor_.known();
  }

  // Copies the next n items out, whatever is there.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void CopyOut(std::byte* to, size_t n) const {
    place_.ForEachRun(n * kItemBytes, [&](std::byte* from, size_t bytes) {
      LoadWords<kItemBytes>(to, from, bytes);
      to += bytes;
    });
  }

  BroadcastHold hold_;  // First: what follows is read under it.
  OverwriteReaderCursor<> cursor_;
  RingPlace place_;     // Where the next item is.
  const RingEnd* end_;  // Where places come from.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_READER_H_
