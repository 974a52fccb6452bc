// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/broadcast_storage.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_pacing.h"

namespace doppel::internal {
namespace {

absl::Status CheckReaders(uint32_t max_readers) {
  if (1 <= max_readers && max_readers <= kMaxBroadcastReaders) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("max_readers is ", max_readers,
                                                 "; it must be from 1 to ",
                                                 kMaxBroadcastReaders));
}

RingPacing PacingOf(const BroadcastStorage& storage) {
  return RingPacing(storage.end.item_bytes, storage.end.lap_bytes, PauseNs());
}

// Null if there is no memory.
std::unique_ptr<BroadcastStorage> MakeWords(uint32_t max_readers) {
  std::unique_ptr<BroadcastStorage> storage(new (std::nothrow)
                                                BroadcastStorage);
  if (storage == nullptr) return nullptr;
  storage->sides.reset(new (std::nothrow) RingSide<>[max_readers]);
  storage->seats.reset(new (std::nothrow) BroadcastSeat[max_readers]);
  if (storage->sides == nullptr || storage->seats == nullptr) return nullptr;
  storage->owner_process = sys::ProcessId();
  storage->max_readers = max_readers;
  for (uint32_t i = 0; i < max_readers; ++i) {
    storage->seats[i].side = &storage->sides[i];
    storage->seats[i].writer = &storage->writer;
    storage->seats[i].room = &storage->room;
    storage->seats[i].items = &storage->items;
    LeaveBroadcast(storage->sides[i]);
  }
  return storage;
}

}  // namespace

void BroadcastHold::LeaveSeat(BroadcastSeat* seat) noexcept {
  if (seat == nullptr) return;
  LeaveBroadcast(*seat->side);
  if (WriterWaits(*seat->writer)) seat->room->NotifySlow();
  // Last: nobody holds the ring for this handle any more.
  internal::LeaveSeat(seat->taken);
}

BroadcastStorage::~BroadcastStorage() {
  // In a forked child the handles of other threads are copies that nobody ends.
  if (owner_process != sys::ProcessId()) return;
  ABSL_HARDENING_ASSERT(!writer_seat.taken.load(std::memory_order_acquire) &&
                        "the Writer outlives its ring");
  ABSL_HARDENING_ASSERT(Readers() == 0 && "a Reader outlives its ring");
}

absl::StatusOr<BroadcastSeat*> BroadcastStorage::TakeSeat() {
  for (uint32_t i = 0; i < max_readers; ++i) {
    // The holder before has left its statistics and its scratch.
    if (!seats[i].taken.load(std::memory_order_relaxed) &&
        internal::TakeSeat(seats[i].taken)) {
      if (seats[i].event != nullptr) seats[i].event->flag.Disarm();
      return &seats[i];
    }
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "the ring has its ", max_readers,
      " readers; end one, or make the ring with a larger max_readers"));
}

absl::StatusOr<std::pair<BroadcastHold, RingEnd>> BroadcastStorage::Join() {
  absl::StatusOr<BroadcastSeat*> taken = TakeSeat();
  if (!taken.ok()) return taken.status();
  BroadcastSeat* seat = *taken;
  BroadcastHold hold(seat);
  if (seat->scratch.size_bytes() == 0) {
    absl::StatusOr<Mirror> scratch = MakeScratch(mirror, arena);
    if (!scratch.ok()) return scratch.status();
    seat->scratch = *std::move(scratch);
  }
  seat->watch.emplace(RingWatch<>::Reader(seat->side, &writer, capacity_items,
                                          PacingOf(*this)));
  seat->ring_seat.watch = &*seat->watch;
  seat->ring_seat.other = &writer_seat;
  seat->ring_seat.other_waits_by = &room;
  JoinBroadcast(*seat->side, writer);
  // It may have seen this one at a position far behind, for a moment.
  if (WriterWaits(writer)) room.NotifySlow();
  // The lines are the other readers', too.
  return std::make_pair(std::move(hold),
                        EndOver(mirror, end.item_bytes, seat->ring_seat,
                                seat->scratch, /*owns_lines=*/false));
}

absl::StatusOr<BroadcastSeat*> BroadcastStorage::JoinOverwritten() {
  absl::StatusOr<BroadcastSeat*> seat = TakeSeat();
  if (!seat.ok()) return seat.status();
  (*seat)->overwrite_watch.emplace((*seat)->side, &(*seat)->counts, &writer,
                                   &overwrite_words, capacity_items,
                                   PacingOf(*this));
  return *seat;
}

uint64_t BroadcastStorage::Size() const {
  // The readers first: none is past the writer's later position.
  uint64_t slowest = kNoReader;
  for (const RingSide<>& side : all_sides()) {
    slowest = std::min(slowest, side.position.load(std::memory_order_acquire));
  }
  if (slowest == kNoReader) return 0;
  return std::min(writer.position.load(std::memory_order_acquire) - slowest,
                  capacity_items);
}

uint32_t BroadcastStorage::Readers() const {
  return static_cast<uint32_t>(
      std::ranges::count_if(all_seats(), [](const BroadcastSeat& seat) {
        return seat.taken.load(std::memory_order_acquire);
      }));
}

absl::StatusOr<std::unique_ptr<BroadcastStorage>> MakeBroadcastStorage(
    const RingDemand& demand, OnFull on_full, std::shared_ptr<Arena> arena,
    uint32_t max_readers) {
  if (absl::Status valid = CheckDemand(demand); !valid.ok()) return valid;
  if (absl::Status valid = CheckReaders(max_readers); !valid.ok()) {
    return valid;
  }
  absl::StatusOr<std::shared_ptr<Arena>> found =
      ArenaOrDefault(std::move(arena));
  if (!found.ok()) return found.status();
  arena = *std::move(found);
  std::unique_ptr<BroadcastStorage> storage = MakeWords(max_readers);
  if (storage == nullptr) {
    return absl::ResourceExhaustedError("no memory for the ring's positions");
  }
  storage->arena = std::move(arena);
  absl::StatusOr<Mirror> mirror = Mirror::Create(
      storage->arena, demand.min_capacity_items * demand.item_bytes,
      Mirror::kMaxViews);
  if (!mirror.ok()) return mirror.status();
  storage->mirror = *std::move(mirror);
  if (on_full == OnFull::kRefuse) {
    absl::StatusOr<Mirror> scratch =
        MakeScratch(storage->mirror, storage->arena);
    if (!scratch.ok()) return scratch.status();
    storage->writer_scratch = *std::move(scratch);
  }
  // The extent may be larger than what was asked for: one length rules.
  storage->capacity_items = storage->mirror.size_bytes() / demand.item_bytes;
  storage->end =
      EndOver(storage->mirror, demand.item_bytes, storage->writer_seat,
              storage->writer_scratch, /*owns_lines=*/false);
  if (on_full == OnFull::kOverwrite) {
    storage->overwrite_watch.emplace(
        &storage->writer, &storage->overwrite_words, storage->capacity_items,
        std::max<uint64_t>(1, storage->capacity_items / kOverwriteLeads));
    return storage;
  }
  storage->watch.emplace(&storage->writer, storage->all_sides(),
                         storage->capacity_items, PacingOf(*storage));
  return storage;
}

}  // namespace doppel::internal
