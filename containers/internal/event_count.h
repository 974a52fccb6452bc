// SPDX-License-Identifier: Apache-2.0
//
// Where threads of a process sleep until something is so, or have an event (eventfd(2))
// tell them: what the rings of many producers and of many readers wait by.
//
//   Wait ── look, spin ── announce, look ──▶ futex(2) ◀──┐
//   Arm  ──────────────── announce, look ──▶ poll(2)  ◀──┴── NotifySlow ◀── Notify
//
//   EventCount ── word      internal/event_word.h
//              ── events ──▶ EventSeat ──▶ EventSeat ──▶ ...
//
// Invariants:
//   1. Notify is a load and a branch while nobody waits, and no system call then. A wait
//      that ended by itself leaves one announcement behind: the next Notify takes it
//      back, without a system call.
//   2. The fence of who waits is membarrier(2). The first kTrialSleep of a wait go without
//      (internal/wait_pace.h): a wake may come late by what is left of them. Where it is
//      denied, each later sleep ends after kBlindSleep and the thread looks again: a wake
//      may come late by as much, and is never lost. An event is not made there.
//   3. All who wait are woken, and look again: what a look finds is the caller's matter.
//      So an event may tell before all that was asked for has come about.
//   4. An EventSeat stays where it is, with its descriptor, until the EventCount ends.
//
// Fork: a child that ends a copy of a handle tells no event of its parent's.
// Thread safety: all functions; an EventSeat belongs to who took it.
// Errors: EventFor says what eventfd(2) or membarrier(2) reported.
//
// Example:
//   EventCount items;
//   const RingWait how = items.Wait([&] { return Look(); }, options);  // one thread
//   Publish(); items.Notify();                                         // another

#ifndef DOPPEL_CONTAINERS_INTERNAL_EVENT_COUNT_H_
#define DOPPEL_CONTAINERS_INTERNAL_EVENT_COUNT_H_

#include <atomic>
#include <optional>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/event_word.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// The event of one that waits.
struct EventSeat {
  explicit EventSeat(int owned_fd) : fd(owned_fd) {}

  const int fd;
  std::atomic<bool> taken{true};
  EventFlag<> flag;
  EventSeat* next = nullptr;  // Constant once it is in the list.

  // Gives it back, to be taken by another. It may still be told what its holder asked.
  void Leave() { LeaveSeat(taken); }
};

// Alone on its line: those that go on load it after each of their stores.
class alignas(kRingLineBytes) EventCount {
 public:
  // How the wait ends; nullopt: not yet.
  using Look = absl::FunctionRef<std::optional<RingWait>()>;

  EventCount();
  ~EventCount();  // Closes the events. REQUIRES: nobody waits.
  EventCount(const EventCount&) = delete;
  EventCount& operator=(const EventCount&) = delete;

  // After each store that somebody may wait for.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Notify() noexcept {
    if (ABSL_PREDICT_FALSE(word_.Waited())) NotifySlow();
  }

  // The same, after a fence and a look of another kind have found that somebody waits.
  void NotifySlow() noexcept;

  // Looks until that ends the wait, or the deadline does.
  RingWait Wait(Look look, const RingWaitOptions& options);

  // Makes the event poll as readable once somebody has gone on; kArmed, unless the look
  // ends it at once. REQUIRES: the event is of this EventCount.
  RingWait Arm(EventSeat& event, Look look);

  // `mine`, or an event that nobody else has, which the caller may give back.
  // Fails with what eventfd(2) reports, and with what membarrier(2) does: without it a
  // wake could be lost, and who waits in poll(2) would not notice.
  absl::StatusOr<EventSeat*> EventFor(EventSeat* mine);

 private:
  std::optional<RingWait> Spin(Look look, const RingWaitOptions& options) const;
  RingWait Sleep(Look look, absl::Time deadline);

  EventWord<> word_;
  std::atomic<EventSeat*> events_{nullptr};  // A list that only grows.
  const int owner_process_;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_EVENT_COUNT_H_
