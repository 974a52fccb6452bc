// SPDX-License-Identifier: Apache-2.0
//
// Threads that sleep by the library's EventWord until something is so, and threads that
// make it so.
//
//   waiters     look · Enter · Announce · fence · look · sleep ...
//   notifiers   store · Waited · Advance · wake, tell ...
//
// A wake-up that is lost is a thread that sleeps when all others have ended: a deadlock,
// and Relacy reports it.
//
// Invariants:
//   1. ModelEventCount does what EventCount does, call by call (event_count.cc).
//   2. Each waiter sees in the end all that was stored.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<EventModel<{.notifiers = 2}>>();

#ifndef DOPPEL_TESTS_MODEL_EVENT_MODEL_H_
#define DOPPEL_TESTS_MODEL_EVENT_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <cstdint>

#include "doppel/containers/internal/event_word.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/search.h"
#include "doppel/tests/model/sleep.h"

namespace doppel::model {

// What somebody might get wrong.
enum class EventFault : uint8_t {
  kNone,
  kLooksBefore,     // Looks, and then announces that it will sleep.
  kDoesNotAdvance,  // Wakes, and leaves the word as it is.
  kEntersLate,      // Counts as a sleeper after the fence.
  kArmsLate,        // Arms its event after the fence.
};

template <int kThreads, EventFault kFault = EventFault::kNone>
class ModelEventCount {
 public:
  // Of one thread that is told by it.
  struct Event {
    ::doppel::internal::EventFlag<ModelAtomics> flag;
    ModelEvent<kThreads> event;
  };

  void Notify() {
    if (word_.Waited()) NotifySlow();
  }

  void NotifySlow() {
    if (kFault != EventFault::kDoesNotAdvance && !word_.Advance()) return;
    if (word_.HasSleepers()) futex_.Wake();
    for (Event& event : events_) {
      if (event.flag.Take()) event.event.Signal();
    }
  }

  // Until look() is true.
  template <class Look>
  void Wait(Look look) {
    if (look()) return;
    if (kFault != EventFault::kEntersLate) word_.Enter();
    for (;;) {
      if (kFault == EventFault::kLooksBefore && look()) break;
      const uint32_t seen = word_.Announce([] { HeavyFence(); });
      if (kFault == EventFault::kEntersLate) word_.Enter();
      if (kFault != EventFault::kLooksBefore && look()) break;
      futex_.Wait(word_.word(), seen);
      if (look()) break;
    }
    word_.Leave();
  }

  // The same by the event of this number, told by poll(2).
  template <class Look>
  void WaitByEvent(int number, Look look) {
    Event& event = events_[number];
    for (;;) {
      event.event.Clear();
      if (look()) break;
      if (kFault != EventFault::kArmsLate) event.flag.Arm();
      word_.Announce([] { HeavyFence(); });
      if (kFault == EventFault::kArmsLate) event.flag.Arm();
      if (look()) break;
      event.event.Poll();
    }
    event.flag.Disarm();
  }

  // A wait that ends at its deadline: what it found, fenced or not, is of no matter.
  void GiveUp() {
    word_.Enter();
    word_.Announce([] {});
    word_.Leave();
  }

 private:
  ::doppel::internal::EventWord<ModelAtomics> word_;
  ModelFutex<kThreads> futex_;
  std::array<Event, 2> events_;
};

struct EventPlan {
  int notifiers = 1;
  int waiters = 1;
  uint64_t stores = 1;    // Of each notifier.
  bool each = false;      // Waits for each store, and not for the last only.
  bool events = false;    // Waiters have events, except the last of several.
  bool gives_up = false;  // Each waiter has given up a wait before.
  EventFault fault = EventFault::kNone;
};

template <EventPlan kPlan>
struct EventModel : Model<EventModel<kPlan>, kPlan.notifiers + kPlan.waiters> {
  static constexpr int kThreads = kPlan.notifiers + kPlan.waiters;
  static constexpr uint64_t kAll = kPlan.notifiers * kPlan.stores;

  void thread(unsigned index) {
    if (index < kPlan.notifiers) {
      for (uint64_t i = 1; i <= kPlan.stores; ++i) {
        stored[index].store(i, std::memory_order_relaxed);
        count.Notify();
      }
    } else {
      Wait(static_cast<int>(index) - kPlan.notifiers);
    }
  }

  void Wait(int waiter) {
    if (kPlan.gives_up) count.GiveUp();
    for (uint64_t wanted = kPlan.each ? 1 : kAll; wanted <= kAll; ++wanted) {
      const auto look = [this, wanted] { return Sum() >= wanted; };
      if (kPlan.events && (kPlan.waiters == 1 || waiter < kPlan.waiters - 1)) {
        count.WaitByEvent(waiter, look);
      } else {
        count.Wait(look);
      }
    }
    RL_ASSERT(Sum() == kAll);
  }

  uint64_t Sum() const {
    uint64_t sum = 0;
    for (const ModelAtomic<uint64_t>& one : stored) {
      sum += one.load(std::memory_order_relaxed);
    }
    return sum;
  }

  std::array<ModelAtomic<uint64_t>, kPlan.notifiers> stored;
  ModelEventCount<kThreads, kPlan.fault> count;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_EVENT_MODEL_H_
