// SPDX-License-Identifier: Apache-2.0
//
// What every ring with one writer and one reader is asked for, and tells of itself.
//
// Invariants:
//   1. After CheckDemand the size in bytes fits 64 bits.
//   2. What is told from shared words is bounded by the ring's own capacity, whatever
//      stands in them.
//
// Thread safety: all functions.
// Errors: CheckDemand says what is wrong.
//
// Example:
//   absl::Status valid = CheckDemand({.min_capacity_items = 0, .item_bytes = 8});

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_DEMAND_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_DEMAND_H_

#include <cstdint>

#include "absl/status/status.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_options.h"

namespace doppel::internal {

struct RingDemand {
  uint64_t min_capacity_items = 0;
  uint64_t item_bytes = 1;
  bool spans_wrap = true;  // Whether items are trivially copyable.
};

// InvalidArgument for a capacity of 0, OutOfRange if the size in bytes overflows.
absl::Status CheckDemand(const RingDemand& demand);

// Items in the ring: exact while neither side goes on, else a moment's value.
uint64_t ItemsIn(const RingSide<>& writer, const RingSide<>& reader,
                 uint64_t capacity_items);

RingStatistics StatisticsOf(const RingSide<>& writer, const RingSide<>& reader);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_DEMAND_H_
