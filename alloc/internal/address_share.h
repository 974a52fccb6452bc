// SPDX-License-Identifier: Apache-2.0
//
// How many addresses a reservation takes whose owner did not say.
//
//   0                     taken by live reservations            kTotalBytes
//   ├──────────────────────────────────┼──────────────────────────────┤
//                                      └─ the next one gets a part of this at most
//
// A process has 2^47 bytes of addresses. If each of a few thousand vectors took as many
// as the machine has memory, malloc would find none left. So all of them together take
// half, and the k-th takes at most 1/(4 k) of what is left of that: the first hundreds
// get all that they could ever fill, the ten-thousandth still hundreds of megabytes, and
// none is refused.
//
// Invariants:
//   1. The sum of live shares is at most kTotalBytes, but for shares of kLeastBytes.
//   2. A share is a power of two, and goes back when it is destroyed.
//
// Thread safety: Take from any thread; a share as a value type.
// Errors: none.
//
// Example:
//   AddressShare share = AddressShare::Take(uint64_t{32} << 30);
//   Mapping::Reserve(share.bytes());

#ifndef DOPPEL_ALLOC_INTERNAL_ADDRESS_SHARE_H_
#define DOPPEL_ALLOC_INTERNAL_ADDRESS_SHARE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <utility>

namespace doppel::internal {

class AddressShare {
 public:
  static constexpr uint64_t kTotalBytes = uint64_t{1} << 46;
  // The part of the first ones: what is left over this.
  static constexpr uint64_t kLeastDivisor = 64;
  static constexpr uint64_t kLeastBytes = uint64_t{1} << 20;

  // At most `wanted_bytes`, but at least kLeastBytes.
  static AddressShare Take(uint64_t wanted_bytes) {
    const uint64_t shares = 1 + shares_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t divisor = std::max(4 * shares, kLeastDivisor);
    uint64_t taken = taken_bytes_.load(std::memory_order_relaxed);
    uint64_t bytes = 0;
    do {
      const uint64_t left = kTotalBytes - std::min(taken, kTotalBytes);
      bytes = std::bit_floor(
          std::max(std::min(wanted_bytes, left / divisor), kLeastBytes));
    } while (!taken_bytes_.compare_exchange_weak(taken, taken + bytes,
                                                 std::memory_order_relaxed));
    return AddressShare(bytes);
  }

  AddressShare() = default;  // Of nothing.
  AddressShare(AddressShare&& other) noexcept
      : bytes_(std::exchange(other.bytes_, 0)) {}
  AddressShare& operator=(AddressShare&& other) noexcept {
    AddressShare taken(std::move(other));
    std::swap(bytes_, taken.bytes_);  // What this had goes back with `taken`.
    return *this;
  }
  ~AddressShare() {
    if (bytes_ == 0) return;
    taken_bytes_.fetch_sub(bytes_, std::memory_order_relaxed);
    shares_.fetch_sub(1, std::memory_order_relaxed);
  }

  uint64_t bytes() const { return bytes_; }
  // Gives the half of it back. REQUIRES: bytes() > 1.
  void Halve() {
    bytes_ /= 2;
    taken_bytes_.fetch_sub(bytes_, std::memory_order_relaxed);
  }

  // Of all live shares.
  static uint64_t taken_bytes() {
    return taken_bytes_.load(std::memory_order_relaxed);
  }

 private:
  explicit AddressShare(uint64_t bytes) : bytes_(bytes) {}

  static inline std::atomic<uint64_t> taken_bytes_{0};
  static inline std::atomic<uint64_t> shares_{0};  // That live.
  uint64_t bytes_ = 0;
};

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_ADDRESS_SHARE_H_
