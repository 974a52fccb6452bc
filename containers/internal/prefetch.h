// SPDX-License-Identifier: Apache-2.0
//
// Fetching lines that are going to be written.
//
// A store waits until its core owns the line. Most waits overlap: the store buffer
// holds dozens of stores. But an atomic read-modify-write drains it first on x86, so
// whoever makes one for each message waits for each line in full, unless the line was
// asked for before. x86 has PREFETCHW for that; a plain prefetch would bring the line
// shared, and the store would wait all the same.
//
// Invariants:
//   1. A prefetch changes no memory and never faults, whatever the address.
//
// Thread safety: any thread.
// Errors: none. Processors without it do nothing.
//
// Example:
//   PrefetchForWrite(next_frame, 128);

#ifndef DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_
#define DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_

#include <cstddef>
#include <cstdint>

namespace doppel::internal {

// Begins to fetch the cache lines of `bytes` bytes, as one that will write there.
inline void PrefetchForWrite(const std::byte* begin, uint64_t bytes) {
  constexpr uint64_t kLineBytes = 64;
  for (uint64_t at = 0; at < bytes; at += kLineBytes) {
#if defined(__x86_64__)
    // __builtin_prefetch makes a PREFETCHW only if told that there is one (-mprfchw).
    // All 64-bit processors take the instruction, if only as one that does nothing.
    asm volatile("prefetchw %0" : : "m"(begin[at]));
#else
    __builtin_prefetch(begin + at, 1);
#endif
  }
}

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_PREFETCH_H_
