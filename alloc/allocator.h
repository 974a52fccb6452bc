// SPDX-License-Identifier: Apache-2.0
//
// A std allocator over a Region, or over any other source of memory.
//
//   std::vector<int, Allocator<int>> ──▶ Allocator<int> ──▶ Region
//   (a pointer to its source: copies, rebound or not, share it)
//
// Invariants:
//   1. Two allocators are equal if and only if they have the same source: what one
//      allocates the other may deallocate ([allocator.requirements]).
//   2. Propagation: an allocator stays with its container on copy assignment, and
//      goes with the memory on move assignment and swap, so that both are O(1) and
//      cannot throw; a copy-constructed container uses its original's source.
//   3. allocate(n) is aligned for T, over-aligned types too.
//
// The source must outlive every container. A Region takes back only its newest
// allocation; anything else stays until the region is rewound or reset. So reserve
// what you can, and reset the region when the containers are gone.
//
// Thread safety: the source's: a Region serves one thread at a time.
// Errors: allocate throws std::bad_array_new_length if n objects have no size,
//   std::bad_alloc if the source has no memory.
//
// Example:
//   Region region = *Region::Create();
//   std::map<int, int, std::less<>, Allocator<std::pair<const int, int>>> map(
//       Allocator<std::pair<const int, int>>(region));

#ifndef DOPPEL_ALLOC_ALLOCATOR_H_
#define DOPPEL_ALLOC_ALLOCATOR_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "absl/base/optimization.h"
#include "doppel/alloc/region.h"

namespace doppel {

// What an adapter needs of a policy of allocation. Allocate returns nullptr when
// there is no memory; Deallocate gets the size and alignment of the allocation.
template <class S>
concept MemorySource = requires(S& source, void* allocation, size_t bytes,
                                size_t alignment) {
  { source.Allocate(bytes, alignment) } -> std::same_as<void*>;
  source.Deallocate(allocation, bytes, alignment);
};

template <class T, MemorySource Source = Region>
class Allocator {
 public:
  using value_type = T;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using propagate_on_container_copy_assignment = std::false_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

#ifdef __cpp_lib_allocate_at_least
  using AllocationResult = std::allocation_result<T*, size_type>;
#else
  // As C++23 has it ([allocator.requirements]).
  struct AllocationResult {
    T* ptr;
    size_t count;
  };
#endif

  explicit Allocator(Source& source) noexcept : source_(&source) {}
  template <class U>
  Allocator(const Allocator<U, Source>& other) noexcept  // Rebinding.
      : source_(&other.source()) {}

  [[nodiscard]] T* allocate(size_t n) {
    if (ABSL_PREDICT_FALSE(n > max_size())) {
      throw std::bad_array_new_length();
    }
    void* const allocation = source_->Allocate(n * sizeof(T), alignof(T));
    if (ABSL_PREDICT_FALSE(allocation == nullptr)) throw std::bad_alloc();
    return static_cast<T*>(allocation);
  }

  // At least n objects; a bump allocator has no size classes, so just n.
  [[nodiscard]] AllocationResult allocate_at_least(size_t n) {
    return {allocate(n), n};
  }

  void deallocate(T* allocation, size_t n) noexcept {
    source_->Deallocate(allocation, n * sizeof(T), alignof(T));
  }

  // What allocate could be asked for: the address space is the limit.
  constexpr size_t max_size() const noexcept { return PTRDIFF_MAX / sizeof(T); }

  Allocator select_on_container_copy_construction() const noexcept {
    return *this;
  }

  Source& source() const noexcept { return *source_; }

  template <class U>
  friend bool operator==(const Allocator& a,
                         const Allocator<U, Source>& b) noexcept {
    return &a.source() == &b.source();
  }

 private:
  Source* source_;  // Never null; not owned.
};

}  // namespace doppel

#endif  // DOPPEL_ALLOC_ALLOCATOR_H_
