// SPDX-License-Identifier: Apache-2.0
//
// Fences between threads, made so that a model checker can put its own in place.
//
// Invariants:
//   1. They are those of the standard, and nothing else.
//
// Thread safety: any thread.
// Errors: none.
//
// Example:
//   template <class Fences = StdFences>
//   void Look() { Fences::Full(); }

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_FENCES_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_FENCES_H_

#include <atomic>

namespace doppel::internal {

struct StdFences {
  static void Acquire() { std::atomic_thread_fence(std::memory_order_acquire); }
  static void Release() { std::atomic_thread_fence(std::memory_order_release); }
  static void Full() { std::atomic_thread_fence(std::memory_order_seq_cst); }
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_FENCES_H_
