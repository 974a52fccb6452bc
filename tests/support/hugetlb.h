// SPDX-License-Identifier: Apache-2.0
//
// Whether the machine has free hugetlb pages for a test.
//
// Invariants:
//   1. Nothing here changes a pool: tests/run reserves one where it may.
//
// Thread safety: reads /sys only.
// Errors: a machine without the size has no free pages of it.
//
// Example:
//   if (FreeHugetlbPages(2 << 20) < 4) GTEST_SKIP() << kNoHugetlbPool;

#ifndef DOPPEL_TESTS_SUPPORT_HUGETLB_H_
#define DOPPEL_TESTS_SUPPORT_HUGETLB_H_

#include <cstdint>

#include "doppel/alloc/page_size.h"

namespace doppel::testing {

inline constexpr char kNoHugetlbPool[] =
    "too few free hugetlb pages of 2 MiB: raise vm.nr_hugepages";

inline uint64_t FreeHugetlbPages(uint64_t page_bytes) {
  const auto pool = FindHugetlbPool(page_bytes);
  return pool.ok() ? pool->available_pages() : 0;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_HUGETLB_H_
