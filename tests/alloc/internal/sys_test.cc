// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/sys.h"

#include <fcntl.h>
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

TEST(SysTest, TheLimitIsOnGrowthOnly) {
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  ASSERT_THAT(Ftruncate(fd, 65536), IsOk());
  const ScopedRlimit limit(RLIMIT_FSIZE, 4096);
  EXPECT_THAT(Fallocate(fd, 0, 8192, 8192), IsOk());
  EXPECT_THAT(
      Fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 1 << 20),
      IsOk());
  EXPECT_THAT(Ftruncate(fd, 32768), IsOk());
  EXPECT_THAT(Ftruncate(fd, 65536), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Fallocate(fd, 0, 0, 65536),
              StatusIs(absl::StatusCode::kOutOfRange));
  Close(fd);
}

TEST(SysTest, WhatASignalInterruptsIsRepeated) {
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  FaultPlan plan({.call = Call::kFtruncate, .nth = 1, .error = EINTR});
  EXPECT_THAT(Ftruncate(fd, 4096), IsOk());
  EXPECT_TRUE(plan.fired());
  EXPECT_EQ(Fstat(fd)->st_size, 4096);
  Close(fd);
}

// As under a profiler's timer: every second call is interrupted.
class InterruptsOften final : public FaultHook {
 public:
  InterruptsOften() : previous_(SetFaultHook(this)) {}
  ~InterruptsOften() override { SetFaultHook(previous_); }
  int ErrnoFor(Call call) override {
    if (call != Call::kFallocate) return 0;
    return ++calls_ % 2 == 1 ? EINTR : 0;
  }
  int calls() const { return calls_; }

 private:
  int calls_ = 0;
  FaultHook* previous_;
};

TEST(SysTest, AnAllocationThatIsInterruptedGoesOnInPieces) {
  constexpr uint64_t kBytes = uint64_t{33} << 20;
  const int fd = *MemfdCreate("sys", MFD_CLOEXEC);
  ASSERT_THAT(Ftruncate(fd, kBytes), IsOk());
  {
    InterruptsOften hook;
    EXPECT_THAT(Fallocate(fd, 0, 0, kBytes), IsOk());
    EXPECT_GE(hook.calls(), 10);
  }
  EXPECT_EQ(static_cast<uint64_t>(Fstat(fd)->st_blocks) * 512, kBytes);
  EXPECT_THAT(Fallocate(fd, 0, 0, 0),
              StatusIs(absl::StatusCode::kInvalidArgument));
  Close(fd);
}

// A page that cannot be had is no mistake of the caller, whatever errno says of it.
TEST(SysTest, PopulatingWhereATouchWouldFaultIsExhaustion) {
  FaultPlan plan({.call = Call::kMadvise, .nth = 1, .error = EFAULT});
  EXPECT_THAT(Madvise(nullptr, 4096, MADV_NORMAL),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no page could be had")));
}

TEST(SysTest, MoreThanTheMachineHasIsAnError) {
  EXPECT_THAT(CheckMemory(MemoryBytes()), IsOk());
  EXPECT_THAT(CheckMemory(MemoryBytes() + 1),
              StatusIs(absl::StatusCode::kResourceExhausted));
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
