// SPDX-License-Identifier: Apache-2.0
//
// One extent of an arena, or a part of another file, shown twice back to back: a ring
// of bytes in which every run is contiguous.
//
//   file                         ┌─────────────┐
//   (offsets)               ...  │   extent    │ ...
//                                └──┬───────┬──┘
//                         shown ┌───┘       └───┐ shown
//                               ▼               ▼
//   addresses   │ guard │  first view  │  second view │ guard │
//                       ▲              ▲              ▲
//                     data()      + size_bytes()   + 2 * size_bytes()
//
// Invariants:
//   1. The byte at data() + i is the byte at data() + size_bytes() + i, for each i
//      below size_bytes(), if views() is 2.
//   2. size_bytes() is the extent's size and the distance of the views at once;
//      there is no other length that somebody could wrap at.
//   3. One byte before the first and past the last view faults.
//   4. Every page of every view stands in the page table, writable if the view is: no
//      access faults later.
//   5. The pages go back to the arena only after the last view is gone.
//   6. The distance is never a compile-time constant. Compilers take addresses a
//      constant apart for different objects, and would keep a stale value.
//
// In the canonical build (DOPPEL_CANONICAL) there is one view only. Tools that take
// an address for an identity (TSan, ASan, MSan, valgrind) then see every race;
// whoever stands on a mirror copies what wraps in two pieces.
//
// Thread safety: as a value type. The memory is as safe as what is done in it.
// Errors: those of Arena::Allocate, Mapping::Reserve and Mapping::Show, and
//   OutOfRange or ResourceExhausted for sizes that no machine, or not this one, has.
//   After an error nothing is held.
//
// Example:
//   absl::StatusOr<Mirror> mirror = Mirror::Create(arena, 4096, Mirror::kMaxViews);
//   mirror->data()[0] = std::byte{7};  // == data()[mirror->size_bytes()]

#ifndef DOPPEL_CONTAINERS_INTERNAL_MIRROR_H_
#define DOPPEL_CONTAINERS_INTERNAL_MIRROR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"

namespace doppel::internal {

// `asked`, or the process's own where that is null.
absl::StatusOr<std::shared_ptr<Arena>> ArenaOrDefault(
    std::shared_ptr<Arena> asked);

class Mirror {
 public:
#ifdef DOPPEL_CANONICAL
  static constexpr int kMaxViews = 1;
#else
  static constexpr int kMaxViews = 2;
#endif

  // Holds nothing.
  Mirror() = default;

  // Takes at least `min_bytes` from the arena, rounded up to its pages, and shows
  // them `views` times. About a dozen system calls, one more for each transparent
  // unit of 2 MiB, and one page-table entry for each page and view.
  // REQUIRES: arena is not null; 1 <= views <= kMaxViews.
  // Fails with InvalidArgument for 0 bytes, OutOfRange if the views overflow the
  // address space, ResourceExhausted for more than the machine has memory, and
  // with what the arena and the mapping report.
  static absl::StatusOr<Mirror> Create(const std::shared_ptr<Arena>& arena,
                                       uint64_t min_bytes, int views);

  // The same of a part of a file, which must stay as large. Ranges are whole pages.
  static absl::StatusOr<Mirror> OfFile(const Memfd& memfd,
                                       uint64_t offset_bytes, uint64_t bytes,
                                       int views, Protection protection);

  Mirror(Mirror&& other) noexcept
      : extent_(std::move(other.extent_)),
        mapping_(std::move(other.mapping_)),
        size_bytes_(std::exchange(other.size_bytes_, 0)),
        views_(std::exchange(other.views_, 0)) {}

  Mirror& operator=(Mirror&& other) noexcept {
    // The views go first: the extent must not be handed out while it is shown.
    mapping_ = std::move(other.mapping_);
    extent_ = std::move(other.extent_);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    views_ = std::exchange(other.views_, 0);
    return *this;
  }

  // Locks all views into memory (mlock2(2)). As Mapping::Lock.
  absl::Status Lock() {
    return mapping_.Lock(0, size_bytes_ * static_cast<uint64_t>(views_));
  }

  std::byte* data() const { return mapping_.data(); }

  // The length of one view, and the distance from one view to the next.
  uint64_t size_bytes() const { return size_bytes_; }

  int views() const { return views_; }

  // Gives up the extent, which must not be handed out before the mirror ends.
  Extent ReleaseExtent() { return std::move(extent_); }

  // What is shown; none of a file that is no arena's.
  const Extent& extent() const { return extent_; }

 private:
  // Calls show(mapping, at_bytes, view) for each view of the extent.
  template <class ShowOne>
  absl::Status ShowAll(uint64_t alignment_bytes, ShowOne show_one);

  Extent extent_;    // Declared before, so destroyed after, the mapping.
  Mapping mapping_;  // Shows extent_ views_ times.
  uint64_t size_bytes_ = 0;
  int views_ = 0;  // 0: holds nothing.
};

// In the canonical build memory of the arena in which a side of a ring puts together a
// span that wraps; nothing where the items are shown twice. Fails as Mirror::Create does.
// `arena` may be null: Arena::Default().
absl::StatusOr<Mirror> MakeScratch(const Mirror& items,
                                   const std::shared_ptr<Arena>& arena);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MIRROR_H_
