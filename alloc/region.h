// SPDX-License-Identifier: Apache-2.0
//
// Bump allocation in one contiguous reservation that grows in place.
//
//   begin                      next             limit                  reserved
//   ▼                          ▼                ▼                      ▼
//   ┌──────┬──┬────────┬───────┬────────────────┬ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//   │ obj  │  │  obj   │ obj   │ free           │ pages on demand      │
//   └──────┴──┴────────┴───────┴────────────────┴ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//   There is no chain of blocks: an object of any size fits behind the last one.
//
// Invariants:
//   1. What Allocate returned stays valid, at its address, until Rewind to an earlier
//      mark, Reset, or the end of the region.
//   2. Live allocations do not overlap; each is aligned as asked.
//   3. The hot path of Allocate is one addition to the bump pointer and one branch.
//   4. Objects made by Own are destroyed exactly once, newest first, when the region
//      goes back to a mark that is older than the end of their construction.
//   5. A failed allocation changes nothing but last_error().
//
// Thread safety: one thread at a time, as a container.
// Fork: a child of fork(2) shares the pages with its parent, if the arena does
//   (Arena::ForkPolicy), but not the bump pointer: it must not allocate there. Its end
//   in the child destroys nothing that Own made.
// Errors: Allocate returns nullptr and last_error() says why; New and Own throw
//   std::bad_alloc. Under AddressSanitizer, bytes that nobody owns are poisoned.
//
// Example:
//   absl::StatusOr<Region> region = Region::Create();
//   void* bytes = region->Allocate(100);
//   Point* point = region->New<Point>(1, 2);
//   const Region::Mark mark = region->mark();
//   std::string* name = region->Own<std::string>("destroyed by Rewind");
//   region->Rewind(mark);
//   region->Reset();   // keeps its pages for the next request

#ifndef DOPPEL_ALLOC_REGION_H_
#define DOPPEL_ALLOC_REGION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/internal/poison.h"

namespace doppel {

class Region {
  // What Own puts before an object: how to destroy it, and the one made before it.
  struct Link {
    Link* previous;
    void (*destroy)(Link* link);
  };

 public:
  struct Options {
    // Null: Arena::Default().
    std::shared_ptr<Arena> arena = nullptr;
    // Addresses: the most that the region can ever hold. 0: see GrowingMapping.
    uint64_t reserve_bytes = 0;
    // Pages to have from the start.
    uint64_t initial_bytes = 0;
  };

  static absl::StatusOr<Region> Create(const Options& options);
  static absl::StatusOr<Region> Create() { return Create(Options()); }

  // A region that was moved from holds nothing: Allocate returns nullptr.
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  ~Region();

  // `bytes` at a multiple of `alignment`, or nullptr. Contents are unspecified. 0
  // bytes give a valid address, not necessarily a distinct one. O(1), but for growth
  // (system calls, new pages).
  // REQUIRES: alignment is a power of two.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void* Allocate(
      size_t bytes, size_t alignment = alignof(std::max_align_t)) {
    const uintptr_t at = (next_ + (alignment - 1)) & ~(alignment - 1);
    // limit_ is a multiple of the smallest page, so that `at` cannot pass it: the
    // subtraction does not wrap, and no size is too large for the comparison. The
    // compiler mostly knows the alignment and drops the first half; an alignment of 0
    // wraps and is refused on the cold path.
    if (ABSL_PREDICT_FALSE(alignment - 1 >= kSmallestPageBytes ||
                           bytes > limit_ - at)) {
      return AllocateSlow(bytes, alignment);
    }
    next_ = at + bytes;
    internal::Unpoison(reinterpret_cast<void*>(at), bytes);
    return reinterpret_cast<void*>(at);
  }

  // Gives the newest allocation back, unless a mark was set behind it; anything else
  // stays until Rewind. The size and address are those of the allocation.
  void Deallocate(void* allocation, size_t bytes,
                  [[maybe_unused]] size_t alignment) {
    const auto at = reinterpret_cast<uintptr_t>(allocation);
    if (at + bytes != next_ || at < newest_mark_) return;
    next_ = at;
    internal::Poison(allocation, bytes);
  }

  // Constructs a T that nobody destroys. Throws std::bad_alloc, or what T throws.
  template <class T, class... Arguments>
  T* New(Arguments&&... arguments) {
    static_assert(std::is_trivially_destructible_v<T>,
                  "use Own for types with a destructor");
    void* const place = AllocateOrThrow(sizeof(T), alignof(T));
    return ::new (place) T(std::forward<Arguments>(arguments)...);
  }

