// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/spsc_storage.h"

#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/line_ownership.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_pacing.h"

namespace doppel::internal {

RingEnd SpscStorage::WriterEnd() const {
  return EndOver(mirror, item_bytes, shared->seats.writer_seat, writer_scratch,
                 owns_lines);
}

RingEnd SpscStorage::ReaderEnd() const {
  return EndOver(mirror, item_bytes, shared->seats.reader_seat, reader_scratch,
                 owns_lines);
}

RingStatistics SpscStorage::Statistics() const {
  return StatisticsOf(shared->writer, shared->reader);
}

uint64_t SpscStorage::Size() const {
  return ItemsIn(shared->writer, shared->reader, capacity_items);
}

bool SpscStorage::InOwnerProcess() const {
  return owner_process == sys::ProcessId();
}

absl::StatusOr<SpscStorage> MakeSpscStorage(const RingDemand& demand,
                                            const RingOptions& options) {
  if (absl::Status valid = CheckDemand(demand); !valid.ok()) return valid;
  const uint64_t min_bytes = demand.min_capacity_items * demand.item_bytes;

  const absl::StatusOr<std::shared_ptr<Arena>> arena =
      ArenaOrDefault(options.arena);
  if (!arena.ok()) return arena.status();

  SpscStorage storage;
  storage.owner_process = sys::ProcessId();
  const int views = demand.spans_wrap ? Mirror::kMaxViews : 1;
  absl::StatusOr<Mirror> mirror = Mirror::Create(*arena, min_bytes, views);
  if (!mirror.ok()) return mirror.status();
  storage.mirror = *std::move(mirror);

  // The extent may be larger than what was asked for: one length rules.
  const uint64_t bytes = storage.mirror.size_bytes();
  storage.item_bytes = demand.item_bytes;
  storage.capacity_items = bytes / demand.item_bytes;
  storage.owns_lines = OwnsLines(options.line_ownership);
  storage.shared.reset(new (std::nothrow) SpscShared(
      storage.capacity_items, RingPacing(demand.item_bytes, bytes, PauseNs())));
  if (storage.shared == nullptr) {
    return absl::ResourceExhaustedError("no memory for the ring's positions");
  }

  if (!demand.spans_wrap) return storage;
  for (Mirror* scratch : {&storage.writer_scratch, &storage.reader_scratch}) {
    absl::StatusOr<Mirror> made = MakeScratch(storage.mirror, *arena);
    if (!made.ok()) return made.status();
    *scratch = *std::move(made);
  }
  return storage;
}

}  // namespace doppel::internal
