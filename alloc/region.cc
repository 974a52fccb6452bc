// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/region.h"

#include <bit>
#include <cstdint>
#include <utility>

#include "absl/base/macros.h"
#include "absl/strings/str_cat.h"

namespace doppel {

absl::StatusOr<Region> Region::Create(const Options& options) {
  absl::StatusOr<GrowingMapping> memory = GrowingMapping::Create(
      {.arena = options.arena, .reserve_bytes = options.reserve_bytes});
  if (!memory.ok()) return memory.status();
  if (absl::Status s = memory->Grow(options.initial_bytes); !s.ok()) return s;
  return Region(*std::move(memory));
}

Region::Region(GrowingMapping memory)
    : next_(reinterpret_cast<uintptr_t>(memory.data())),
      limit_(next_ + memory.committed_bytes()),
      memory_(std::move(memory)) {
  internal::Poison(memory_.data(), memory_.committed_bytes());
}

Region::Region(Region&& other) noexcept
    : next_(std::exchange(other.next_, 0)),
      limit_(std::exchange(other.limit_, 0)),
      newest_mark_(std::exchange(other.newest_mark_, 0)),
      newest_(std::exchange(other.newest_, nullptr)),
      memory_(std::move(other.memory_)),
      last_error_(std::exchange(other.last_error_, absl::OkStatus())) {}

Region& Region::operator=(Region&& other) noexcept {
  if (this != &other) {
    LetGo();
    next_ = std::exchange(other.next_, 0);
    limit_ = std::exchange(other.limit_, 0);
    newest_mark_ = std::exchange(other.newest_mark_, 0);
    newest_ = std::exchange(other.newest_, nullptr);
    memory_ = std::move(other.memory_);
    last_error_ = std::exchange(other.last_error_, absl::OkStatus());
  }
  return *this;
}

Region::~Region() { LetGo(); }

void Region::LetGo() {
  // In a forked child what Own made is the parent's, which may have changed it.
  if (newest_ != nullptr && arena()->InOwnerProcess()) Reset();
  internal::Unpoison(memory_.data(), memory_.committed_bytes());
}

void* Region::AllocateSlow(size_t bytes, size_t alignment) {
  if (memory_.data() == nullptr) {
    last_error_ = absl::FailedPreconditionError("the region was moved from");
    return nullptr;
  }
  if (!std::has_single_bit(alignment)) {
    last_error_ = absl::InvalidArgumentError(
        absl::StrCat("an alignment of ", alignment, " is no power of two"));
    return nullptr;
  }
  if (alignment > memory_.reserved_bytes() ||
      bytes > memory_.reserved_bytes()) {
    last_error_ = absl::ResourceExhaustedError(absl::StrCat(
        bytes, " bytes aligned to ", alignment, " do not fit into a region of ",
        memory_.reserved_bytes(), ": create it with larger reserve_bytes"));
    return nullptr;
  }
  const uintptr_t at = (next_ + alignment - 1) & ~(alignment - 1);
  const uint64_t before_bytes = memory_.committed_bytes();
  if (absl::Status s = memory_.Grow(at - begin() + bytes); !s.ok()) {
    last_error_ = std::move(s);
    return nullptr;
  }
  limit_ = begin() + memory_.committed_bytes();
  internal::Poison(memory_.data() + before_bytes,
                   memory_.committed_bytes() - before_bytes);
  next_ = at + bytes;
  internal::Unpoison(reinterpret_cast<void*>(at), bytes);
  return reinterpret_cast<void*>(at);
}

void Region::DestroyDownTo(const Link* older) {
  // A destructor may make objects here: newest_ is read again each time.
  while (newest_ != older) {
    ABSL_HARDENING_ASSERT(newest_ != nullptr);  // `older` is gone already.
    Link* const link = newest_;
    newest_ = link->previous;
    link->destroy(link);
  }
}

void Region::Rewind(Mark mark) {
  ABSL_HARDENING_ASSERT(mark.next_ >= begin() && mark.next_ <= next_);
  DestroyDownTo(mark.newest_);
  internal::Poison(reinterpret_cast<void*>(mark.next_), next_ - mark.next_);
  next_ = mark.next_;
  // Older marks, and this one, stay valid.
  newest_mark_ = mark.next_;
}

void Region::Reset() {
  if (memory_.data() != nullptr) Rewind(Mark(begin(), nullptr));
}

absl::Status Region::ResetAndRelease(uint64_t keep_bytes) {
  Reset();
  internal::Unpoison(memory_.data(), memory_.committed_bytes());
  absl::Status status = memory_.ShrinkTo(keep_bytes);
  internal::Poison(memory_.data(), memory_.committed_bytes());
  limit_ = begin() + memory_.committed_bytes();
  return status;
}

}  // namespace doppel
