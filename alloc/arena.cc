// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/arena.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/bad_alloc.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

namespace sys = internal::sys;

constexpr uint64_t kDefaultRetainBytes = uint64_t{64} << 20;

uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// A file of the pages that were granted. Where BestAvailable's are of no use, `grant`
// becomes the next best.
absl::StatusOr<Memfd> CreateFile(const Arena::Options& options,
                                 PageGrant& grant) {
  absl::StatusOr<Memfd> memfd =
      Memfd::Create({.name = options.name, .page_size = grant.granted});
  while (!memfd.ok() && grant.granted.is_hugetlb() &&
         options.page_size == PageSize::BestAvailable()) {
    grant =
        GrantNextBest(grant, memfd.status().message(), options.expected_bytes);
    memfd = Memfd::Create({.name = options.name, .page_size = grant.granted});
  }
  return memfd;
}

}  // namespace

Extent& Extent::operator=(Extent&& other) noexcept {
  if (this != &other) {
    Reset();
    arena_ = std::move(other.arena_);
    offset_bytes_ = std::exchange(other.offset_bytes_, 0);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

void Extent::Reset() {
  if (arena_ == nullptr) return;
  arena_->Free(offset_bytes_, size_bytes_);
  arena_.reset();
  offset_bytes_ = 0;
  size_bytes_ = 0;
}

absl::StatusOr<Extent> Extent::SplitAt(uint64_t keep_bytes) {
  if (arena_ == nullptr || keep_bytes == 0 || keep_bytes >= size_bytes_ ||
      keep_bytes % arena_->page_bytes() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an extent of ", size_bytes_, " bytes cannot be cut at ",
                     keep_bytes, ": cut inside it, between pages"));
  }
  if (!arena_->CountExtents(1)) return internal::HeapExhausted();
  Extent rest(arena_, offset_bytes_ + keep_bytes, size_bytes_ - keep_bytes);
  size_bytes_ = keep_bytes;
  return rest;
}

bool Extent::Join(Extent& next) {
  if (arena_ == nullptr || next.arena_ != arena_ ||
      next.offset_bytes_ != offset_bytes_ + size_bytes_) {
    return false;
  }
  size_bytes_ += next.size_bytes_;
  arena_->CountExtents(-1);
  next.arena_.reset();
  next.offset_bytes_ = 0;
  next.size_bytes_ = 0;
  return true;
}

Arena::Arena(const Options& options, PageGrant grant, Memfd memfd)
    : options_(options),
      grant_(std::move(grant)),
      huge_unit_bytes_(grant_.granted == PageSize::Transparent()
                           ? TransparentPageBytes()
                           : grant_.page_bytes),
      owner_process_(sys::ProcessId()),
      memfd_(std::move(memfd)) {}

Arena::~Arena() = default;

absl::StatusOr<std::shared_ptr<Arena>> Arena::Create(const Options& options) {
  absl::StatusOr<PageGrant> grant =
      GrantPageSize(options.page_size, options.expected_bytes);
  if (!grant.ok()) return grant.status();
  absl::StatusOr<Memfd> memfd = CreateFile(options, *grant);
  if (!memfd.ok()) return memfd.status();
  return std::shared_ptr<Arena>(
      new Arena(options, *std::move(grant), *std::move(memfd)));
}

