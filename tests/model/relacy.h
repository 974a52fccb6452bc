// SPDX-License-Identifier: Apache-2.0
//
// Relacy, without the macros by which it takes over the standard library's names:
// the protocol under test says std::memory_order_acquire and means it.
//
// Invariants:
//   1. It comes before every other header: Relacy's fibers jump between stacks, which
//      the C library's fortified longjmp takes for an attack.
//   2. `$`, which Relacy's headers need, ends here. Those of its headers that rename
//      the functions of pthreads and of Windows stay out.
//
// Thread safety: one simulation at a time.
// Errors: none.
//
// Example:
//   rl::atomic<int> word(0);
//   word.store(1, rl::mo_release, rl::debug_info("Store", "file.h", 1));

#ifndef DOPPEL_TESTS_MODEL_RELACY_H_
#define DOPPEL_TESTS_MODEL_RELACY_H_

#include "relacy/atomic.hpp"
#include "relacy/atomic_fence.hpp"
#include "relacy/backoff.hpp"
#include "relacy/base.hpp"
#include "relacy/context.hpp"
#include "relacy/context_base_impl.hpp"
#include "relacy/dyn_thread.hpp"
#include "relacy/stdlib/condition_variable.hpp"
#include "relacy/stdlib/event.hpp"
#include "relacy/stdlib/mutex.hpp"
#include "relacy/stdlib/semaphore.hpp"
#include "relacy/test_suite.hpp"
#include "relacy/thread_local.hpp"
#include "relacy/var.hpp"
#undef $

#endif  // DOPPEL_TESTS_MODEL_RELACY_H_
