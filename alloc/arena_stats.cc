// SPDX-License-Identifier: Apache-2.0
//
// What an arena uses: its own counters, and what the kernel says of its views.

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/smaps.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
absl::StatusOr<Arena::Stats> Arena::Query() const {
  Stats stats;
  {
    const absl::MutexLock lock(&mutex_);
    stats.file_bytes = file_bytes_;
    stats.handed_out_bytes = handed_out_bytes_;
    stats.retained_bytes = retained_.total_bytes();
    stats.free_bytes = retained_.total_bytes() + holes_.total_bytes();
    stats.extents = extents_;
  }
  stats.views = static_cast<uint64_t>(
      std::max<int64_t>(0, views_.load(std::memory_order_relaxed)));
  absl::StatusOr<struct stat> file = internal::sys::Fstat(memfd_.fd());
  if (!file.ok()) return file.status();
  // st_blocks counts 512 bytes, whatever st_blksize says (stat(2)).
  stats.allocated_bytes = static_cast<uint64_t>(file->st_blocks) * 512;
  absl::StatusOr<std::string> limit =
      internal::sys::ReadFile("/proc/sys/vm/max_map_count");
  if (!limit.ok()) return limit.status();
  if (!absl::SimpleAtoi(*limit, &stats.max_mappings)) {
    return absl::InternalError("vm.max_map_count is no number");
  }
  absl::StatusOr<internal::Smaps> smaps = internal::Smaps::Read();
  if (!smaps.ok()) return smaps.status();
  while (const std::optional<internal::Smaps::Mapping> mapping =
             smaps->Next()) {
    ++stats.process_mappings;
    if (mapping->device != file->st_dev || mapping->inode != file->st_ino) {
      continue;
    }
    stats.resident_bytes += mapping->resident_bytes;
    stats.huge_bytes += mapping->huge_bytes;
  }
  return stats;
}

}  // namespace doppel
