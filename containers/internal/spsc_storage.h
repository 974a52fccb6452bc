// SPDX-License-Identifier: Apache-2.0
//
// What a ring within one process holds, whatever its items are: the memory, the shared
// words, and the numbers that follow from the item's size.
//
//   SpscStorage ── mirror ──▶ items, shown twice (once: internal/ring_place.h)
//               ── shared ──▶ RingSide │ RingSide, RingWatch and RingSeat of each
//
// Invariants:
//   1. capacity_items * item_bytes <= mirror.size_bytes().
//   2. The words stand on no page that holds items.
//
// Thread safety: a value type; the memory is guarded by the protocol.
// Errors: MakeSpscStorage says what failed, and holds nothing then.
//
// Example:
//   absl::StatusOr<SpscStorage> storage = MakeSpscStorage(
//       {.min_capacity_items = 100, .item_bytes = 8, .spans_wrap = true}, {});

#ifndef DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_options.h"

namespace doppel::internal {

// What both threads' handles point to.
struct SpscShared {
  SpscShared(uint64_t capacity_items, const RingPacing& pacing)
      : seats(&writer, &reader, capacity_items, pacing) {}

  RingSide<> writer;
  RingSide<> reader;
  RingSeats seats;
};

struct SpscStorage {
  Mirror mirror;
  std::unique_ptr<SpscShared> shared;  // On the heap: handles point to it.
  int owner_process = 0;
  uint64_t capacity_items = 0;
  uint64_t item_bytes = 0;
  bool owns_lines = false;  // What kAuto became.
  // Canonical build, trivially copyable items: where a span that wraps is put
  // together, a buffer each side.
  Mirror writer_scratch;
  Mirror reader_scratch;

  RingEnd WriterEnd() const;
  RingEnd ReaderEnd() const;
  RingStatistics Statistics() const;

  // Items in the ring: exact while neither handle is in use, else a moment's value.
  uint64_t Size() const;

  // Whether this process made the ring (fork(2)).
  bool InOwnerProcess() const;
};

// Fails with InvalidArgument for a capacity of 0, OutOfRange if the size in bytes
// overflows, and as Mirror::Create does.
absl::StatusOr<SpscStorage> MakeSpscStorage(const RingDemand& demand,
                                            const RingOptions& options);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_
