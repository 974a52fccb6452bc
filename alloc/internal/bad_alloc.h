// SPDX-License-Identifier: Apache-2.0
//
// A heap without memory, where something must go on nevertheless: in destructors, and
// between what the kernel did and its record.
//
// Invariants:
//   1. Nothing here allocates.
//
// Thread safety: all functions.
// Errors: ResourceExhausted without a message, which would take memory.
//
// Example:
//   absl::Status s = CatchBadAlloc([&] { return memfd.PunchHole(offset, bytes); });

#ifndef DOPPEL_ALLOC_INTERNAL_BAD_ALLOC_H_
#define DOPPEL_ALLOC_INTERNAL_BAD_ALLOC_H_

#include <new>

#include "absl/status/status.h"

namespace doppel::internal {

inline absl::Status HeapExhausted() {
  return absl::Status(absl::StatusCode::kResourceExhausted, "");
}

// The status that `function` returns; HeapExhausted() if it throws std::bad_alloc,
// as a system call that fails does where its error's message finds no memory.
template <class Function>
absl::Status CatchBadAlloc(Function function) noexcept {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return HeapExhausted();
  }
}

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_BAD_ALLOC_H_
