// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/growing_mapping.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/bad_alloc.h"
#include "doppel/alloc/internal/remembered.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

// Populating more at once would only make single pushes slower.
constexpr uint64_t kStepLimitBytes = uint64_t{2} << 20;
constexpr uint64_t kExtentUnitBytes = uint64_t{2} << 20;
// Extents grow with what there is: several that grow in turn, so that their extents do
// not stand side by side in the file, use a mapping for each.
constexpr uint64_t kShowAheadDivisor = 8;
constexpr uint64_t kHugetlbStepLimitBytes = uint64_t{32} << 20;

uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

uint64_t GrowingMapping::DefaultReserveBytes() {
  static constinit internal::Remembered<uint64_t> bytes;
  return bytes.Get([] { return std::bit_ceil(internal::sys::MemoryBytes()); });
}

absl::StatusOr<GrowingMapping> GrowingMapping::Create(const Options& options) {
  std::shared_ptr<Arena> arena = options.arena;
  if (arena == nullptr) {
    absl::StatusOr<std::shared_ptr<Arena>> shared = Arena::Default();
    if (!shared.ok()) return shared.status();
    arena = *std::move(shared);
  }
  const uint64_t alignment_bytes = arena->huge_unit_bytes();
  if (options.reserve_bytes != 0) {
    if (options.reserve_bytes > INT64_MAX) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot reserve ", options.reserve_bytes, " bytes of addresses"));
    }
    absl::StatusOr<Mapping> mapping = Mapping::Reserve(
        RoundUp(options.reserve_bytes, arena->page_bytes()), alignment_bytes);
    if (!mapping.ok()) return mapping.status();
    return GrowingMapping(std::move(arena), *std::move(mapping));
  }
  internal::AddressShare share =
      internal::AddressShare::Take(DefaultReserveBytes());
  for (;; share.Halve()) {
    absl::StatusOr<Mapping> mapping = Mapping::Reserve(
        RoundUp(share.bytes(), arena->page_bytes()), alignment_bytes);
    if (mapping.ok()) {
      GrowingMapping memory(std::move(arena), *std::move(mapping));
      memory.share_ = std::move(share);
      return memory;
    }
    if (share.bytes() <= internal::AddressShare::kLeastBytes ||
        !absl::IsResourceExhausted(mapping.status())) {
      return mapping.status();
    }
  }
}

GrowingMapping::GrowingMapping(GrowingMapping&& other) noexcept
    : arena_(std::move(other.arena_)),
      share_(std::move(other.share_)),
      extents_(std::exchange(other.extents_, {})),
      mapping_(std::move(other.mapping_)),
      shown_bytes_(std::exchange(other.shown_bytes_, 0)),
      committed_bytes_(std::exchange(other.committed_bytes_, 0)) {}

GrowingMapping& GrowingMapping::operator=(GrowingMapping&& other) noexcept {
  if (this != &other) {
    // The views go before the pages that they show.
    mapping_ = std::move(other.mapping_);
    extents_ = std::exchange(other.extents_, {});
    arena_ = std::move(other.arena_);
    share_ = std::move(other.share_);
    shown_bytes_ = std::exchange(other.shown_bytes_, 0);
    committed_bytes_ = std::exchange(other.committed_bytes_, 0);
  }
  return *this;
}

uint64_t GrowingMapping::StepLimitBytes() const {
  return arena_->grant().granted.is_hugetlb() ? kHugetlbStepLimitBytes
                                              : kStepLimitBytes;
}

absl::Status GrowingMapping::Grow(uint64_t needed_bytes) {
  if (needed_bytes <= committed_bytes_) return absl::OkStatus();
  if (needed_bytes > reserved_bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        needed_bytes, " bytes do not fit into the ", reserved_bytes(),
        " reserved: create it with larger reserve_bytes"));
  }
  if (absl::Status s = internal::sys::CheckMemory(needed_bytes); !s.ok()) {
    return s;
  }
  const uint64_t page_bytes = arena_->page_bytes();
  const uint64_t exact_bytes = RoundUp(needed_bytes, page_bytes);
  const uint64_t headroom_bytes =
      std::min(needed_bytes / kGrowthDivisor, StepLimitBytes());
  uint64_t target_bytes = std::max(
      exact_bytes, (needed_bytes + headroom_bytes) / page_bytes * page_bytes);
  // The end of a transparent unit, where the headroom reaches it: a whole unit can
  // be one huge page.
  const uint64_t unit_bytes = arena_->huge_unit_bytes();
  const uint64_t whole_units_bytes = target_bytes / unit_bytes * unit_bytes;
  if (whole_units_bytes >= needed_bytes) target_bytes = whole_units_bytes;
  target_bytes = std::min(target_bytes, reserved_bytes());
  absl::Status committed = Commit(target_bytes);
  // Where memory is short: what was asked, without headroom.
  if (!committed.ok() && target_bytes > exact_bytes) {
    committed = Commit(exact_bytes);
  }
  return committed;
}

