// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_wake.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/shared_locks.h"
#include "doppel/containers/internal/wait_pace.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::internal {
namespace {

using Next = RingCursor<>::Next;

// The link to the other process, or -1.
int LinkOf(const RingSeat& seat) {
  return seat.link_fd == nullptr
             ? -1
             : seat.link_fd->load(std::memory_order_acquire);
}

sys::FutexScope ScopeOf(const RingSeat& seat) {
  return seat.link_fd == nullptr ? sys::FutexScope::kProcess
                                 : sys::FutexScope::kMachine;
}

// Whether the other side is another process's, or may become so.
bool IsElsewhere(const RingSeat& seat) {
  return seat.link_fd != nullptr &&
         !seat.other->held.load(std::memory_order_relaxed);
}

// Whether the two sides wake each other through the link. A side that this process
// holds has the same end of it.
bool IsLinked(const RingSeat& seat) {
  return LinkOf(seat) >= 0 && IsElsewhere(seat);
}

// The fence of who waits. Whether the other side will see the wish, and tell.
bool Fence(const RingCursor<>& cursor, const RingSeat& seat) {
  if (seat.link_fd != nullptr) {
    // Behind the load of the signal: who comes stores what it is, and then the signal.
    std::atomic_thread_fence(std::memory_order_acquire);
    const uint32_t fenced =
        cursor.theirs()->fenced.load(std::memory_order_relaxed);
    if (fenced == 0) return true;  // Nobody is there yet.
    if (fenced != kFencedHere) return false;
  }
  return sys::Barrier(ScopeOf(seat)).ok();
}

// Looks again and again. Whether `wanted` became available.
bool Spin(RingCursor<>& cursor, uint64_t wanted, absl::Time until) {
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (cursor.LookAtPace(wanted) >= wanted) return true;
      if (cursor.closed() || cursor.lied()) return false;
      Pause();
    }
  } while (absl::Now() < until);
  return false;
}

// The seat's event, made at the first call that succeeds.
absl::StatusOr<int> OwnEvent(RingSeat& seat) {
  const int event = seat.event_fd.load(std::memory_order_relaxed);
  if (event >= 0) return event;
  absl::StatusOr<int> made = sys::EventFd();
  if (made.ok()) seat.event_fd.store(*made, std::memory_order_release);
  return made;
}

// Whether a process has had the other side, and none has it any more.
bool WasLeft(const RingSeat& seat) {
  if (seat.locks == nullptr) return false;
  // Loaded first: who takes the side has it when it stores this.
  if (seat.watch->theirs()->fenced.load(std::memory_order_acquire) == 0 ||
      !IsElsewhere(seat)) {
    return false;
  }
  const absl::StatusOr<bool> held = seat.locks->IsHeldElsewhere(
      seat.watch->credit() == 0 ? SharedSide::kWriter : SharedSide::kReader);
  return held.ok() && !*held;
}

// Sleeps once on the other's signal. Whether it was woken.
bool SleepOnSignal(const RingCursor<>& cursor, const RingSeat& seat,
                   uint32_t signal, absl::Time deadline,
                   absl::Duration at_most) {
  const std::atomic<uint32_t>& word = cursor.theirs()->signal;
  sys::FutexWait(word, signal, deadline, at_most, ScopeOf(seat));
  return word.load(std::memory_order_relaxed) != signal;
}

// Sleeps once on the link. Whether it hung up.
bool SleepOnLink(const RingSeat& seat, absl::Time deadline) {
  const int link = LinkOf(seat);
  const int event = seat.event_fd.load(std::memory_order_relaxed);
  const sys::Polled polled = sys::PollWith(link, event, deadline);
  if (polled.readable) sys::ClearSocket(link);
  if (polled.told) sys::ClearEvent(event);
  return polled.hung_up;
}

// What a wait comes to that cannot get what it wanted.
RingWait EndOf(const RingCursor<>& cursor) {
  return cursor.lied() ? RingWait::kDataLoss : RingWait::kClosed;
}

// Sleeps until it is ready or over.
RingWait SleepFor(RingCursor<>& cursor, RingSeat& seat, uint64_t wanted,
                  absl::Time deadline, bool peer_gone) {
  WaitFences fences;
  for (;;) {
    const bool is_linked = IsLinked(seat);
    const WakeBy by = is_linked ? WakeBy::kEvent : WakeBy::kFutex;
    // This process may take the other side while it sleeps, and has no other way then.
    const bool may_take = is_linked && seat.other->watch != nullptr;
    const bool has_event = !may_take || OwnEvent(seat).ok();
    uint32_t signal = 0;
    const auto fence = [&] {
      fences.Fence([&] { return Fence(cursor, seat); });
    };
    switch (cursor.BeforeSleep(wanted, by, signal, fence)) {
      case Next::kGoOn:
        return RingWait::kReady;
      case Next::kEnd:
        return EndOf(cursor);
      case Next::kSleep:
        break;
    }
    // This process may have taken the other side.
    const bool is_elsewhere = IsElsewhere(seat);
    peer_gone = peer_gone && is_elsewhere;
    // Whoever ended had handed everything over before, and the look came after.
    if (peer_gone || absl::Now() >= deadline) {
      cursor.EndWait();
      return peer_gone ? RingWait::kPeerGone : RingWait::kDeadlineExceeded;
    }
    absl::Duration at_most = fences.at_most();
    if (!has_event) at_most = std::min(at_most, kBlindSleep);
    if (seat.locks != nullptr && is_elsewhere && !is_linked) {
      at_most = std::min(at_most, kUnlinkedSleep);
    }
    if (is_linked) {
      peer_gone = SleepOnLink(seat, std::min(deadline, absl::Now() + at_most));
    } else {
      const bool woken = SleepOnSignal(cursor, seat, signal, deadline, at_most);
      // Whoever wakes lives, or has ended since: the next sleep tells. So does the one
      // after a trial, if there is one.
      const bool asks = !fences.is_trial() || absl::Now() >= deadline;
      peer_gone = !woken && asks && OtherGone(seat);
    }
    // Who was woken for good needs no other fence.
    if (cursor.EndWaitIf(wanted)) return RingWait::kReady;
  }
}

}  // namespace

