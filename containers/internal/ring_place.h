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
//   1. The offset is below lap_bytes. It goes back by lap_bytes when it reaches it.
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
#include <limits>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/cache_size.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"

namespace doppel::internal {

class RingPlace {
 public:
  RingPlace(std::byte* data, uint64_t lap_bytes, uint64_t offset_bytes)
      : data_(data), lap_bytes_(lap_bytes), offset_bytes_(offset_bytes) {}

  uint64_t lap_bytes() const { return lap_bytes_; }
  std::byte* here() const { return data_ + offset_bytes_; }

  // Bytes from here to where the offset goes back to 0.
  uint64_t bytes_to_wrap() const { return lap_bytes_ - offset_bytes_; }

  // REQUIRES: offset_bytes < the lap.
  void MoveTo(uint64_t offset_bytes) { offset_bytes_ = offset_bytes; }

  // REQUIRES: bytes <= the lap.
  void Advance(uint64_t bytes) {
    offset_bytes_ += bytes;
    if (offset_bytes_ >= lap_bytes_) offset_bytes_ -= lap_bytes_;
  }

  // The same by one item of a mirrored ring, whose lap is whole lines. Whether a cache
  // line ends within the item, or with it; only then may the lap.
  bool EndsLine(uint64_t item_bytes) {
    offset_bytes_ += item_bytes;
    if (ABSL_PREDICT_TRUE(offset_bytes_ % kCacheLineBytes >= item_bytes)) {
      return false;
    }
    if (ABSL_PREDICT_FALSE(offset_bytes_ >= lap_bytes_)) {
      offset_bytes_ -= lap_bytes_;
    }
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
      if (first < bytes) f(data_, bytes - first);
    }
  }

 private:
  std::byte* data_;  // Copies: the object that has them is shared.
  uint64_t lap_bytes_;
  uint64_t offset_bytes_;
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

// With more items known than these it does. The lines of a ring that fits its cache come
// from the other core; those of a larger one from memory, in an order that the processor
// sees by itself.
inline uint64_t AheadItems(const RingPlace& place, uint64_t item_bytes) {
  return place.lap_bytes() <= CacheBytes()
             ? kAheadBytes / item_bytes
             : std::numeric_limits<uint64_t>::max();
}

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
