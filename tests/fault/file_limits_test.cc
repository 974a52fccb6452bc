// SPDX-License-Identifier: Apache-2.0
//
// Limits that are reached and input that is bad, in the rooms of files and page sizes:
// each a clear error, never a signal.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kRange = absl::StatusCode::kOutOfRange;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// Runs in a child that has SIGXFSZ's default action: a signal would end it, and the
// limit ends with it.
void ExpectNoSignal(const std::function<void()>& body) {
  EXPECT_TRUE(Exited(RunInChild([&] {
                       body();
                       return ::testing::Test::HasFailure() ? 1 : 0;
                     }),
                     0));
}

TEST(FileLimitsTest, FileSize) {
  Memfd file = *Memfd::Create({});
  ASSERT_THAT(file.Resize(4096), IsOk());
  ExpectNoSignal([&] {
    const ScopedRlimit limit(RLIMIT_FSIZE, 8192);
    EXPECT_THAT(file.Resize(8193), StatusIs(kRange, HasSubstr("ulimit -f")));
    EXPECT_THAT(file.Reserve(0, 8193), StatusIs(kRange, HasSubstr("8192")));
    EXPECT_THAT(file.WriteAt(8190, Bytes("abc")), StatusIs(kRange));
    EXPECT_EQ(file.Query()->size_bytes, 4096);
    EXPECT_THAT(file.Resize(8192), IsOk());
    EXPECT_EQ(*file.WriteAt(8189, Bytes("abc")), 3);
  });
}

TEST(FileLimitsTest, FileSizeOfNothing) {
  Memfd file = *Memfd::Create({});
  ExpectNoSignal([&] {
    const ScopedRlimit limit(RLIMIT_FSIZE, 0);
    EXPECT_THAT(file.Resize(1), StatusIs(kRange));
    EXPECT_THAT(file.Resize(0), IsOk());
    EXPECT_THAT(file.WriteAt(0, Bytes("a")), StatusIs(kRange));
  });
}

