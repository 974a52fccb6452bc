// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/vector_storage.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace doppel::internal {
namespace {

// A std::bad_alloc that says why.
class NoMemory final : public std::bad_alloc {
 public:
  explicit NoMemory(const absl::Status& status)
      : message_(std::make_shared<const std::string>(
            absl::StrCat("doppel::Vector: ", status.message()))) {}
  const char* what() const noexcept override { return message_->c_str(); }

 private:
  // Shared: an exception is copied, and that may not throw.
  std::shared_ptr<const std::string> message_;
};

}  // namespace

uint64_t VectorStorage::max_bytes() const {
  if (memory_) return memory_.reserved_bytes();
  if (options_.reserve_bytes == 0) return GrowingMapping::DefaultReserveBytes();
  return std::min<uint64_t>(options_.reserve_bytes, PTRDIFF_MAX);
}

absl::Status VectorStorage::Create() {
  if (memory_) return absl::OkStatus();
  absl::StatusOr<GrowingMapping> memory = GrowingMapping::Create(options_);
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);
  return absl::OkStatus();
}

void VectorStorage::Grow(uint64_t needed_bytes) {
  const bool is_first = !memory_;
  absl::Status status = Create();
  if (!status.ok()) throw NoMemory(status);
  // RLIMIT_AS may have left fewer addresses than max_bytes() said before.
  if (needed_bytes > max_bytes()) {
    if (is_first) memory_ = GrowingMapping();
    throw std::length_error(
        absl::StrCat("doppel::Vector: ", needed_bytes,
                     " bytes do not fit; see Options::reserve_bytes"));
  }
  status = memory_.Grow(needed_bytes);
  if (!status.ok()) {
    if (is_first) memory_ = GrowingMapping();
    throw NoMemory(status);
  }
}

void VectorStorage::ShrinkTo(uint64_t bytes) noexcept {
  if (memory_) memory_.ShrinkTo(bytes).IgnoreError();
}

void ThrowOutOfRange(size_t index, size_t size) {
  throw std::out_of_range(absl::StrCat("doppel::Vector::at: index ", index,
                                       " of ", size, " elements"));
}

void ThrowTooLong(size_t size, size_t more, size_t max_size) {
  throw std::length_error(
      absl::StrCat("doppel::Vector: ", more, " elements beyond the ", size,
                   " there are: more than max_size() ", max_size,
                   "; see Options::reserve_bytes"));
}

}  // namespace doppel::internal
