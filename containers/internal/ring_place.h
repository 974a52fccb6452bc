// SPDX-License-Identifier: Apache-2.0
//
// Where a side of a ring stands in the memory, and what it does to the cache lines
// there and ahead of it.
//
//   items that are trivially copyable       all others, and the canonical build
//   lap = the mirror's distance             lap = capacity * item size
//   │0│1│2│3│4│5│6│7│8│9│ first view        │0│1│2│3│4│5│6│7│8│9│  │ only view
//                      └┤10│ ... second                          └ unused
//   an item may reach into the second       an item is whole, and has one address
//   view, and so may a span
//
// Invariants:
//   1. The place is within the first view. It goes back by lap_bytes at its end.
//   2. An item that is not trivially copyable is reached by one address for its
//      whole life. An object may hold its own address (std::string does), and
//      another alias would be another object to it.
//
// Thread safety: a value type; one belongs to one handle.
// Errors: none.
//
// Example:
//   RingPlace place(memory, lap_bytes, position * sizeof(T) % lap_bytes);
//   *reinterpret_cast<T*>(place.here()) = item;
//   place.Advance(sizeof(T));

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_PLACE_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_PLACE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"

namespace doppel::internal {

class RingPlace {
 public:
  // REQUIRES: offset_bytes < lap_bytes; data is where a cache line begins.
  RingPlace(std::byte* data, uint64_t lap_bytes, uint64_t offset_bytes)
      : here_(data + offset_bytes),
        end_(data + lap_bytes),
        lap_bytes_(lap_bytes) {}

  std::byte* here() const { return here_; }

  // Bytes from here to where the place goes back to the first.
  uint64_t bytes_to_wrap() const { return static_cast<uint64_t>(end_ - here_); }

  // REQUIRES: offset_bytes < the lap.
  void MoveTo(uint64_t offset_bytes) { here_ = data() + offset_bytes; }

  // REQUIRES: bytes <= the lap.
  void Advance(uint64_t bytes) {
    here_ += bytes;
    if (here_ >= end_) here_ -= lap_bytes_;
  }

  // The same by one item of a mirrored ring, whose lap is whole lines. Whether a cache
  // line ends within the item, or with it; only then may the lap.
  bool EndsLine(uint64_t item_bytes) {
    here_ += item_bytes;
    if (ABSL_PREDICT_TRUE(reinterpret_cast<uintptr_t>(here_) %
                              kCacheLineBytes >=
                          item_bytes)) {
      return false;
    }
    if (ABSL_PREDICT_FALSE(here_ >= end_)) here_ -= lap_bytes_;
    return true;
  }

  // Calls f(begin, bytes) for the runs of addresses that the next `bytes` bytes
  // of trivially copyable items are: one where they are mirrored, else up to two.
  template <class F>
  void ForEachRun(uint64_t bytes, F f) const {
    if constexpr (Mirror::kMaxViews == 2) {
      f(here(), bytes);
    } else {
      const uint64_t first = std::min(bytes, bytes_to_wrap());
      f(here(), first);
      if (first < bytes) f(data(), bytes - first);
    }
  }

 private:
  std::byte* data() const { return end_ - lap_bytes_; }

  std::byte* here_;
  std::byte* end_;  // Copies: the object that has them is shared.
  uint64_t lap_bytes_;
};

// Writes a byte to each cache line that ends within the run. The byte is in the
// run, so it is the caller's even where the rest of its line no longer is.
inline void TakeLines(std::byte* begin, uint64_t bytes) {
  // The first line ends as far ahead as the address's low bits lack ones.
  for (uint64_t last = ~reinterpret_cast<uintptr_t>(begin) % kCacheLineBytes;
       last < bytes; last += kCacheLineBytes) {
    begin[last] = std::byte{0};
  }
}

// How far ahead of itself a side that goes item by item fetches lines (prefetch.h).
inline constexpr uint64_t kAheadBytes = 1024;

// For a side that has just learnt of `found_bytes` bytes. No part of what is inlined.
ABSL_ATTRIBUTE_NOINLINE inline void FetchFoundToRead(const std::byte* begin,
                                                     uint64_t found_bytes) {
  FetchToRead(begin, std::min(found_bytes, kAheadBytes));
}
ABSL_ATTRIBUTE_NOINLINE inline void FetchFoundToWrite(const std::byte* begin,
                                                      uint64_t found_bytes) {
  FetchToWrite(begin, std::min(found_bytes, kAheadBytes));
}

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_PLACE_H_
