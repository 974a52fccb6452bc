// SPDX-License-Identifier: Apache-2.0
//
// Proves that TSan would have told: runs a test that races on purpose in a process of
// its own, and looks for TSan's report.
//
// Invariants:
//   1. The process runs the named test of this very binary and no other, disabled or
//      not, and prints nothing.
//   2. It is not enough that TSan ends it: there are other reasons to.
//   3. An UnorderedTurn keeps two accesses apart in time, and orders nothing by itself: TSan
//      looks at the accesses before, and may miss two that are made at one instant.
//
// Thread safety: any thread.
// Errors: a failure says how the process ended, and what it wrote.
//
// Example:
//   EXPECT_TRUE(RaceIsReported("Suite.DISABLED_Race"));

#ifndef DOPPEL_TESTS_SUPPORT_SEEDED_RACE_H_
#define DOPPEL_TESTS_SUPPORT_SEEDED_RACE_H_

#include <atomic>
#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace doppel::testing {

::testing::AssertionResult RaceIsReported(const std::string& test);

// The one side of a race ends its turn, and the other waits for that.
class UnorderedTurn {
 public:
  void End() { ended_.store(true, std::memory_order_relaxed); }
  void Wait() const {
    while (!ended_.load(std::memory_order_relaxed)) std::this_thread::yield();
  }

 private:
  std::atomic<bool> ended_{false};
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_SEEDED_RACE_H_
