// SPDX-License-Identifier: Apache-2.0
//
// What a ring with one writer and many readers holds, whatever its items are: the
// memory, the shared words, and a seat for each reader.
//
//   BroadcastStorage ── mirror ──▶ items, shown twice (once: internal/ring_place.h)
//                    ── writer, oldest         the writer's words
//                    ── sides ──▶ RingSide │ RingSide │ ...   a seat's words each
//                    ── seats ──▶ BroadcastSeat │ ...         who holds it, cold
//                    ── items, room            where readers wait, and the writer
//
// Invariants:
//   1. capacity_items * end.item_bytes <= end.lap_bytes <= mirror.size_bytes().
//   2. The words stand on no page that holds items, and each position alone on a line.
//   3. A seat's words have the holder of the seat for their one owner.
//   4. Stays where it is: handles point to it.
//   5. After each store of the writer's position or end `items` is notified. `room` is
//      where the writer with a wish is woken (internal/broadcast_protocol.h).
//
// Thread safety: TakeSeat, statistics and constants from any thread; the words are
//   guarded by their protocols.
// Errors: MakeBroadcastStorage and TakeSeat say what failed, and hold nothing then.
//
// Example:
//   auto storage = MakeBroadcastStorage(
//       {.min_capacity_items = 100, .item_bytes = 8}, OnFull::kRefuse, nullptr, 16);
//   absl::StatusOr<BroadcastSeat*> seat = (*storage)->TakeSeat();

#ifndef DOPPEL_CONTAINERS_INTERNAL_BROADCAST_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_BROADCAST_STORAGE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::internal {

inline constexpr uint32_t kMaxBroadcastReaders = 4096;

// So many times a lap a writer that overwrites takes the next slots.
inline constexpr uint64_t kOverwriteLeads = 16;

// What a writer does that finds no room.
enum class OnFull : uint8_t { kRefuse, kOverwrite };

// What belongs to the reader that holds a seat, besides its words.
struct alignas(kRingLineBytes) BroadcastSeat {
  std::atomic<bool> taken{false};
  RingSide<>* side = nullptr;  // Constant, as the next two are.
  const RingSide<>* writer = nullptr;
  EventCount* room = nullptr;
  OverwriteCounts<> counts;
  // The rest is the holder's own.
  RingSeat ring_seat;
  std::optional<RingWatch<>> watch;
  std::optional<OverwriteReaderWatch<>> overwrite_watch;
  EventCount* items = nullptr;  // Constant.
  EventSeat* event = nullptr;   // Of `items`; null: nobody asked for it yet.
  Mirror scratch;  // Canonical build: where a span that wraps is put together.
};

// A reader's hold of its seat.
class BroadcastHold {
 public:
  explicit BroadcastHold(BroadcastSeat* seat) : seat_(seat) {}
  BroadcastHold(BroadcastHold&& other) noexcept
      : seat_(std::exchange(other.seat_, nullptr)) {}
  BroadcastHold& operator=(BroadcastHold&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    seat_ = std::exchange(other.seat_, nullptr);
    return *this;
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~BroadcastHold() { Leave(); }

  BroadcastSeat& seat() const { return *seat_; }

 private:
  // Inlined on every path, as RingClaim's: the handle must not live in memory.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() { LeaveSeat(seat_); }

  // Does nothing for null.
  static void LeaveSeat(BroadcastSeat* seat) noexcept;

  BroadcastSeat* seat_;  // Null: moved from.
};

struct BroadcastStorage {
  BroadcastStorage() = default;
  // In hardened builds, checks that no handle lives.
  ~BroadcastStorage();
  BroadcastStorage(const BroadcastStorage&) = delete;
  BroadcastStorage& operator=(const BroadcastStorage&) = delete;

  // Constants.
  std::shared_ptr<Arena> arena;
  Mirror mirror;
  Mirror writer_scratch;  // Canonical build: for the writer's spans that wrap.
  uint64_t capacity_items = 0;
  RingEnd end;  // The writer's; a reader's has a seat and a scratch of its own.
  int owner_process = 0;
  uint32_t max_readers = 0;
  std::unique_ptr<RingSide<>[]> sides;
  std::unique_ptr<BroadcastSeat[]> seats;

  RingSide<> writer;
  OverwriteWords<> overwrite_words;
  alignas(kRingLineBytes) RingSeat writer_seat;
  // The writer's; one of the two, by what it does when it finds no room.
  std::optional<BroadcastWatch<>> watch;
  std::optional<OverwriteWriterWatch<>> overwrite_watch;
  EventSeat* writer_event =
      nullptr;  // Of `room`; null: nobody asked for it yet.

  EventCount items;
  EventCount room;

  // A seat for one more reader. ResourceExhausted if all are taken.
  absl::StatusOr<BroadcastSeat*> TakeSeat();

  // A seat whose reader has joined, and what its RingReader is made from.
  // Fails as TakeSeat does; in the canonical build with what Mirror::Create says, too.
  absl::StatusOr<std::pair<BroadcastHold, RingEnd>> Join();

  // A seat whose reader's overwrite_watch is made.
  absl::StatusOr<BroadcastSeat*> JoinOverwritten();

  // Items that the slowest reader has not handed back.
  uint64_t Size() const;

  uint32_t Readers() const;

  std::span<const RingSide<>> all_sides() const {
    return {sides.get(), max_readers};
  }
  std::span<const BroadcastSeat> all_seats() const {
    return {seats.get(), max_readers};
  }
};

// Fails with InvalidArgument for a capacity of 0 or a number of readers that is 0 or
// above kMaxBroadcastReaders, OutOfRange if the size in bytes overflows, and as
// Mirror::Create does. `arena` may be null: Arena::Default().
absl::StatusOr<std::unique_ptr<BroadcastStorage>> MakeBroadcastStorage(
    const RingDemand& demand, OnFull on_full, std::shared_ptr<Arena> arena,
    uint32_t max_readers);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_BROADCAST_STORAGE_H_
