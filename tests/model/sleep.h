// SPDX-License-Identifier: Apache-2.0
//
// How a thread of a model sleeps and is woken: the kernel's part of waiting.
//
//   ModelFutex::Wait(word, expected)   word == expected? ─ no ──▶ returns
//                                            │ yes
//                                            ▼ in the same step
//                                          sleeps ◀── Wake
//
// Comparing and falling asleep are one step here, as they are one under the lock of
// the kernel's bucket. So a thread that sleeps for ever is one whom nobody woke after
// the word was last changed, and Relacy reports the deadlock.
//
// The kernel's locks order memory too. That is left out: what the protocol does not
// order itself counts as not ordered, and fewer steps are fewer schedules. For the
// same reason this is not a mutex and a condition variable.
//
// Invariants:
//   1. Wait compares with the newest value, not with what the thread has seen.
//   2. In random searches sleepers also wake for nothing, as futex(2) allows. In
//      exhaustive ones they do not: there would be no end to it.
//   3. Whoever does not sleep yields: what others have stored reaches it in time.
//
// Thread safety: one thread; Relacy's threads are fibers of it.
// Errors: none.
//
// Example:
//   futex.Wait(word, seen);  // thread 0
//   futex.Wake();            // thread 1, after it changed the word

#ifndef DOPPEL_TESTS_MODEL_SLEEP_H_
#define DOPPEL_TESTS_MODEL_SLEEP_H_

#include "doppel/tests/model/relacy.h"
//
#include <cstddef>
#include <cstdint>

#include "doppel/tests/model/model_atomics.h"

namespace doppel::model {

// Those who sleep at one place.
template <int kThreads>
class Sleepers {
 public:
  void Sleep() {
    rl::context& c = rl::ctx();
    sleepers_.park_current(c, false, c.is_random_sched(), false, RL_INFO);
  }
  void WakeAll() { sleepers_.unpark_all(rl::ctx(), RL_INFO); }

 private:
  rl::waitset<kThreads> sleepers_;
};

// futex(2) on one word.
template <int kThreads>
class ModelFutex {
 public:
  void Wait(const ModelAtomic<uint32_t>& word, uint32_t expected) {
    // The kernel's comparison touches the word.
    SwitchPoint::Here(word.ordinal());
    if (word.Newest() != expected) {
      rl::yield(1, RL_INFO);
      return;
    }
    Execution::IsShared(ordinal_);
    sleepers_.Sleep();
  }
  void Wake() {
    SwitchPoint::Here(ordinal_);
    sleepers_.WakeAll();
  }

 private:
  Sleepers<kThreads> sleepers_;
  const size_t ordinal_ = Execution::AddWord();
};

// eventfd(2), polled and then cleared.
template <int kThreads>
class ModelEvent {
 public:
  void Wait() {
    Poll();
    set_ = false;
  }
  void Poll() {
    SwitchPoint::Here(ordinal_);
    if (set_) {
      rl::yield(1, RL_INFO);
    } else {
      sleepers_.Sleep();
    }
  }
  void Clear() {
    SwitchPoint::Here(ordinal_);
    set_ = false;
  }
  void Signal() {
    SwitchPoint::Here(ordinal_);
    set_ = true;
    sleepers_.WakeAll();
  }

 private:
  Sleepers<kThreads> sleepers_;
  const size_t ordinal_ = Execution::AddWord();
  bool set_ = false;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_SLEEP_H_
