// SPDX-License-Identifier: Apache-2.0
//
// Whether the machine has free hugetlb pages for a test.
//
// Invariants:
//   1. Nothing here changes a pool: tests/run reserves one where it may.
//   2. What is free stays free for the process that has asked: others that ask wait
//      until it has ended.
//
// Thread safety: reads and locks what is in /sys only.
// Errors: a machine without the size has no free pages of it.
//
// Example:
//   if (FreeHugetlbPages(2 << 20) < 4) GTEST_SKIP() << kNoHugetlbPool;

#ifndef DOPPEL_TESTS_SUPPORT_HUGETLB_H_
#define DOPPEL_TESTS_SUPPORT_HUGETLB_H_

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstdint>

#include "doppel/alloc/page_size.h"

namespace doppel::testing {

inline constexpr char kNoHugetlbPool[] =
    "too few free hugetlb pages of 2 MiB: raise vm.nr_hugepages";

// Waits until no test of another process has the pools, and keeps them until this one
// ends. The lock is on the kernel's own folder: every sandbox shows the same one, and
// none needs to let a test write there.
inline void TakeHugetlbPools() {
  static const int pools = [] {
    const int fd =
        open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR) {
    }
    return fd;
  }();
  (void)pools;
}

inline uint64_t FreeHugetlbPages(uint64_t page_bytes) {
  TakeHugetlbPools();
  const auto pool = FindHugetlbPool(page_bytes);
  return pool.ok() ? pool->available_pages() : 0;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_HUGETLB_H_
