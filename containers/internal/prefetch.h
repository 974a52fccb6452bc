// SPDX-License-Identifier: Apache-2.0
//
// Fetching lines before they are read or written.
//
// A store waits until its core owns the line. Most waits overlap: the store buffer
// holds some sixty stores. Of small items that is a few lines, too few to hide what a
// line takes from the other core; and an atomic read-modify-write drains the buffer
// first on x86, so whoever makes one for each message waits for each line in full. So
// lines are asked for beforehand. x86 has PREFETCHW for that; a plain prefetch would
// bring the line shared, and the store would wait all the same.
//
// Invariants:
//   1. A prefetch changes no memory and never faults, whatever the address.
//
// Thread safety: any thread.
// Errors: none. Processors without it do nothing.
//
// Example:
//   FetchToWrite(next_frame, 128);

#ifndef DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_
#define DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_

#include <cstddef>
#include <cstdint>

namespace doppel::internal {

inline constexpr uint64_t kCacheLineBytes = 64;

// Begins to fetch the cache lines of `bytes` bytes for one who will read there.
inline void FetchToRead(const std::byte* begin, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kCacheLineBytes) {
    __builtin_prefetch(begin + at, /*rw=*/0, /*locality=*/3);
  }
  // gcc takes a function that only prefetches for one without effect, and drops calls
  // of it. This is an effect, of no instruction.
  asm volatile("");
}

// The same for one who will write there.
inline void FetchToWrite(const std::byte* begin, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kCacheLineBytes) {
#if defined(__x86_64__)
    // __builtin_prefetch makes a PREFETCHW only if told that there is one (-mprfchw).
    // All 64-bit processors take the instruction, if only as one that does nothing.
    asm volatile("prefetchw %0" : : "m"(begin[at]));
#else
    __builtin_prefetch(begin + at, /*rw=*/1);
#endif
  }
}

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_
