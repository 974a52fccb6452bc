// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/remembered.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

TEST(RememberedTest, AsksOnce) {
  Remembered<double> number;
  int asked = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(number.Get([&] { return ++asked; }), 1);
  }
  EXPECT_EQ(asked, 1);
}

TEST(RememberedTest, ZeroIsAnAnswer) {
  Remembered<double> number;
  int asked = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(number.Get([&] { return 0 * ++asked; }), 0);
  }
  EXPECT_EQ(asked, 1);
}

// Who asks while another asks does not wait, and both give what came first.
TEST(RememberedTest, TheFirstAnswerStands) {
  Remembered<uint64_t> number;
  const uint64_t outer = number.Get([&] {
    std::thread other([&] { EXPECT_EQ(number.Get([] { return 2; }), 2); });
    other.join();
    return 1;
  });
  EXPECT_EQ(outer, 2);
  EXPECT_EQ(number.Get([] { return 3; }), 2);
}

// A child that is made while another thread asks has to ask by itself.
TEST(RememberedTest, AForkInTheMiddleLeavesNothingLocked) {
  Remembered<uint64_t> number;
  const uint64_t asked = number.Get([&] {
    std::thread forks([&] {
      const pid_t child = fork();
      if (child == 0) {
        alarm(20);
        _exit(number.Get([] { return 7; }) == 7 ? 0 : 1);
      }
      int status = 0;
      EXPECT_EQ(waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    });
    forks.join();
    return 5;
  });
  EXPECT_EQ(asked, 5);
}

}  // namespace
}  // namespace doppel::internal
