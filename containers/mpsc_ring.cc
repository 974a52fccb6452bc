// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/mpsc_ring.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_shared.h"

namespace doppel {
absl::StatusOr<MpscRing> MpscRing::Create(uint64_t min_capacity_bytes,
                                          const Options& options) {
  if (min_capacity_bytes == 0) {
    return absl::InvalidArgumentError(
        "a ring of capacity 0 holds nothing; ask for at least 1 byte");
  }
  const absl::StatusOr<std::shared_ptr<Arena>> arena =
      internal::ArenaOrDefault(options.arena);
  if (!arena.ok()) return arena.status();
  std::unique_ptr<internal::MpscShared> shared(new (std::nothrow)
                                                   internal::MpscShared);
  if (shared == nullptr) {
    return absl::ResourceExhaustedError("no memory for the ring's positions");
  }
  shared->owner_process = internal::sys::ProcessId();
  absl::StatusOr<internal::Mirror> mirror = internal::Mirror::Create(
      *arena, min_capacity_bytes, internal::Mirror::kMaxViews);
  if (!mirror.ok()) return mirror.status();
  // The arena hands out pages with what their last owner left in them.
  std::memset(mirror->data(), 0, mirror->size_bytes());
  return MpscRing(*std::move(mirror), std::move(shared));
}

MpscRing& MpscRing::operator=(MpscRing&& other) noexcept {
  if (this == &other) return *this;
  CheckNoHandles();
  mirror_ = std::move(other.mirror_);
  shared_ = std::move(other.shared_);
  return *this;
}

uint64_t MpscRing::size_bytes() const {
  // The consumer first: its position is never past a claim that is seen later.
  const uint64_t consumed =
      shared_->consumer_position.load(std::memory_order_acquire);
  const uint64_t claimed =
      shared_->claim_position.load(std::memory_order_acquire);
  return std::min(claimed - consumed, capacity_bytes());
}

MpscRing::Statistics MpscRing::statistics() const {
  return {
      .messages = shared_->messages.load(std::memory_order_relaxed),
      .refusals = shared_->refusals.load(std::memory_order_relaxed),
      .stalls = shared_->stalls.load(std::memory_order_relaxed),
      .high_water_bytes =
          shared_->high_water_bytes.load(std::memory_order_relaxed),
  };
}

void MpscRing::CheckNoHandles() const {
  if (shared_ == nullptr) return;
  // In a forked child the handles of other threads are copies that nobody ends.
  if (shared_->owner_process != internal::sys::ProcessId()) return;
  ABSL_HARDENING_ASSERT(shared_->producers.load(std::memory_order_acquire) ==
                            0 &&
                        "a Producer outlives its ring");
  ABSL_HARDENING_ASSERT(
      !shared_->consumer_taken.load(std::memory_order_acquire) &&
      "the Consumer outlives its ring");
}

}  // namespace doppel
