// SPDX-License-Identifier: Apache-2.0
//
// How what one thread has is handed to the next that takes it, and how the end of a side
// is told: of rings within a process, and no positions.
//
//   TakeSeat ── uses what belongs to the seat ── LeaveSeat ──▶ TakeSeat, of another
//   last store of a position ── Close ──▶ closed(), then a look: nothing is missed
//
// Invariants:
//   1. Of a seat's holders each has all that the one before has stored to what belongs
//      to it, and its loads are over.
//   2. Who has asked for the end, was told yes, and looks after that, finds all that was
//      handed over before the end.
//
// The atomic type is a parameter, so that the same code runs under a model checker.
//
// Thread safety: all functions.
// Errors: none.
//
// Example:
//   if (TakeSeat(taken)) { Use(scratch); LeaveSeat(taken); }

#ifndef DOPPEL_CONTAINERS_INTERNAL_ENDS_PROTOCOL_H_
#define DOPPEL_CONTAINERS_INTERNAL_ENDS_PROTOCOL_H_

#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// Whether the caller has the seat now; false if somebody has it. Flag: an atomic bool.
template <class Flag>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool TakeSeat(Flag& taken) {
  return !taken.exchange(true, std::memory_order_acquire);
}

template <class Flag>
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void LeaveSeat(Flag& taken) {
  taken.store(false, std::memory_order_release);
}

// Whether the one that has a side takes, or hands over, no more.
template <class Atomics = StdAtomics>
class EndWord {
 public:
  // A handle before may have closed.
  void Open() { word_.store(0, std::memory_order_relaxed); }
  // After what was handed over last.
  void Close() { word_.store(1, std::memory_order_release); }
  // To be asked before the look.
  bool closed() const { return word_.load(std::memory_order_acquire) != 0; }

 private:
  typename Atomics::template Atomic<uint32_t> word_{0};
};

// Which producers may still send: the end is when the last that has not closed does so, or
// goes, and one has closed at all. Producers that only come and go end nothing.
template <class Atomics = StdAtomics>
class MpscSenders {
 public:
  void Open() { word_.fetch_add(kOne, std::memory_order_relaxed); }
  // Of one that has not closed.
  void Close() {
    word_.fetch_or(kClosed, std::memory_order_relaxed);
    Go();
  }
  // Likewise. Whether this is the end.
  bool Go() {
    return word_.fetch_sub(kOne, std::memory_order_release) - kOne == kClosed;
  }
  // After this all that was committed before the end is seen.
  bool ended() const {
    return word_.load(std::memory_order_acquire) == kClosed;
  }

 private:
  static constexpr uint64_t kClosed = 1;  // One has closed.
  static constexpr uint64_t kOne = 2;     // A producer that has not.
  typename Atomics::template Atomic<uint64_t> word_{0};
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_ENDS_PROTOCOL_H_