RingSeat::~RingSeat() {
  const int event = event_fd.load(std::memory_order_acquire);
  if (event >= 0) sys::Close(event);
}

void WakeOther(RingSeat& seat) noexcept {
  if (seat.other_waits_by != nullptr) return seat.other_waits_by->NotifySlow();
  seat.watch->ChangeSignal();
  if (seat.watch->theirs()->wake_by.load(std::memory_order_relaxed) !=
      WakeBy::kEvent) {
    sys::FutexWake(seat.watch->mine()->signal, ScopeOf(seat));
  } else if (IsLinked(seat)) {
    sys::SignalSocket(LinkOf(seat));
  } else {
    const int event = seat.other->event_fd.load(std::memory_order_acquire);
    if (event >= 0) sys::SignalEvent(event);
  }
}

void WakeAtEnd(RingSeat& seat) noexcept {
  seat.watch->ChangeSignal();
  sys::FutexWake(seat.watch->mine()->signal, ScopeOf(seat));
  if (IsLinked(seat)) sys::SignalSocket(LinkOf(seat));
  const int event = seat.other->event_fd.load(std::memory_order_acquire);
  if (event >= 0) sys::SignalEvent(event);
}

RingWaited WaitFor(RingCursor<> cursor, RingSeat& seat, uint64_t wanted,
                   const RingWaitOptions& options) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  if (cursor.AvailableFor(wanted) >= wanted) {
    return {.cursor = cursor, .result = RingWait::kReady};
  }
  bool peer_gone = false;
  absl::Time now = absl::Now();
  const absl::Time spin_end = std::min(options.deadline, now + options.spin);
  for (; now < spin_end && !peer_gone; now = absl::Now()) {
    if (Spin(cursor, wanted, std::min(spin_end, now + kSpinRound))) {
      return {.cursor = cursor, .result = RingWait::kReady};
    }
    if (cursor.closed() || cursor.lied()) break;
    // Who spins for longer than a sleep would take has time for a system call.
    if (options.spin > kSpinRound) peer_gone = OtherGone(seat);
  }
  const RingWait result =
      SleepFor(cursor, seat, wanted, options.deadline, peer_gone);
  return {.cursor = cursor, .result = result};
}

absl::StatusOr<int> EventOf(RingSeat& seat) {
  if (absl::Status fence = sys::Barrier(ScopeOf(seat)); !fence.ok()) {
    return fence;
  }
  if (IsLinked(seat)) return LinkOf(seat);
  if (IsElsewhere(seat)) {
    return absl::FailedPreconditionError(
        "the ring has no link to another process, so that nothing could be "
        "polled: attach the peer by an invitation");
  }
  return OwnEvent(seat);
}

RingArmed TryArm(RingCursor<> cursor, RingSeat& seat, uint64_t wanted) {
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  const int link = LinkOf(seat);
  const int event = seat.event_fd.load(std::memory_order_relaxed);
  ABSL_HARDENING_ASSERT((link >= 0 || event >= 0) && "ask for the event first");
  if (link >= 0) sys::ClearSocket(link);
  if (event >= 0) sys::ClearEvent(event);
  // Who was told needs no other fence.
  if (cursor.EndWaitIf(wanted)) {
    return {.waited = {.cursor = cursor, .result = RingWait::kReady}};
  }
  // Before the look, which then finds all that was handed over until the end.
  const bool peer_gone = OtherGone(seat);
  uint32_t signal = 0;
  bool fenced = false;
  const Next next = cursor.BeforeSleep(wanted, WakeBy::kEvent, signal,
                                       [&] { fenced = Fence(cursor, seat); });
  RingWait result = peer_gone ? RingWait::kPeerGone : RingWait::kArmed;
  if (next == Next::kGoOn) result = RingWait::kReady;
  if (next == Next::kEnd) result = EndOf(cursor);
  return {.waited = {.cursor = cursor, .result = result}, .sure = fenced};
}

RingWaited Arm(RingCursor<> cursor, RingSeat& seat, uint64_t wanted) {
  RingArmed armed = TryArm(cursor, seat, wanted);
  if (armed.waited.result == RingWait::kArmed && !armed.sure) {
    // What the other side stored before it could see the wish is seen by then. Who
    // polls would not look again.
    absl::SleepFor(kBlindSleep);
    armed = TryArm(armed.waited.cursor, seat, wanted);
  }
  return armed.waited;
}

bool PeerGone(const RingSeat& seat) {
  const int link = LinkOf(seat);
  return link >= 0 && sys::Poll(link, absl::InfinitePast()).hung_up;
}

bool OtherGone(const RingSeat& seat) {
  return LinkOf(seat) >= 0 ? IsLinked(seat) && PeerGone(seat) : WasLeft(seat);
}

absl::Status StatusOf(RingCursor<> cursor) {
  if (!cursor.lied()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "the other side of the ring stored a position that cannot be true: this "
      "side stands at ",
      cursor.position(), " of a ring of ", cursor.capacity(),
      " items; take what is known, and end the connection"));
}

}  // namespace doppel::internal
