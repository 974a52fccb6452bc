// SPDX-License-Identifier: Apache-2.0
//
// Contiguous memory that grows at its end and never moves: what Vector and Region
// stand on.
//
//   data()        committed_bytes()                  reserved_bytes()
//   ▼             ▼                                  ▼
//   ┌─────────────┬───────┬ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//   │ pages       │ shown │  addresses only           │
//   └─────────────┴───────┴ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//   extents: whole units of the file, filled with pages step by step
//
// Invariants:
//   1. data() never changes; [data(), data() + committed_bytes()) can be read and
//      written, and no touch of it raises SIGBUS: its pages were there when Grow
//      returned.
//   2. Bytes keep their value until ShrinkTo cuts them off. New bytes are
//      unspecified (zeros, or what an earlier owner of the pages left).
//   3. Grow commits what is asked, rounded up to a page, or up to 1/kGrowthDivisor
//      (at most 2 MiB; 32 MiB of hugetlb pages) beyond it. (An arena that populates
//      or locks what it shows does so with whole units.)
//   4. An error changes nothing.
//
// Thread safety: as a std::vector's: const members together, others alone.
// Errors: ResourceExhausted past the reservation, without pages, and for more than
//   the machine has memory.
// Fork: with the arena's ForkPolicy::kShare a child of fork(2) has the mapping, and
//   shares its pages: what either writes the other sees. The child cannot make it
//   grow (Arena), and destroying it there leaves the parent's alone.
//
// Example:
//   absl::StatusOr<GrowingMapping> memory = GrowingMapping::Create({});
//   if (!memory->Grow(1 << 20).ok()) return;
//   memory->data()[0] = std::byte{1};

#ifndef DOPPEL_ALLOC_GROWING_MAPPING_H_
#define DOPPEL_ALLOC_GROWING_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/address_share.h"
#include "doppel/alloc/mapping.h"

namespace doppel {

class GrowingMapping {
 public:
  struct Options {
    // Null: Arena::Default().
    std::shared_ptr<Arena> arena = nullptr;
    // Addresses to reserve; Grow can never go beyond. 0: DefaultReserveBytes(), or
    // less where RLIMIT_AS leaves less, or after some hundred others that asked for 0
    // (internal/address_share.h).
    uint64_t reserve_bytes = 0;
  };

  // The machine's memory rounded up to a power of two: no mapping can hold more.
  static uint64_t DefaultReserveBytes();

  // The step beyond what is asked: a part of the size, so that pages in use stay
  // within 1.05 of it, but at most StepLimitBytes().
  static constexpr uint64_t kGrowthDivisor = 24;

  static absl::StatusOr<GrowingMapping> Create(const Options& options);

  // Holds no arena and no memory, as one that was moved from: it may be asked for its
  // sizes, assigned to and destroyed.
  GrowingMapping() = default;
  GrowingMapping(GrowingMapping&& other) noexcept;
  GrowingMapping& operator=(GrowingMapping&& other) noexcept;
  // The views go before the pages that they show: mapping_ is declared last.
  ~GrowingMapping() = default;

  explicit operator bool() const { return arena_ != nullptr; }
  std::byte* data() const { return mapping_.data(); }
  uint64_t committed_bytes() const { return committed_bytes_; }
  uint64_t reserved_bytes() const { return mapping_.size_bytes(); }
  const std::shared_ptr<Arena>& arena() const { return arena_; }
  const Mapping& mapping() const { return mapping_; }

  // Makes committed_bytes() >= needed_bytes. Cost: a few system calls, and the time
  // the kernel takes to clear the new pages.
  absl::Status Grow(uint64_t needed_bytes);

  // Gives all pages past `bytes`, rounded up to a page, back to the arena.
  absl::Status ShrinkTo(uint64_t bytes);

 private:
  GrowingMapping(std::shared_ptr<Arena> arena, Mapping mapping)
      : arena_(std::move(arena)), mapping_(std::move(mapping)) {}

  uint64_t StepLimitBytes() const;
  absl::Status Commit(uint64_t target_bytes);
  uint64_t FarAheadBytes() const;
  absl::Status ShowMore(uint64_t bytes);
  absl::Status PopulateTo(uint64_t target_bytes);
  absl::Status CutTo(uint64_t keep_bytes);

  std::shared_ptr<Arena> arena_;
  internal::AddressShare share_;  // Of nothing if reserve_bytes was given.
  // In the order of their positions, back to back from 0.
  std::vector<Extent> extents_;
  Mapping mapping_;
  uint64_t shown_bytes_ = 0;      // The sum of the extents' sizes.
  uint64_t committed_bytes_ = 0;  // The part of it that has its pages.
};

}  // namespace doppel

#endif  // DOPPEL_ALLOC_GROWING_MAPPING_H_
