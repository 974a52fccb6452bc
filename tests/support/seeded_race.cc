// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/support/seeded_race.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel::testing {
namespace {

// Neither a test's nor what TSan ends by if nobody says otherwise.
constexpr int kReported = 97;

// What a report has before its stacks, and more.
constexpr size_t kMostBytes = 1 << 16;

}  // namespace

::testing::AssertionResult RaceIsReported(const std::string& test) {
  const int report = memfd_create("report", MFD_CLOEXEC);
  const int status = RunInChild([&] {
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    dup2(report, STDERR_FILENO);
    return ExecTest(
        test,
        {absl::StrCat("TSAN_OPTIONS=halt_on_error=1 exitcode=", kReported)});
  });
  std::string text(kMostBytes, '\0');
  const ssize_t length = pread(report, text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(length, 0)));
  close(report);
  // TSan ends by this code when it gives up, too: only the text tells.
  if (Exited(status, kReported) &&
      absl::StrContains(text, "ThreadSanitizer: data race")) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure()
         << test << " ended with status " << status << ":\n"
         << text;
}

}  // namespace doppel::testing
