// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_demand.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace doppel::internal {
namespace {

uint64_t Now(const std::atomic<uint64_t>& word) {
  return word.load(std::memory_order_acquire);
}

}  // namespace

absl::Status CheckDemand(const RingDemand& demand) {
  if (demand.min_capacity_items == 0) {
    return absl::InvalidArgumentError(
        "a ring of capacity 0 holds nothing; ask for at least 1 item");
  }
  if (demand.min_capacity_items >
      std::numeric_limits<uint64_t>::max() / demand.item_bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("a ring of ", demand.min_capacity_items, " items of ",
                     demand.item_bytes, " bytes: the size overflows 64 bits"));
  }
  return absl::OkStatus();
}

uint64_t ItemsIn(const RingSide<>& writer, const RingSide<>& reader,
                 uint64_t capacity_items) {
  // The reader first: its position is never past the writer's later one.
  const uint64_t read = Now(reader.position);
  return std::min(Now(writer.position) - read, capacity_items);
}

RingStatistics StatisticsOf(const RingSide<>& writer,
                            const RingSide<>& reader) {
  return {
      .pushed = Now(writer.position),
      .popped = Now(reader.position),
      .push_refusals = Now(writer.refusals),
      .push_stalls = Now(writer.stalls),
      .pop_refusals = Now(reader.refusals),
      .pop_stalls = Now(reader.stalls),
      .high_water = std::max(Now(writer.high_water), Now(reader.high_water))};
}

}  // namespace doppel::internal
