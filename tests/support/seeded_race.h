// SPDX-License-Identifier: Apache-2.0
//
// Proves that TSan would have told: runs a test that races on purpose in a process of
// its own, and says how that ended.
//
// Invariants:
//   1. The process runs the named test of this very binary and no other, disabled or
//      not, and prints nothing.
//   2. Its exit code is kRaceReported if TSan reported a race.
//   3. An UnorderedTurn keeps two accesses apart in time, and orders nothing by itself: TSan
//      looks at the accesses before, and may miss two that are made at one instant.
//
// Thread safety: any thread.
// Errors: a process that cannot be started is a test failure, and 0.
//
// Example:
//   EXPECT_EQ(ExitCodeOfTest("Suite.DISABLED_Race"), kRaceReported);

#ifndef DOPPEL_TESTS_SUPPORT_SEEDED_RACE_H_
#define DOPPEL_TESTS_SUPPORT_SEEDED_RACE_H_

#include <atomic>
#include <thread>

namespace doppel::testing {

inline constexpr int kRaceReported = 66;

int ExitCodeOfTest(const char* name);

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
