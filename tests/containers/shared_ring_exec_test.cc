// SPDX-License-Identifier: Apache-2.0
//
// A shared ring of two programs, of which one is told the other's file in /proc and has
// nothing else of it: there is no link between them.

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/containers/shared_ring_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::ExecTest;
using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::MakeSharedRing;
using ::doppel::testing::Until;

using Ring = ::doppel::testing::SharedNumbers;

constexpr char kFile[] = "DOPPEL_RING_FILE";
constexpr char kOffset[] = "DOPPEL_RING_OFFSET";
constexpr uint64_t kItems = 1000;

// A program that never came is not missed.
constexpr absl::Duration kLong = absl::Seconds(60);

// Fails the test if there is none.
absl::StatusOr<Ring> AttachByName(const char* file, uint64_t offset_bytes) {
  const int fd = open(file, O_RDWR | O_CLOEXEC);
  EXPECT_GE(fd, 0) << file;
  absl::StatusOr<RingInvitation> invitation =
      RingInvitation::WithoutLink(fd, offset_bytes);
  close(fd);
  if (!invitation.ok()) return invitation.status();
  return Ring::Attach(*std::move(invitation));
}

// The other program.
TEST(SharedRingExec, DISABLED_Write) {
  const char* const file = std::getenv(kFile);
  if (file == nullptr) GTEST_SKIP() << "there is no ring";
  uint64_t offset_bytes = 0;
  ASSERT_TRUE(absl::SimpleAtoi(std::getenv(kOffset), &offset_bytes));
  absl::StatusOr<Ring> ring = AttachByName(file, offset_bytes);
  ASSERT_THAT(ring, IsOk());
  auto writer = ring->writer();
  ASSERT_THAT(writer, IsOk());
  for (uint64_t i = 1; i <= kItems; ++i) {
    ASSERT_EQ(writer->wait(1, Until(kLong)), RingWait::kReady);
    ASSERT_TRUE(writer->try_push(i));
  }
  writer->close();
}

TEST(SharedRingExec, AnotherProgramAttachesByProc) {
  Ring ring = MakeSharedRing();
  ASSERT_LT(ring.capacity(), kItems) << "they shall wait for each other";
  const std::string file =
      absl::StrCat("/proc/", getpid(), "/fd/", ring.memfd().fd());
  Child child([&] {
    return ExecTest("SharedRingExec.DISABLED_Write",
                    {absl::StrCat(kFile, "=", file),
                     absl::StrCat(kOffset, "=", ring.offset_bytes())});
  });
  auto reader = ring.reader();
  ASSERT_THAT(reader, IsOk());
  for (uint64_t i = 1; i <= kItems; ++i) {
    ASSERT_EQ(reader->wait(1, Until(kLong)), RingWait::kReady);
    ASSERT_EQ(reader->try_pop(), i);
  }
  EXPECT_EQ(reader->wait(1, Until(kLong)), RingWait::kClosed);
  EXPECT_TRUE(Exited(child.Wait(), 0));
}

}  // namespace
}  // namespace doppel