  // `count` value-initialised objects. Throws std::bad_alloc or
  // std::bad_array_new_length.
  template <class T>
  T* NewArray(size_t count) {
    static_assert(std::is_trivially_destructible_v<T>,
                  "use Own for types with a destructor");
    if (count > PTRDIFF_MAX / sizeof(T)) throw std::bad_array_new_length();
    T* const first =
        static_cast<T*>(AllocateOrThrow(count * sizeof(T), alignof(T)));
    std::uninitialized_value_construct_n(first, count);
    return first;
  }

  // Constructs a T that the region destroys (invariant 4).
  template <class T, class... Arguments>
  T* Own(Arguments&&... arguments) {
    if constexpr (std::is_trivially_destructible_v<T>) {
      return New<T>(std::forward<Arguments>(arguments)...);
    } else {
      constexpr size_t kObjectOffset = ObjectOffset<T>();
      const Mark before = mark();
      auto* const place = static_cast<std::byte*>(AllocateOrThrow(
          kObjectOffset + sizeof(T), std::max(alignof(Link), alignof(T))));
      T* object;
      try {
        object = ::new (place + kObjectOffset)
            T(std::forward<Arguments>(arguments)...);
      } catch (...) {
        Rewind(before);
        throw;
      }
      newest_ = ::new (place) Link{newest_, &DestroyBehind<T>};
      return object;
    }
  }

  // A moment to go back to. Valid until the region goes back behind it.
  class Mark {
    friend class Region;
    Mark(uintptr_t next, Link* newest) : next_(next), newest_(newest) {}
    uintptr_t next_;
    // Addresses would not do: an object that Own makes within the constructor of
    // another stands behind it, but is older.
    Link* newest_;
  };
  Mark mark() {
    newest_mark_ = next_;
    return Mark(next_, newest_);
  }

  // Ends every allocation since `mark`; destroys what Own made since. Pages stay.
  // O(1) and the destructors.
  // REQUIRES: `mark` is of this region and was not gone behind; checked in hardened
  // builds.
  void Rewind(Mark mark);

  // Ends every allocation. Pages stay for the next ones.
  void Reset();

  // Ends every allocation and gives pages beyond `keep_bytes` back to the arena.
  absl::Status ResetAndRelease(uint64_t keep_bytes = 0);

  uint64_t used_bytes() const { return next_ - begin(); }
  uint64_t committed_bytes() const { return memory_.committed_bytes(); }
  uint64_t reserved_bytes() const { return memory_.reserved_bytes(); }
  bool Contains(const void* address) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    return at >= begin() && at < next_;
  }
  const std::shared_ptr<Arena>& arena() const { return memory_.arena(); }

  // Why the last Allocate returned nullptr; OK if none did.
  const absl::Status& last_error() const { return last_error_; }

 private:
  template <class T>
  static constexpr size_t ObjectOffset() {
    return (sizeof(Link) + alignof(T) - 1) & ~(alignof(T) - 1);
  }
  template <class T>
  static void DestroyBehind(Link* link) {
    auto* const place = reinterpret_cast<std::byte*>(link);
    std::destroy_at(
        std::launder(reinterpret_cast<T*>(place + ObjectOffset<T>())));
  }

  // Of any machine that Linux runs on.
  static constexpr size_t kSmallestPageBytes = 4096;

  explicit Region(GrowingMapping memory);

  uintptr_t begin() const {
    return reinterpret_cast<uintptr_t>(memory_.data());
  }
  ABSL_ATTRIBUTE_NOINLINE void* AllocateSlow(size_t bytes, size_t alignment);
  void* AllocateOrThrow(size_t bytes, size_t alignment) {
    void* const place = Allocate(bytes, alignment);
    if (ABSL_PREDICT_FALSE(place == nullptr)) throw std::bad_alloc();
    return place;
  }
  void DestroyDownTo(const Link* older);
  // Before the memory goes.
  void LetGo();

  // Addresses as integers: comparing pointers behind the end of an object is not
  // defined, comparing integers is.
  uintptr_t next_ = 0;   // Where the next allocation starts.
  uintptr_t limit_ = 0;  // Where committed pages end.
  // What Deallocate must not go behind: some mark there may still be used.
  uintptr_t newest_mark_ = 0;
  Link* newest_ = nullptr;  // Of the objects that Own made.
  GrowingMapping memory_;
  absl::Status last_error_;
};

}  // namespace doppel

#endif  // DOPPEL_ALLOC_REGION_H_