absl::Status GrowingMapping::Commit(uint64_t target_bytes) {
  const uint64_t shown_before_bytes = shown_bytes_;
  absl::Status status;
  while (status.ok() && shown_bytes_ < target_bytes) {
    status = ShowMore(target_bytes - shown_bytes_);
  }
  if (status.ok()) status = PopulateTo(target_bytes);
  if (!status.ok()) CutTo(shown_before_bytes).IgnoreError();
  return status;
}

uint64_t GrowingMapping::FarAheadBytes() const {
  // Only where what is shown costs nothing until it has its pages.
  const Arena::Options& options = arena_->options();
  if (arena_->grant().granted.is_hugetlb() || options.populate ||
      options.lock) {
    return 0;
  }
  return shown_bytes_ / kShowAheadDivisor;
}

absl::Status GrowingMapping::ShowMore(uint64_t bytes) {
  // A file's size costs nothing until its pages are there, so extents come in whole
  // units: fewer calls and mappings, and a unit can become huge when it is full.
  // hugetlb pages are there at once, so there a unit is a page.
  const uint64_t unit_bytes =
      arena_->grant().granted.is_hugetlb()
          ? arena_->page_bytes()
          : std::max(arena_->huge_unit_bytes(), kExtentUnitBytes);
  const uint64_t in_unit_bytes = shown_bytes_ % unit_bytes;
  uint64_t ahead_bytes = unit_bytes - in_unit_bytes;
  if (in_unit_bytes == 0) {
    const uint64_t wanted_bytes = std::max(bytes, FarAheadBytes());
    ahead_bytes = std::max(unit_bytes, wanted_bytes / unit_bytes * unit_bytes);
  }
  ahead_bytes = std::min(ahead_bytes, reserved_bytes() - shown_bytes_);
  // What is shown must be in extents_: this may throw, what follows may not.
  absl::Status room = internal::CatchBadAlloc([&] {
    extents_.reserve(extents_.size() + 1);
    return absl::OkStatus();
  });
  if (!room.ok()) return room;
  absl::StatusOr<Extent> extent =
      arena_->Allocate(ahead_bytes, 0,
                       ahead_bytes <= bytes ? Arena::Preference::kRetained
                                            : Arena::Preference::kHoles);
  if (!extent.ok()) {
    // The arena's max_bytes may have room for less.
    bytes = std::min(bytes, unit_bytes - in_unit_bytes);
    if (bytes < ahead_bytes) extent = arena_->Allocate(bytes);
    if (!extent.ok()) return extent.status();
  }
  // A touch must not bring more pages than Grow counted.
  if (absl::Status s =
          mapping_.Show(*extent, shown_bytes_, {.huge_on_touch = false});
      !s.ok()) {
    return s;
  }
  shown_bytes_ += extent->size_bytes();
  if (extents_.empty() || !extents_.back().Join(*extent)) {
    extents_.push_back(*std::move(extent));
  }
  return absl::OkStatus();
}

absl::Status GrowingMapping::PopulateTo(uint64_t target_bytes) {
  uint64_t from_bytes = committed_bytes_;
  absl::Status status;
  if (arena_->grant().granted == PageSize::Transparent()) {
    const uint64_t unit_bytes = arena_->huge_unit_bytes();
    // A unit that becomes full now becomes huge now.
    if (from_bytes / unit_bytes != target_bytes / unit_bytes) {
      from_bytes = from_bytes / unit_bytes * unit_bytes;
    }
    status = mapping_.PopulateHuge(from_bytes, target_bytes - from_bytes);
  } else {
    status = mapping_.Populate(from_bytes, target_bytes - from_bytes);
  }
  if (status.ok()) committed_bytes_ = target_bytes;
  return status;
}

absl::Status GrowingMapping::ShrinkTo(uint64_t bytes) {
  if (arena_ == nullptr || bytes >= committed_bytes_) return absl::OkStatus();
  return CutTo(RoundUp(bytes, arena_->page_bytes()));
}

absl::Status GrowingMapping::CutTo(uint64_t keep_bytes) {
  if (keep_bytes >= shown_bytes_) return absl::OkStatus();
  size_t kept = extents_.size();
  uint64_t kept_bytes = shown_bytes_;
  while (kept_bytes > keep_bytes) kept_bytes -= extents_[--kept].size_bytes();
  Extent tail;  // Of the extent that keep_bytes lies in.
  if (kept_bytes < keep_bytes) {
    absl::StatusOr<Extent> cut =
        extents_[kept].SplitAt(keep_bytes - kept_bytes);
    if (!cut.ok()) return cut.status();
    tail = *std::move(cut);
    ++kept;
  }
  if (absl::Status s = mapping_.Hide(keep_bytes, shown_bytes_ - keep_bytes);
      !s.ok()) {
    if (tail) extents_[kept - 1].Join(tail);
    return s;
  }
  extents_.resize(kept);
  shown_bytes_ = keep_bytes;
  committed_bytes_ = std::min(committed_bytes_, keep_bytes);
  return absl::OkStatus();
}

}  // namespace doppel