absl::StatusOr<std::shared_ptr<Arena>> Arena::Default() {
  // No mutex: one that another thread held at a fork stays locked in the child.
  // Never destroyed: objects with static storage may hold extents at exit.
  struct Made {
    std::shared_ptr<Arena> arena;
    const Made* of_parent;  // Stays reachable, for leak checkers.
  };
  static constinit std::atomic<const Made*> made{nullptr};
  const Made* current = made.load(std::memory_order_acquire);
  while (current == nullptr || !current->arena->InOwnerProcess()) {
    absl::StatusOr<std::shared_ptr<Arena>> created =
        Create({.retain_bytes = kDefaultRetainBytes});
    if (!created.ok()) return created.status();
    const Made* const fresh = new Made{*std::move(created), current};
    if (made.compare_exchange_strong(current, fresh, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      return fresh->arena;
    }
    delete fresh;  // Another thread was faster.
  }
  return current->arena;
}

bool Arena::InOwnerProcess() const {
  return owner_process_ == sys::ProcessId();
}

bool Arena::CountExtents(int change) {
  if (!InOwnerProcess()) return true;
  const absl::MutexLock lock(&mutex_);
  if (change > 0 && !stock_.Fill(extents_ + 1)) return false;
  extents_ += static_cast<uint64_t>(int64_t{change});
  return true;
}

absl::StatusOr<Extent> Arena::Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                       Preference preference) {
  if (bytes == 0 || bytes > INT64_MAX - page_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an extent cannot have ", bytes, " bytes"));
  }
  if (alignment_bytes != 0 && !std::has_single_bit(alignment_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an alignment is a power of two, not ", alignment_bytes));
  }
  if (!InOwnerProcess()) {
    return absl::FailedPreconditionError(
        "this arena belongs to the parent process, which would hand out the "
        "same pages: create an arena after fork");
  }
  bytes = RoundUp(bytes, page_bytes());
  const uint64_t natural_bytes =
      bytes >= huge_unit_bytes_ ? huge_unit_bytes_ : page_bytes();
  alignment_bytes = std::max(alignment_bytes, natural_bytes);

  const absl::MutexLock lock(&mutex_);
  // One for the extent, when it comes back, and one for what it is cut from.
  if (!stock_.Fill(extents_ + 2)) return internal::HeapExhausted();
  absl::StatusOr<uint64_t> offset = TakeRun(bytes, alignment_bytes, preference);
  if (!offset.ok()) return offset.status();
  if (grant_.granted.is_hugetlb()) {
    // A hole in a hugetlb file has given its pages back to the pool; where they are
    // there already this only looks.
    absl::Status s =
        internal::CatchBadAlloc([&] { return memfd_.Reserve(*offset, bytes); });
    if (!s.ok()) {
      // What fallocate got before it failed goes the way of all freed pages.
      retained_.Insert(*offset, bytes);
      PunchDownTo(options_.retain_bytes).IgnoreError();
      return s;
    }
  }
  handed_out_bytes_ += bytes;
  ++extents_;
  return Extent(shared_from_this(), *offset, bytes);
}

absl::StatusOr<uint64_t> Arena::TakeRun(uint64_t bytes,
                                        uint64_t alignment_bytes,
                                        Preference preference) {
  if (preference == Preference::kRetained) {
    if (const auto run = retained_.TakeBestFit(bytes, alignment_bytes)) {
      return *run;
    }
  }
  if (const auto run = holes_.TakeBestFit(bytes, alignment_bytes)) return *run;
  absl::StatusOr<uint64_t> grown = Grow(bytes, alignment_bytes);
  if (grown.ok() || retained_.total_bytes() == 0) return grown;
  // As a hole, what was retained may join others to a run that is large enough.
  if (!PunchDownTo(0).ok()) return grown;
  if (const auto run = holes_.TakeBestFit(bytes, alignment_bytes)) return *run;
  return Grow(bytes, alignment_bytes);
}

absl::StatusOr<uint64_t> Arena::Grow(uint64_t bytes, uint64_t alignment_bytes) {
  // A hole at the end of the file is a part of what is needed.
  const uint64_t offset =
      RoundUp(holes_.RunEndingAt(file_bytes_), alignment_bytes);
  if (offset > options_.max_bytes || bytes > options_.max_bytes - offset) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "arena \"", options_.name, "\" has ", file_bytes_, " bytes, and ",
        bytes, " more exceed its max_bytes of ", options_.max_bytes));
  }
  if (absl::Status s = memfd_.Resize(offset + bytes); !s.ok()) return s;
  holes_.Insert(file_bytes_, offset + bytes - file_bytes_);
  file_bytes_ = offset + bytes;
  holes_.TakeAt(offset, bytes);
  return offset;
}

void Arena::Free(uint64_t offset_bytes, uint64_t size_bytes) {
  if (!InOwnerProcess()) return;  // The parent's pages, and perhaps its lock.
  const absl::MutexLock lock(&mutex_);
  handed_out_bytes_ -= size_bytes;
  --extents_;
  retained_.Insert(offset_bytes, size_bytes);
  // What cannot be punched stays retained, and is tried again at the next Free.
  PunchDownTo(options_.retain_bytes).IgnoreError();
  // As much as many extents needed would else stay for ever. (With some to spare: it
  // need not be got again at once.)
  stock_.ShrinkTo(2 * (extents_ + 1));
}

absl::Status Arena::PunchDownTo(uint64_t retain_bytes) {
  // A run that is cut becomes two. Without memory for that it goes as a whole.
  const bool may_cut = stock_.Fill(extents_ + 1);
  while (retained_.total_bytes() > retain_bytes) {
    const uint64_t excess_bytes =
        RoundUp(retained_.total_bytes() - retain_bytes, page_bytes());
    const auto run =
        *retained_.TakeFromLargest(may_cut ? excess_bytes : UINT64_MAX);
    absl::Status s = internal::CatchBadAlloc(
        [&] { return memfd_.PunchHole(run.offset_bytes, run.size_bytes); });
    if (!s.ok()) {
      retained_.Insert(run.offset_bytes, run.size_bytes);
      return s;
    }
    holes_.Insert(run.offset_bytes, run.size_bytes);
  }
  return absl::OkStatus();
}

absl::Status Arena::Trim() {
  if (!InOwnerProcess()) return absl::OkStatus();
  const absl::MutexLock lock(&mutex_);
  return PunchDownTo(0);
}

}  // namespace doppel
