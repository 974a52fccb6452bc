// SPDX-License-Identifier: Apache-2.0
//
// How large the cache is that a core has for itself.
//
// Invariants:
//   1. The answer is above 0 and the same for the life of the process.
//
// Thread safety: any thread.
// Errors: none. Machines that do not tell are taken to have kUnknownCacheBytes.
//
// Example:
//   const bool fits = ring_bytes <= CacheBytes();

#ifndef DOPPEL_CONTAINERS_INTERNAL_CACHE_SIZE_H_
#define DOPPEL_CONTAINERS_INTERNAL_CACHE_SIZE_H_

#include <cstdint>

namespace doppel::internal {

inline constexpr uint64_t kUnknownCacheBytes = uint64_t{512} << 10;

// The size of the level-2 cache of the machine's first core.
uint64_t CacheBytes();

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_CACHE_SIZE_H_
