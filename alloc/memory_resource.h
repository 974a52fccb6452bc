// SPDX-License-Identifier: Apache-2.0
//
// A std::pmr::memory_resource over a Region, or over any other source of memory.
//
//   std::pmr::vector<int> ──▶ MemoryResource ──▶ Region
//
// Invariants:
//   1. Two resources are equal if and only if they have the same source
//      ([mem.res.private]).
//   2. Memory goes back as the source takes it: a Region takes its newest allocation
//      only, and the rest when it is rewound or reset.
//
// The source must outlive the resource, and the resource its containers.
//
// Thread safety: the source's: a Region serves one thread at a time.
// Errors: do_allocate throws std::bad_alloc.
//
// Example:
//   Region region = *Region::Create();
//   MemoryResource resource(region);
//   std::pmr::vector<std::pmr::string> words(&resource);

#ifndef DOPPEL_ALLOC_MEMORY_RESOURCE_H_
#define DOPPEL_ALLOC_MEMORY_RESOURCE_H_

#include <cstddef>
#include <memory_resource>
#include <new>

#include "absl/base/optimization.h"
#include "doppel/alloc/allocator.h"
#include "doppel/alloc/region.h"

namespace doppel {

template <MemorySource Source = Region>
class MemoryResource final : public std::pmr::memory_resource {
 public:
  explicit MemoryResource(Source& source) noexcept : source_(&source) {}

  Source& source() const noexcept { return *source_; }

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    void* const allocation = source_->Allocate(bytes, alignment);
    if (ABSL_PREDICT_FALSE(allocation == nullptr)) throw std::bad_alloc();
    return allocation;
  }

  void do_deallocate(void* allocation, size_t bytes,
                     size_t alignment) override {
    source_->Deallocate(allocation, bytes, alignment);
  }

  bool do_is_equal(
      const std::pmr::memory_resource& other) const noexcept override {
    const auto* same = dynamic_cast<const MemoryResource*>(&other);
    return same != nullptr && same->source_ == source_;
  }

  Source* source_;  // Never null; not owned.
};

template <MemorySource Source>
MemoryResource(Source&) -> MemoryResource<Source>;

}  // namespace doppel

#endif  // DOPPEL_ALLOC_MEMORY_RESOURCE_H_
