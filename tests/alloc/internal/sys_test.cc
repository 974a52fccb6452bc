// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/sys.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>

#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel::internal::sys {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(SysTest, EveryCallHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i < kCalls; ++i) {
    names.insert(CallName(static_cast<Call>(i)));
  }
  EXPECT_EQ(names.size(), kCalls);
}

TEST(SysTest, AnErrorNamesCallArgumentsAndAdvice) {
  EXPECT_THAT(Fstat(-1), StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("fstat(-1)")));
  EXPECT_THAT(Mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("mmap("), HasSubstr("multiples of the "
                                                           "page size"))));
  EXPECT_THAT(ReadFile("/proc/self/nothing"),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(SysTest, TheNthCallFailsOnceOrForEver) {
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  {
    FaultPlan plan({.call = Call::kFstat, .nth = 2, .error = ENOMEM});
    EXPECT_THAT(Fstat(fd), IsOk());
    EXPECT_FALSE(plan.fired());
    EXPECT_THAT(Fstat(fd), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_TRUE(plan.fired());
    EXPECT_THAT(Fstat(fd), IsOk());
  }
  {
    FaultPlan plan(
        {.call = Call::kFstat, .nth = 2, .error = ENOMEM, .sticky = true});
    EXPECT_THAT(Fstat(fd), IsOk());
    EXPECT_FALSE(Fstat(fd).ok());
    EXPECT_FALSE(Fstat(fd).ok());
    EXPECT_THAT(Ftruncate(fd, 4096), IsOk()) << "other calls go through";
  }
  EXPECT_THAT(Fstat(fd), IsOk());
  Close(fd);
}

TEST(SysTest, TheHookSeesEachCallOnce) {
  CallCounter counter;
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  EXPECT_THAT(Ftruncate(fd, 4096), IsOk());
  EXPECT_EQ(counter.count(Call::kMemfdCreate), 1);
  EXPECT_EQ(counter.count(Call::kGetrlimit), 1);
  EXPECT_EQ(counter.count(Call::kFtruncate), 1);
  EXPECT_EQ(counter.total(), 3);
  Close(fd);
}

TEST(SysTest, SizesAboveTheLimitAreNoSignal) {
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  const ScopedRlimit limit(RLIMIT_FSIZE, 4096);
  EXPECT_THAT(Ftruncate(fd, 4097),
              StatusIs(absl::StatusCode::kOutOfRange,
                       HasSubstr("RLIMIT_FSIZE allows 4096")));
  EXPECT_THAT(Ftruncate(fd, 4096), IsOk());
  EXPECT_EQ(*SoftLimit(RLIMIT_FSIZE), 4096);
  Close(fd);
}

TEST(SysTest, ReadsFilesOfAnySize) {
  const auto maps = ReadFile("/proc/self/smaps");
  ASSERT_THAT(maps, IsOk());
  EXPECT_THAT(*maps, HasSubstr("VmFlags"));
  EXPECT_GT(maps->size(), 20000);
  EXPECT_GT(MemoryBytes(), uint64_t{64} << 20);
  EXPECT_EQ(ProcessId(), getpid());
}

}  // namespace
}  // namespace doppel::internal::sys