TEST(FileLimitsTest, Descriptors) {
  const LeakCheck before;
  {
    Memfd file = *Memfd::Create({});
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ASSERT_THAT(file.Send(ends[0]), IsOk());
    std::vector<absl::Status> exhausted;
    absl::Status received;
    std::vector<absl::Status> unaffected;
    {
      // Looked at afterwards: a sanitizer's checks need descriptors too.
      const ScopedRlimit limit(RLIMIT_NOFILE, 3);
      exhausted = {Memfd::Create({}).status(),
                   Memfd::OpenOf(getpid(), file.fd(), {}).status(),
                   Memfd::CreateNamed("/doppel-limits").status(),
                   HugetlbPools().status(),
                   QueryResidency(&file, sizeof(file)).status()};
      received = Memfd::Receive(ends[1], {}).status();
      unaffected = {file.Resize(1 << 20), file.Query().status()};
      EXPECT_FALSE(file.Duplicate().ok());
    }
    const auto raise = HasSubstr("RLIMIT_NOFILE");
    EXPECT_THAT(exhausted, Each(StatusIs(kExhausted, raise)));
    EXPECT_THAT(received, StatusIs(kExhausted, raise));
    EXPECT_THAT(Memfd::Receive(ends[1], {}), IsOk()) << "it is not lost";
    EXPECT_THAT(unaffected, Each(IsOk()));
    EXPECT_THAT(Memfd::Create({}), IsOk());
    close(ends[0]);
    close(ends[1]);
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(FileLimitsTest, SizesThatOverflow) {
  Memfd file = *Memfd::Create({});
  const uint64_t too_large = uint64_t{1} << 63;
  EXPECT_THAT(file.Resize(too_large), StatusIs(kRange));
  EXPECT_THAT(file.Resize(UINT64_MAX), StatusIs(kRange));
  EXPECT_THAT(file.Reserve(too_large, 1), StatusIs(kRange));
  EXPECT_THAT(file.Reserve(4096, UINT64_MAX - 4095), StatusIs(kRange));
  EXPECT_THAT(file.PunchHole(UINT64_MAX, UINT64_MAX), StatusIs(kRange));
  EXPECT_THAT(file.WriteAt(UINT64_MAX, Bytes("ab")), StatusIs(kRange));
  EXPECT_THAT(file.WriteAt(too_large - 1, Bytes("ab")), StatusIs(kRange));
  std::byte byte{};
  EXPECT_FALSE(file.ReadAt(UINT64_MAX, std::span(&byte, 1)).ok());
  EXPECT_EQ(file.Query()->size_bytes, 0);
}

TEST(FileLimitsTest, NothingOfNothing) {
  Memfd file = *Memfd::Create({.name = ""});
  EXPECT_THAT(file.Resize(0), IsOk());
  EXPECT_THAT(file.Reserve(0, 0), StatusIs(kInvalid));
  EXPECT_THAT(file.PunchHole(0, 0), StatusIs(kInvalid));
  EXPECT_EQ(*file.WriteAt(0, {}), 0);
  EXPECT_EQ(*file.ReadAt(0, {}), 0);
  EXPECT_THAT(file.AddSeals(Seal::kNone), IsOk());
}

TEST(FileLimitsTest, SealsThatDoNotExist) {
  Memfd file = *Memfd::Create({});
  EXPECT_THAT(file.AddSeals(static_cast<Seal>(0x4000)), StatusIs(kInvalid));
}

TEST(FileLimitsTest, DescriptorsThatAreNoMemory) {
  const int null = open("/dev/null", O_RDWR);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  for (const int fd : {null, ends[0]}) {
    EXPECT_THAT(Memfd::Adopt(fd, {}),
                StatusIs(kInvalid, HasSubstr("is no memfd")));
    EXPECT_THAT(Memfd::OpenOf(getpid(), fd, {}), ::testing::Not(IsOk()));
  }
  // A message may carry anything.
  const Memfd file = *Memfd::Create({});
  EXPECT_FALSE(file.Send(null).ok()) << "that is no socket";
  EXPECT_FALSE(Memfd::Receive(null, {}).ok());
  close(null);
  close(ends[0]);
  close(ends[1]);
  EXPECT_FALSE(Memfd::OpenOf(-1, 0, {}).ok());
}

TEST(FileLimitsTest, NamesThatCannotBe) {
  for (const char* name : {"", "/", "/a/b"}) {
    EXPECT_FALSE(Memfd::CreateNamed(name).ok()) << name;
    EXPECT_FALSE(Memfd::OpenNamed(name).ok()) << name;
    EXPECT_FALSE(Memfd::UnlinkNamed(name).ok()) << name;
  }
  EXPECT_FALSE(Memfd::CreateNamed("/" + std::string(300, 'n')).ok());
  EXPECT_THAT(Memfd::Create({.name = std::string(250, 'n')}),
              StatusIs(kInvalid, HasSubstr("249")));
}

TEST(FileLimitsTest, PageSizesThatTheMachineLacks) {
  for (const uint64_t bytes : kHugetlbSizes) {
    const PageSize size = *PageSize::Huge(bytes);
    if (FindHugetlbPool(bytes).ok()) {
      EXPECT_THAT(GrantPageSize(size, uint64_t{1} << 60), StatusIs(kExhausted));
      EXPECT_THAT(GrantPageSize(size, UINT64_MAX), StatusIs(kExhausted));
    } else {
      EXPECT_THAT(GrantPageSize(size, 0),
                  StatusIs(absl::StatusCode::kNotFound,
                           HasSubstr("this machine has no hugetlb pages")));
      EXPECT_FALSE(Memfd::Create({.page_size = size}).ok());
    }
  }
}

// A pool that is empty for certain: draining another would disturb its users.
TEST(FileLimitsTest, AnEmptyPoolIsAnErrorBeforeTheFirstTouch) {
  const auto pools = HugetlbPools();
  ASSERT_THAT(pools, IsOk());
  bool found = false;
  for (const HugetlbPool& pool : *pools) {
    if (pool.total_pages + pool.overcommit_pages != 0) continue;
    found = true;
    const PageSize size = *PageSize::Huge(pool.page_bytes);
    EXPECT_THAT(GrantPageSize(size, 0),
                StatusIs(kExhausted, AllOf(HasSubstr("has 0 of 0 free"),
                                           HasSubstr("1 wanted"))));
    Memfd file = *Memfd::Create({.page_size = size});
    EXPECT_THAT(file.Resize(pool.page_bytes), IsOk());
    EXPECT_THAT(file.Reserve(0, pool.page_bytes),
                StatusIs(kExhausted, HasSubstr("vm.nr_hugepages")));
    EXPECT_EQ(file.Query()->allocated_bytes, 0);
  }
  if (!found) GTEST_SKIP() << "no hugetlb pool is empty";
}

}  // namespace
}  // namespace doppel
