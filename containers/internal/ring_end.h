// SPDX-License-Identifier: Apache-2.0
//
// What a handle of one side of a ring is made from, whichever ring it is and wherever
// its words and items are.
//
//   RingEnd ── data ──▶ the items
//           ── seat ──▶ RingSeat ◀── other ──▶ RingSeat     of this process
//                         └─ watch ─▶ RingWatch ──▶ RingSide   perhaps of another
//
// Invariants:
//   1. Of each side there is one handle at a time: it holds the seat.
//   2. What a RingEnd points to stays where it is for as long as a handle lives.
//
// Thread safety: RingSeat is shared by the threads of a process, the rest are values.
// Errors: a second handle of a side ends the process in hardened builds.
//
// Example:
//   RingWriter<int> writer(end);  // Holds its seat for its life.

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_END_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_END_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/numeric/int128.h"
#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::internal {

class EventCount;
class SharedLocks;

// One side of a ring as this process sees it. Outlives the handles.
struct RingSeat {
  RingWatch<>* watch = nullptr;
  RingSeat* other = nullptr;  // The other side's.
  // A ring between processes: the end of a socket whose other end the peer has. It
  // wakes the peer, is what to sleep on, and hangs up when the peer's process ends.
  // Null: both sides are in this process. Holds -1: there is no peer to wake so.
  const std::atomic<int>* link_fd = nullptr;
  // Where the other side sleeps that has many opposite to it (broadcast_ring.h). Null:
  // it sleeps on this side's signal, its event or its link.
  EventCount* other_waits_by = nullptr;
  // A ring between processes of which the kernel knows who has a side (shared_locks.h):
  // asked where there is no link. Null: the link alone tells.
  const SharedLocks* locks = nullptr;
  // Whether this process has a handle of the side.
  std::atomic<bool> taken{false};
  // A ring between processes: whether this process has the side, with a handle or
  // without, and so no other. Set once.
  std::atomic<bool> held{false};
  // The side may sleep on this (eventfd(2)); -1: it has none. Set once, by a handle of
  // the side, before its first wish to be woken so.
  std::atomic<int> event_fd{-1};

  // For whoever ends the ring: a handle that outlived it would store to freed memory.
  void CheckLeft() const {
    ABSL_HARDENING_ASSERT(!taken.load(std::memory_order_relaxed) &&
                          "handles end before their ring");
  }

  ~RingSeat();  // Closes the event.
};

// Both seats of a ring either side of which this process may have.
struct RingSeats {
  RingSeats(RingSide<>* writer, RingSide<>* reader, uint64_t capacity_items,
            const RingPacing& pacing)
      : writer_watch(
            RingWatch<>::Writer(writer, reader, capacity_items, pacing)),
        reader_watch(
            RingWatch<>::Reader(reader, writer, capacity_items, pacing)) {}
  RingSeats(const RingSeats&) = delete;
  RingSeats& operator=(const RingSeats&) = delete;

  void CheckLeft() const {
    writer_seat.CheckLeft();
    reader_seat.CheckLeft();
  }

  alignas(kRingLineBytes) RingWatch<> writer_watch;
  alignas(kRingLineBytes) RingWatch<> reader_watch;
  alignas(kRingLineBytes) RingSeat writer_seat{.watch = &writer_watch,
                                               .other = &reader_seat};
  alignas(kRingLineBytes) RingSeat reader_seat{.watch = &reader_watch,
                                               .other = &writer_seat};
};

struct RingEnd {
  RingSeat* seat = nullptr;
  std::byte* data = nullptr;
  std::byte* scratch = nullptr;  // Canonical build: for spans that wrap.
  uint64_t lap_bytes = 0;
  uint64_t item_bytes = 0;
  bool owns_lines = false;
};

// The end of a side whose items stand in `items`. `scratch` may hold nothing.
RingEnd EndOver(const Mirror& items, uint64_t item_bytes, RingSeat& seat,
                const Mirror& scratch, bool owns_lines);

// Taken by whoever holds nothing. Nobody loads it.
inline constinit std::atomic<bool> g_nothing_taken{false};

// Holds a seat for its life. Its end is one store, without a branch: less than a call,
// so that compilers inline it on every path, unwinding too, and in the destructors of
// whatever a handle is a member of. A handle whose address is passed to a function
// lives in memory, and all its cursors with it.
class RingClaim {
 public:
  explicit RingClaim(std::atomic<bool>& taken) : taken_(&taken) {
    [[maybe_unused]] const bool is_mine = TakeSeat(taken);
    ABSL_HARDENING_ASSERT(is_mine && "one handle of each side at a time");
  }
  RingClaim(RingClaim&& other) noexcept
      : taken_(std::exchange(other.taken_, &g_nothing_taken)) {}
  RingClaim& operator=(RingClaim&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    taken_ = std::exchange(other.taken_, &g_nothing_taken);
    return *this;
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~RingClaim() { Leave(); }

 private:
  // gcc 12 does not see that an empty std::optional<Handle> has nothing to destroy.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() { LeaveSeat(*taken_); }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

  std::atomic<bool>* taken_;
};

// Where the item of a position stands.
inline uint64_t OffsetOf(const RingEnd& end, uint64_t position) {
  const absl::uint128 bytes = absl::uint128(position) * end.item_bytes;
  return absl::Uint128Low64(bytes % end.lap_bytes);
}
inline RingPlace PlaceOf(const RingEnd& end, uint64_t position) {
  return RingPlace(end.data, end.lap_bytes, OffsetOf(end, position));
}

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_END_H_
