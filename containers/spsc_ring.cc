// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/spsc_ring.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/spsc_pacing.h"
#include "doppel/containers/internal/spsc_shared.h"
#include "doppel/containers/internal/spsc_storage.h"

namespace doppel::internal {
namespace {

// What /sys says, as "2048K"; 0 if it says nothing.
uint64_t CacheBytesOfSys() {
  const absl::StatusOr<std::string> size =
      sys::ReadFile("/sys/devices/system/cpu/cpu0/cache/index2/size");
  if (!size.ok()) return 0;
  absl::string_view digits = absl::StripSuffix(*size, "\n");
  const bool kibibytes = absl::ConsumeSuffix(&digits, "K");
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number)) return 0;
  return kibibytes ? number << 10 : number;
}

bool OwnsLines(LineOwnership asked, uint64_t footprint_bytes) {
  switch (asked) {
    case LineOwnership::kOn:
      return true;
    case LineOwnership::kOff:
      return false;
    case LineOwnership::kAuto:
      break;
  }
  return footprint_bytes <= CacheBytes();
}

}  // namespace

bool InOwnerProcess(const SpscStorage& storage) {
  return storage.owner_process == sys::ProcessId();
}

uint64_t CacheBytes() {
  static const uint64_t bytes = [] {
    const uint64_t of_libc = sys::Level2CacheBytes();
    if (of_libc > 0) return of_libc;
    const uint64_t of_sys = CacheBytesOfSys();
    return of_sys > 0 ? of_sys : kUnknownCacheBytes;
  }();
  return bytes;
}

absl::StatusOr<SpscStorage> MakeSpscStorage(const SpscDemand& demand,
                                            const SpscRingOptions& options) {
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
  const uint64_t min_bytes = demand.min_capacity_items * demand.item_bytes;

  std::shared_ptr<Arena> arena = options.arena;
  if (arena == nullptr) {
    absl::StatusOr<std::shared_ptr<Arena>> shared_arena = Arena::Default();
    if (!shared_arena.ok()) return shared_arena.status();
    arena = *std::move(shared_arena);
  }

  SpscStorage storage;
  storage.owner_process = sys::ProcessId();
  storage.shared.reset(new (std::nothrow) SpscShared);
  if (storage.shared == nullptr) {
    return absl::ResourceExhaustedError("no memory for the ring's positions");
  }
  const int views = demand.spans_wrap ? Mirror::kMaxViews : 1;
  absl::StatusOr<Mirror> mirror = Mirror::Create(arena, min_bytes, views);
  if (!mirror.ok()) return mirror.status();
  storage.mirror = *std::move(mirror);

  // The extent may be larger than what was asked for: one length rules.
  const uint64_t bytes = storage.mirror.size_bytes();
  storage.capacity_items = bytes / demand.item_bytes;
  storage.lap_bytes =
      views == 2 ? bytes : storage.capacity_items * demand.item_bytes;
  storage.owns_lines = OwnsLines(options.line_ownership, bytes);
  static const double pause_ns = MeasurePauseNs();
  storage.pacing = SpscPacing(demand.item_bytes, pause_ns);

  if (demand.spans_wrap && views == 1) {
    absl::StatusOr<Mirror> for_writer = Mirror::Create(arena, bytes, 1);
    if (!for_writer.ok()) return for_writer.status();
    absl::StatusOr<Mirror> for_reader = Mirror::Create(arena, bytes, 1);
    if (!for_reader.ok()) return for_reader.status();
    storage.writer_scratch = *std::move(for_writer);
    storage.reader_scratch = *std::move(for_reader);
  }
  return storage;
}

}  // namespace doppel::internal
