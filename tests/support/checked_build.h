// SPDX-License-Identifier: Apache-2.0
//
// Tests of what the library refuses by ABSL_HARDENING_ASSERT, which not every build checks.
//
// Invariants:
//   1. Where there are no checks the test counts as skipped, not as passed.
//
// Thread safety: a macro.
// Errors: none.
//
// Example:
//   TEST(SpscRing, MisuseIsRefused) {
//     DOPPEL_SKIP_UNCHECKED();
//     EXPECT_DEATH(...);
//   }

#ifndef DOPPEL_TESTS_SUPPORT_CHECKED_BUILD_H_
#define DOPPEL_TESTS_SUPPORT_CHECKED_BUILD_H_

#include "gtest/gtest.h"

namespace doppel::testing {

#if defined(NDEBUG)
inline constexpr bool kChecked = false;
#else
inline constexpr bool kChecked = true;
#endif

}  // namespace doppel::testing

// A macro, because it returns from the test.
#define DOPPEL_SKIP_UNCHECKED()     \
  if (!::doppel::testing::kChecked) \
  GTEST_SKIP() << "the checks are part of hardened and debug builds"

#endif  // DOPPEL_TESTS_SUPPORT_CHECKED_BUILD_H_
