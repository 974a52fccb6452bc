// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/support/seeded_race.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace doppel::testing {

int ExitCodeOfTest(const char* name) {
  std::string self(4096, '\0');
  const ssize_t length = readlink("/proc/self/exe", self.data(), self.size());
  EXPECT_GT(length, 0);
  self.resize(length > 0 ? static_cast<size_t>(length) : 0);
  std::array<std::string, 3> words = {self,
                                      absl::StrCat("--gtest_filter=", name),
                                      "--gtest_also_run_disabled_tests"};
  std::array<char*, 4> arguments = {words[0].data(), words[1].data(),
                                    words[2].data(), nullptr};
  std::string options =
      absl::StrCat("TSAN_OPTIONS=halt_on_error=1 exitcode=", kRaceReported);
  std::array<char*, 2> environment = {options.data(), nullptr};
  posix_spawn_file_actions_t quiet;
  EXPECT_EQ(posix_spawn_file_actions_init(&quiet), 0);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    EXPECT_EQ(
        posix_spawn_file_actions_addopen(&quiet, fd, "/dev/null", O_WRONLY, 0),
        0);
  }
  pid_t child = 0;
  const int error = posix_spawn(&child, self.c_str(), &quiet, nullptr,
                                arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&quiet);
  EXPECT_EQ(error, 0);
  if (error != 0) return 0;
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace doppel::testing
