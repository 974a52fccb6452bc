// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/event_count.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/wait_pace.h"

namespace doppel::internal {
namespace {

constexpr sys::FutexScope kScope = sys::FutexScope::kProcess;

}  // namespace

EventCount::EventCount() : owner_process_(sys::ProcessId()) {}

EventCount::~EventCount() {
  EventSeat* event = events_.load(std::memory_order_acquire);
  while (event != nullptr) {
    const std::unique_ptr<EventSeat> ended(event);
    event = ended->next;
    sys::Close(ended->fd);
  }
}

void EventCount::NotifySlow() noexcept {
  if (!word_.Advance()) return;
  if (word_.HasSleepers()) sys::FutexWake(word_.word(), kScope);
  for (EventSeat* event = events_.load(std::memory_order_acquire);
       event != nullptr; event = event->next) {
    // The parent's process has the same open file.
    if (event->flag.Take() && owner_process_ == sys::ProcessId()) {
      sys::SignalEvent(event->fd);
    }
  }
}

RingWait EventCount::Wait(Look look, const RingWaitOptions& options) {
  if (const std::optional<RingWait> found = Spin(look, options)) return *found;
  word_.Enter();
  const RingWait result = Sleep(look, options.deadline);
  word_.Leave();
  return result;
}

std::optional<RingWait> EventCount::Spin(Look look,
                                         const RingWaitOptions& options) const {
  if (const std::optional<RingWait> found = look()) return found;
  const absl::Time now = absl::Now();
  const absl::Time end = std::min(options.deadline, now + options.spin);
  if (now >= end) return std::nullopt;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      Pause();
      if (const std::optional<RingWait> found = look()) return found;
    }
  } while (absl::Now() < end);
  return std::nullopt;
}

RingWait EventCount::Sleep(Look look, absl::Time deadline) {
  WaitFences fences;
  for (;;) {
    const uint32_t seen = word_.Announce(
        [&] { fences.Fence([] { return sys::Barrier(kScope).ok(); }); });
    if (const std::optional<RingWait> found = look()) return *found;
    if (absl::Now() >= deadline) return RingWait::kDeadlineExceeded;
    sys::FutexWait(word_.word(), seen, deadline, fences.at_most(), kScope);
    // Who was woken for good needs no other fence.
    if (const std::optional<RingWait> found = look()) return *found;
  }
}

RingWait EventCount::Arm(EventSeat& event, Look look) {
  sys::ClearEvent(event.fd);
  // Who was told needs no other fence.
  std::optional<RingWait> found = look();
  if (!found.has_value()) {
    event.flag.Arm();
    bool fenced = false;
    word_.Announce([&] { fenced = sys::Barrier(kScope).ok(); });
    found = look();
    if (!found.has_value() && !fenced) {
      // What the other side stored before it could see the announcement is seen by then.
      // Who polls would not look again.
      absl::SleepFor(kBlindSleep);
      found = look();
    }
  }
  if (!found.has_value()) return RingWait::kArmed;
  event.flag.Disarm();
  return *found;
}

absl::StatusOr<EventSeat*> EventCount::EventFor(EventSeat* mine) {
  if (absl::Status fence = sys::Barrier(kScope); !fence.ok()) return fence;
  if (mine != nullptr) return mine;
  for (EventSeat* event = events_.load(std::memory_order_acquire);
       event != nullptr; event = event->next) {
    // What the holder before armed is behind what this one does.
    if (!event->taken.load(std::memory_order_relaxed) &&
        TakeSeat(event->taken)) {
      event->flag.Disarm();
      return event;
    }
  }
  const absl::StatusOr<int> fd = sys::EventFd();
  if (!fd.ok()) return fd.status();
  auto* const event = new (std::nothrow) EventSeat(*fd);
  if (event == nullptr) {
    sys::Close(*fd);
    return absl::ResourceExhaustedError("no memory for the ring's event");
  }
  event->next = events_.load(std::memory_order_relaxed);
  while (!events_.compare_exchange_weak(event->next, event,
                                        std::memory_order_release,
                                        std::memory_order_relaxed)) {
  }
  return event;
}

}  // namespace doppel::internal
