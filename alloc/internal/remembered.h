// SPDX-License-Identifier: Apache-2.0
//
// A number that a process asks or measures once.
//
//   unknown ── Get ──▶ whoever finds it so asks ──▶ the first answer stands
//
// A static variable of a function would be locked while it is asked for. A child of
// fork(2), made by another thread at that moment, would find it locked for ever.
//
// Invariants:
//   1. All calls of Get return the same number.
//   2. Nobody waits: threads that come at once each ask.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   static constinit Remembered<uint64_t> bytes;
//   return bytes.Get([] { return sysconf(_SC_PAGESIZE); });

#ifndef DOPPEL_ALLOC_INTERNAL_REMEMBERED_H_
#define DOPPEL_ALLOC_INTERNAL_REMEMBERED_H_

#include <atomic>

namespace doppel::internal {

template <class T>
class Remembered {
 public:
  static constexpr T kUnknown = static_cast<T>(-1);

  // What `ask()` returned first. REQUIRES: it never returns kUnknown.
  template <class Ask>
  T Get(Ask ask) {
    T number = number_.load(std::memory_order_relaxed);
    if (number != kUnknown) return number;
    const T answer = static_cast<T>(ask());
    // If another was first, its answer stands, and is in `number` then.
    return number_.compare_exchange_strong(number, answer,
                                           std::memory_order_relaxed)
               ? answer
               : number;
  }

 private:
  std::atomic<T> number_{kUnknown};
};

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_REMEMBERED_H_
