// SPDX-License-Identifier: Apache-2.0
//
// The memory of a Vector: everything that does not depend on the element type.
//
//   no memory ──first Grow──▶ GrowingMapping: grows in place ──▶ gone
//
// Invariants:
//   1. Until the first Grow there is no mapping and no system call was made.
//   2. data() never changes from the first Grow on.
//   3. A Grow that throws changed nothing.
//
// Thread safety: as the Vector's.
// Errors: Grow throws std::length_error past the reservation; std::bad_alloc without
//   memory, whose what() is the message of the status: the system call and advice.
//
// Example:
//   VectorStorage storage(options);
//   storage.Grow(4096);
//   new (storage.data()) int(1);

#ifndef DOPPEL_CONTAINERS_INTERNAL_VECTOR_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_VECTOR_STORAGE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "doppel/alloc/growing_mapping.h"

namespace doppel::internal {

class VectorStorage {
 public:
  VectorStorage() = default;
  explicit VectorStorage(GrowingMapping::Options options)
      : options_(std::move(options)) {}
  // `other` keeps its options, so that it can grow again.
  VectorStorage(VectorStorage&& other) noexcept { *this = std::move(other); }
  VectorStorage& operator=(VectorStorage&& other) noexcept {
    options_ = other.options_;
    memory_ = std::move(other.memory_);
    return *this;
  }

  const GrowingMapping::Options& options() const { return options_; }
  std::byte* data() const { return memory_.data(); }
  uint64_t committed_bytes() const { return memory_.committed_bytes(); }
  // What it can ever hold, at most PTRDIFF_MAX.
  uint64_t max_bytes() const;
  // The pages behind it, for statistics; nullptr before the first Grow.
  const GrowingMapping* memory() const { return memory_ ? &memory_ : nullptr; }

  // Whether the elements are this process's own, not those of a parent (fork(2)).
  bool InOwnerProcess() const {
    return !memory_ || memory_.arena()->InOwnerProcess();
  }

  // Reserves the addresses now.
  absl::Status Create();
  void Grow(uint64_t needed_bytes);
  // Gives pages past `bytes` back; a failure keeps them.
  void ShrinkTo(uint64_t bytes) noexcept;

 private:
  GrowingMapping::Options options_;
  GrowingMapping memory_;  // Holds nothing before the first Grow.
};

// What the standard says of at(), and of sizes above max_size().
[[noreturn]] void ThrowOutOfRange(size_t index, size_t size);
[[noreturn]] void ThrowTooLong(size_t size, size_t more, size_t max_size);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_VECTOR_STORAGE_H_
