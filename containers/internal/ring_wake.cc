// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_wake.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::internal {
namespace {

// Looks again and again. Whether `wanted` became available.
bool Spin(RingCursor<>& cursor, uint64_t wanted, absl::Time until) {
  constexpr int kLooksPerClock = 32;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (cursor.AvailableFor(wanted) >= wanted) return true;
      if (cursor.closed() || cursor.lied()) return false;
      Pause();
    }
  } while (absl::Now() < until);
  return false;
}

// Sleeps once, on whatever the seat has. Whether the other process has ended.
bool Sleep(const RingCursor<>& cursor, const RingSeat& seat, uint32_t signal,
           absl::Time deadline) {
  if (seat.hangup_fd < 0) {
    sys::FutexWait(cursor.theirs()->signal, signal, deadline, seat.scope);
    return false;
  }
  const std::array<int, 2> fds = {seat.event_fd.load(std::memory_order_relaxed),
                                  seat.hangup_fd};
  const absl::StatusOr<uint32_t> ready = sys::Poll(fds, deadline);
  if (!ready.ok()) return false;
  if ((*ready & 1) != 0) sys::ClearEvent(fds[0]);
  return (*ready & 2) != 0;
}

// What a wait comes to that got fewer than it wanted.
RingWait EndOf(const RingCursor<>& cursor) {
  return cursor.lied() ? RingWait::kDataLoss : RingWait::kClosed;
}

}  // namespace

void WakeOther(RingCursor<> cursor, const RingSeat* their_seat) noexcept {
  cursor.ChangeSignal();
  const int event = their_seat->event_fd.load(std::memory_order_acquire);
  const WakeBy by = cursor.theirs()->wake_by.load(std::memory_order_relaxed);
  if (by == WakeBy::kEvent && event >= 0) {
    sys::SignalEvent(event);
  } else {
    sys::FutexWake(cursor.mine()->signal, their_seat->scope);
  }
}

void WakeAtEnd(RingCursor<> cursor, const RingSeat* their_seat) noexcept {
  cursor.ChangeSignal();
  sys::FutexWake(cursor.mine()->signal, their_seat->scope);
  const int event = their_seat->event_fd.load(std::memory_order_acquire);
  if (event >= 0) sys::SignalEvent(event);
}

RingWaited WaitFor(RingCursor<> cursor, RingSeat* my_seat, uint64_t wanted,
                   const RingWaitOptions& options) {
  const auto ended = [&](RingWait result) {
    return RingWaited{.cursor = cursor, .result = result};
  };
  ABSL_HARDENING_ASSERT(wanted <= cursor.capacity());
  if (cursor.AvailableFor(wanted) >= wanted) return ended(RingWait::kReady);
  const absl::Time now = absl::Now();
  if (Spin(cursor, wanted, std::min(options.deadline, now + options.spin))) {
    return ended(RingWait::kReady);
  }
  const WakeBy by = my_seat->hangup_fd < 0 ? WakeBy::kFutex : WakeBy::kEvent;
  bool peer_gone = false;
  for (;;) {
    uint32_t signal = 0;
    bool blind = false;
    using Next = RingCursor<>::Next;
    switch (cursor.BeforeSleep(wanted, by, signal, [&] {
      blind = !sys::Barrier(my_seat->scope).ok();
    })) {
      case Next::kGoOn:
        return ended(RingWait::kReady);
      case Next::kEnd:
        return ended(EndOf(cursor));
      case Next::kSleep:
        break;
    }
    // Whoever ended had handed everything over before, and the look came after.
    if (peer_gone || absl::Now() >= options.deadline) {
      cursor.EndWait();
      return ended(peer_gone ? RingWait::kPeerGone
                             : RingWait::kDeadlineExceeded);
    }
    const absl::Time at_most =
        blind ? absl::Now() + kBlindSleep : absl::InfiniteFuture();
    peer_gone =
        Sleep(cursor, *my_seat, signal, std::min(options.deadline, at_most));
  }
}

absl::Status StatusOf(const RingCursor<>& cursor) {
  if (!cursor.lied()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "the other side of the ring stored a position that cannot be true: this "
      "side stands at ",
      cursor.position(), " of a ring of ", cursor.capacity(),
      " items; take what is known, and end the connection"));
}

absl::StatusOr<int> EventOf(RingSeat* seat) {
  if (absl::Status fence = sys::Barrier(seat->scope); !fence.ok()) return fence;
  int event = seat->event_fd.load(std::memory_order_relaxed);
  if (event >= 0) return event;
  absl::StatusOr<int> created = sys::EventFd();
  if (!created.ok()) return created.status();
  seat->event_fd.store(*created, std::memory_order_release);
  return *created;
}

RingArmed Arm(RingCursor<> cursor, RingSeat* my_seat, uint64_t wanted) {
  const int event = my_seat->event_fd.load(std::memory_order_relaxed);
  ABSL_HARDENING_ASSERT(event >= 0 && "ask for the event first");
  sys::ClearEvent(event);
  uint32_t signal = 0;
  const RingCursor<>::Next next =
      cursor.BeforeSleep(wanted, WakeBy::kEvent, signal,
                         [&] { sys::Barrier(my_seat->scope).IgnoreError(); });
  return {.cursor = cursor, .armed = next == RingCursor<>::Next::kSleep};
}

}  // namespace doppel::internal
