// SPDX-License-Identifier: Apache-2.0
//
// What really backs a range: PAGEMAP_SCAN for exact figures, smaps for the rest.

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/smaps.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/page_size.h"

namespace doppel {
namespace {

using internal::PagemapScanArguments;
using internal::PageRegion;

struct Range {
  uint64_t begin;
  uint64_t end;
};

uint64_t Overlap(const Range& a, const Range& b) {
  const uint64_t begin = std::max(a.begin, b.begin);
  const uint64_t end = std::min(a.end, b.end);
  return begin < end ? end - begin : 0;
}

absl::StatusOr<Residency> FromSmaps(const Range& range) {
  absl::StatusOr<internal::Smaps> smaps = internal::Smaps::Read();
  if (!smaps.ok()) return smaps.status();
  Residency sum;
  while (const std::optional<internal::Smaps::Mapping> mapping =
             smaps->Next()) {
    const uint64_t bytes = Overlap({mapping->begin, mapping->end}, range);
    if (bytes == 0) continue;
    sum.mapped_bytes += bytes;
    sum.resident_bytes += mapping->resident_bytes;
    sum.huge_bytes += mapping->huge_bytes;
    sum.proportional_bytes += mapping->proportional_bytes;
    sum.swapped_bytes += mapping->swapped_bytes;
  }
  return sum;
}

// How many bytes of the range have all these categories of PAGEMAP_SCAN.
absl::StatusOr<uint64_t> ScanCategory(int pagemap, const Range& range,
                                      uint64_t categories) {
  std::array<PageRegion, 64> regions = {};
  PagemapScanArguments arguments = {};
  arguments.size = sizeof(arguments);
  arguments.start = range.begin;
  arguments.end = range.end;
  arguments.regions = reinterpret_cast<uint64_t>(regions.data());
  arguments.regions_length = regions.size();
  arguments.category_mask = categories;
  arguments.return_mask = categories;
  uint64_t bytes = 0;
  while (arguments.start < range.end) {
    absl::StatusOr<int> found =
        internal::sys::Ioctl(pagemap, internal::kPagemapScan, &arguments);
    if (!found.ok()) return found.status();
    for (int i = 0; i < *found; ++i) {
      bytes += Overlap({regions[i].start, regions[i].end}, range);
    }
    // The kernel reports where it stopped: at the end, or when `regions` was full.
    if (arguments.walk_end <= arguments.start) break;
    arguments.start = arguments.walk_end;
  }
  return bytes;
}

// False where the kernel has no PAGEMAP_SCAN.
bool RefineByScan(const Range& range, Residency& residency) {
  absl::StatusOr<int> pagemap =
      internal::sys::Open("/proc/self/pagemap", O_RDONLY);
  if (!pagemap.ok()) return false;
  const absl::Cleanup closer = [&] { internal::sys::Close(*pagemap); };
  const auto scan = [&](uint64_t categories) {
    return ScanCategory(*pagemap, range, categories);
  };
  const absl::StatusOr<uint64_t> resident = scan(internal::kPageIsPresent);
  // hugetlb addresses are of the category even where no page is present.
  const absl::StatusOr<uint64_t> huge =
      scan(internal::kPageIsPresent | internal::kPageIsHuge);
  const absl::StatusOr<uint64_t> swapped = scan(internal::kPageIsSwapped);
  if (!resident.ok() || !huge.ok() || !swapped.ok()) return false;
  residency.resident_bytes = *resident;
  residency.huge_bytes = *huge;
  residency.swapped_bytes = *swapped;
  return true;
}

}  // namespace

absl::StatusOr<Residency> QueryResidency(const void* begin, size_t bytes) {
  const auto address = reinterpret_cast<uint64_t>(begin);
  if (bytes == 0) return Residency{};
  if (bytes > UINT64_MAX - address) {
    return absl::InvalidArgumentError("the range ends above the last address");
  }
  const uint64_t page_bytes = BasePageBytes();
  const Range pages = {
      address / page_bytes * page_bytes,
      (address + bytes + page_bytes - 1) / page_bytes * page_bytes};
  absl::StatusOr<Residency> residency = FromSmaps(pages);
  if (residency.ok()) RefineByScan(pages, *residency);
  return residency;
}

}  // namespace doppel
