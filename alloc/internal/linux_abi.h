// SPDX-License-Identifier: Apache-2.0
//
// Constants of the kernel's interface that the C library's headers may lack.
//
// Invariants:
//   1. Each value is the kernel's (include/uapi/linux/), the same on every
//      architecture that doppel builds for.
//
// Thread safety: constants.
// Errors: none; a kernel older than a constant answers EINVAL.
//
// Example:
//   memfd_create("ring", MFD_CLOEXEC | kMfdNoexecSeal);

#ifndef DOPPEL_ALLOC_INTERNAL_LINUX_ABI_H_
#define DOPPEL_ALLOC_INTERNAL_LINUX_ABI_H_

#include <sys/ioctl.h>

#include <cstdint>

namespace doppel::internal {

// memfd_create(2), Linux 6.3.
inline constexpr unsigned kMfdNoexecSeal = 0x0008U;
inline constexpr unsigned kMfdExec = 0x0010U;

// fcntl(2), F_ADD_SEALS: 5.1 and 6.3.
inline constexpr unsigned kSealFutureWrite = 0x0010U;
inline constexpr unsigned kSealExec = 0x0020U;

// madvise(2): 5.4, 5.14, 6.1.
inline constexpr int kMadvCold = 20;
inline constexpr int kMadvPageOut = 21;
inline constexpr int kMadvPopulateRead = 22;
inline constexpr int kMadvPopulateWrite = 23;
inline constexpr int kMadvCollapse = 25;

// mremap(2), 5.7.
inline constexpr int kMremapDontUnmap = 4;

// MAP_HUGE_* and MFD_HUGE_* hold log2 of the page size from this bit on.
inline constexpr unsigned kHugeShift = 26;

// ioctl PAGEMAP_SCAN on /proc/PID/pagemap, 6.7 (Documentation/admin-guide/mm/
// pagemap.rst).
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct PagemapScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t regions;
  uint64_t regions_length;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};

inline constexpr unsigned long kPagemapScan =
    _IOWR('f', 16, PagemapScanArguments);
inline constexpr uint64_t kPageIsPresent = 1 << 3;
inline constexpr uint64_t kPageIsSwapped = 1 << 4;
inline constexpr uint64_t kPageIsHuge = 1 << 6;

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_LINUX_ABI_H_
