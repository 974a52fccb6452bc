// SPDX-License-Identifier: Apache-2.0
//
// A soft resource limit for the length of a scope.
//
// Invariants:
//   1. The destructor restores the limit that the constructor found.
//
// Thread safety: limits belong to the process; one scope at a time.
// Errors: a limit that cannot be set fails the test.
//
// Example:
//   ScopedRlimit limit(RLIMIT_FSIZE, 1 << 20);

#ifndef DOPPEL_TESTS_SUPPORT_RLIMIT_H_
#define DOPPEL_TESTS_SUPPORT_RLIMIT_H_

#include <sys/resource.h>

#include "gtest/gtest.h"

namespace doppel::testing {

class ScopedRlimit {
 public:
  // Lowers the soft limit of `resource` (setrlimit(2)) to `soft`.
  ScopedRlimit(__rlimit_resource_t resource, rlim_t soft)
      : resource_(resource) {
    EXPECT_EQ(getrlimit(resource_, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = soft;
    EXPECT_EQ(setrlimit(resource_, &limit), 0);
  }

  ~ScopedRlimit() { EXPECT_EQ(setrlimit(resource_, &before_), 0); }

  ScopedRlimit(const ScopedRlimit&) = delete;
  ScopedRlimit& operator=(const ScopedRlimit&) = delete;

 private:
  __rlimit_resource_t resource_;
  rlimit before_{};
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_RLIMIT_H_
