// SPDX-License-Identifier: Apache-2.0
//
// One turn of a loop that waits for another core.
//
// Invariants:
//   1. The processor is told that it waits (x86 PAUSE, Arm ISB): it issues no loads
//      ahead that it would have to throw away when the awaited store arrives.
//   2. A turn takes 5 to 70 ns, depending on the processor; PauseNs() says.
//
// Thread safety: any thread.
// Errors: none.
//
// Example:
//   while (!ready.load(std::memory_order_acquire)) Pause();

#ifndef DOPPEL_CONTAINERS_INTERNAL_PAUSE_H_
#define DOPPEL_CONTAINERS_INTERNAL_PAUSE_H_

namespace doppel::internal {

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// Nanoseconds of a turn on this processor. Takes about 10 us.
double MeasurePauseNs();

// The same, measured once a process.
double PauseNs();

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_PAUSE_H_
