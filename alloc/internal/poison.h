// SPDX-License-Identifier: Apache-2.0
//
// Tells AddressSanitizer which bytes of a region are nobody's. Costs nothing where
// the tool is off.
//
// Invariants:
//   1. Memory that goes back to an arena is unpoisoned first: its next owner knows
//      nothing of what it was.
//
// Thread safety: as the memory itself.
// Errors: none.
//
// Example:
//   Poison(next, limit - next);   // a touch is reported as use-after-poison

#ifndef DOPPEL_ALLOC_INTERNAL_POISON_H_
#define DOPPEL_ALLOC_INTERNAL_POISON_H_

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#define DOPPEL_INTERNAL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DOPPEL_INTERNAL_POISONS 1
#endif
#endif

#ifdef DOPPEL_INTERNAL_POISONS
#include <sanitizer/asan_interface.h>
#endif

namespace doppel::internal {

#ifdef DOPPEL_INTERNAL_POISONS
inline void Poison(const volatile void* at, size_t bytes) {
  __asan_poison_memory_region(at, bytes);
}
inline void Unpoison(const volatile void* at, size_t bytes) {
  __asan_unpoison_memory_region(at, bytes);
}
#undef DOPPEL_INTERNAL_POISONS
#else
inline void Poison(const volatile void* /*at*/, size_t /*bytes*/) {}
inline void Unpoison(const volatile void* /*at*/, size_t /*bytes*/) {}
#endif

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_POISON_H_
