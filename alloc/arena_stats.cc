// SPDX-License-Identifier: Apache-2.0
//
// What an arena uses: its own counters, and what the kernel says of its views.

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

using internal::sys::ReadFile;

// Reads /proc/self/smaps line by line (proc(5)): the head of a mapping has range,
// protection, offset, device, inode and name; "Rss:  12 kB" and the like follow.
class SmapsReader {
 public:
  SmapsReader(dev_t device, ino_t inode)
      : device_(absl::StrFormat("%02x:%02x", major(device), minor(device))),
        inode_(inode) {}

  void Read(absl::string_view line, Arena::Stats& stats) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 2) return;
    uint64_t number = 0;
    if (!absl::EndsWith(words[0], ":")) {
      ++stats.process_mappings;
      inside_ = words.size() > 4 && words[3] == device_ &&
                absl::SimpleAtoi(words[4], &number) && number == inode_;
      return;
    }
    if (!inside_ || !absl::SimpleAtoi(words[1], &number)) return;
    const uint64_t bytes = number << 10;
    // hugetlb pages are in no other field than their own.
    const bool hugetlb =
        words[0] == "Shared_Hugetlb:" || words[0] == "Private_Hugetlb:";
    if (hugetlb || words[0] == "Rss:") stats.resident_bytes += bytes;
    if (hugetlb || words[0] == "ShmemPmdMapped:" ||
        words[0] == "AnonHugePages:") {
      stats.huge_bytes += bytes;
    }
  }

 private:
  const std::string device_;  // As /proc writes it.
  const uint64_t inode_;
  bool inside_ = false;  // Whether the last head was a mapping of the file.
};

}  // namespace

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
  absl::StatusOr<std::string> limit = ReadFile("/proc/sys/vm/max_map_count");
  if (!limit.ok()) return limit.status();
  if (!absl::SimpleAtoi(*limit, &stats.max_mappings)) {
    return absl::InternalError("vm.max_map_count is no number");
  }
  absl::StatusOr<std::string> smaps = ReadFile("/proc/self/smaps");
  if (!smaps.ok()) return smaps.status();
  SmapsReader reader(file->st_dev, file->st_ino);
  for (const absl::string_view line :
       absl::StrSplit(*smaps, '\n', absl::SkipEmpty())) {
    reader.Read(line, stats);
  }
  return stats;
}

}  // namespace doppel
