// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string ReadText(const Memfd& memfd, uint64_t offset, size_t size) {
  std::string text(size, '\0');
  const auto read =
      memfd.ReadAt(offset, std::as_writable_bytes(std::span(text)));
  text.resize(read.value_or(0));
  return text;
}

TEST(MemfdTest, IsCloseOnExecAndNamed) {
  Memfd memfd = *Memfd::Create({.name = "a name"});
  EXPECT_EQ(fcntl(memfd.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  std::array<char, 100> link{};
  ASSERT_GT(readlink(absl::StrCat("/proc/self/fd/", memfd.fd()).c_str(),
                     link.data(), link.size() - 1),
            0);
  EXPECT_THAT(link.data(), HasSubstr("/memfd:a name"));
}

TEST(MemfdTest, SizeContentsAndHoles) {
  Memfd memfd = *Memfd::Create({});
  EXPECT_EQ(memfd.Query()->size_bytes, 0);
  ASSERT_THAT(memfd.Resize(3 << 20), IsOk());
  EXPECT_EQ(memfd.Query()->size_bytes, 3 << 20);
  EXPECT_EQ(memfd.Query()->allocated_bytes, 0);
  EXPECT_EQ(*memfd.WriteAt(4090, Bytes("across pages")), 12);
  EXPECT_EQ(ReadText(memfd, 4090, 12), "across pages");
  EXPECT_EQ(memfd.Query()->allocated_bytes, 8192);
  ASSERT_THAT(memfd.PunchHole(0, 4096), IsOk());
  EXPECT_EQ(memfd.Query()->allocated_bytes, 4096);
  EXPECT_EQ(ReadText(memfd, 4090, 12), std::string(6, '\0') + " pages");
  ASSERT_THAT(memfd.Reserve(0, 1 << 20), IsOk());
  EXPECT_EQ(memfd.Query()->allocated_bytes, 1 << 20);
  EXPECT_EQ(ReadText(memfd, (3 << 20) - 2, 10).size(), 2);
  ASSERT_THAT(memfd.Resize(4096), IsOk());
  EXPECT_EQ(memfd.Query()->allocated_bytes, 4096);
}

TEST(MemfdTest, SealsDoWhatTheManualSays) {
  Memfd memfd = *Memfd::Create({});
  ASSERT_THAT(memfd.Resize(8192), IsOk());
  const Seal at_birth = *memfd.Seals();  // kExec where the kernel has noexec.
  ASSERT_THAT(memfd.AddSeals(Seal::kShrink), IsOk());
  EXPECT_THAT(memfd.Resize(4096), StatusIs(absl::StatusCode::kPermissionDenied,
                                           HasSubstr("F_SEAL_SHRINK")));
  EXPECT_THAT(memfd.Resize(16384), IsOk());
  ASSERT_THAT(memfd.AddSeals(Seal::kGrow), IsOk());
  EXPECT_FALSE(memfd.Resize(32768).ok());
  void* map =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.fd(), 0);
  ASSERT_NE(map, MAP_FAILED);
  EXPECT_THAT(memfd.AddSeals(Seal::kWrite),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("writable shared mapping")));
  ASSERT_THAT(memfd.AddSeals(Seal::kFutureWrite), IsOk());
  *static_cast<char*>(map) = 'x';  // The old mapping goes on.
  EXPECT_EQ(ReadText(memfd, 0, 1), "x");
  EXPECT_FALSE(memfd.WriteAt(0, Bytes("y")).ok());
  EXPECT_EQ(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.fd(), 0),
      MAP_FAILED);
  munmap(map, 4096);
  ASSERT_THAT(memfd.AddSeals(Seal::kWrite | Seal::kSeal), IsOk());
  EXPECT_FALSE(memfd.AddSeals(Seal::kGrow).ok());
  const Seal all = Seal::kShrink | Seal::kGrow | Seal::kFutureWrite |
                   Seal::kWrite | Seal::kSeal | at_birth;
  EXPECT_THAT(memfd.RequireSeals(all), IsOk());
  EXPECT_THAT(memfd.RequireSeals(Seal::kShrink),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("required are exactly SHRINK")));
}

TEST(MemfdTest, WithoutSealingNoSealCanBeAdded) {
  for (const bool executable : {false, true}) {
    Memfd memfd =
        *Memfd::Create({.allow_sealing = false, .executable = executable});
    EXPECT_EQ(*memfd.Seals() & Seal::kSeal, Seal::kSeal);
    EXPECT_FALSE(memfd.AddSeals(Seal::kShrink).ok());
  }
}

TEST(MemfdTest, CannotBeExecutedUnlessAsked) {
  Memfd plain = *Memfd::Create({});
  Memfd program = *Memfd::Create({.executable = true});
  EXPECT_TRUE(program.Query()->executable);
  if ((*plain.Seals() & Seal::kExec) == Seal::kNone) {
    GTEST_SKIP() << "this kernel has no MFD_NOEXEC_SEAL (6.3)";
  }
  const Memfd unsealable = *Memfd::Create({.allow_sealing = false});
  for (const Memfd* memfd : {&std::as_const(plain), &unsealable}) {
    EXPECT_FALSE(memfd->Query()->executable);
    EXPECT_NE(fchmod(memfd->fd(), 0700), 0);
  }
}

TEST(MemfdTest, AdoptRefusesWhatIsNoMemory) {
  const LeakCheck before;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const int directory = open("/", O_RDONLY | O_DIRECTORY);
  const int device = open("/dev/zero", O_RDWR);
  const int file = open("/proc/self/exe", O_RDONLY);
  for (const int fd : {pipe_ends[0], directory, device, file}) {
    EXPECT_THAT(
        Memfd::Adopt(fd, {}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no memfd")));
    EXPECT_EQ(fcntl(fd, F_GETFD) >= 0, true) << "the caller keeps it";
    close(fd);
  }
  close(pipe_ends[1]);
  EXPECT_FALSE(Memfd::Adopt(-1, {}).ok());
  EXPECT_FALSE(Memfd::Adopt(100000, {}).ok());
  EXPECT_TRUE(before.Unchanged());
}

TEST(MemfdTest, AdoptChecksWhatIsExpected) {
  Memfd original = *Memfd::Create({});
  ASSERT_THAT(original.Resize(8192), IsOk());
  const Seal seals = Seal::kShrink | Seal::kGrow | *original.Seals();
  const auto adopt = [&](const Memfd::Expectation& expectation) {
    Memfd copy = *original.Duplicate();
    auto adopted = Memfd::Adopt(copy.fd(), expectation);
    if (adopted.ok()) copy.Release();
    return adopted.status();
  };
  constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(adopt({.exact_seals = seals}), StatusIs(kRefused));
  ASSERT_THAT(original.AddSeals(seals), IsOk());
  EXPECT_THAT(adopt({.exact_seals = seals, .size_bytes = 8192}), IsOk());
  EXPECT_THAT(adopt({.size_bytes = 4096}), StatusIs(kRefused));
  EXPECT_THAT(adopt({.min_size_bytes = 8193}), StatusIs(kRefused));
  EXPECT_THAT(adopt({.min_size_bytes = 8192}), IsOk());
  EXPECT_THAT(adopt({.page_bytes = 2 << 20}), StatusIs(kRefused));
}

TEST(MemfdTest, PassesThroughASocket) {
  const LeakCheck before;
  {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    Memfd memfd = *Memfd::Create({});
    ASSERT_EQ(*memfd.WriteAt(0, Bytes("hello")), 5);
    ASSERT_THAT(memfd.Send(ends[0]), IsOk());
    const auto received = Memfd::Receive(ends[1], {.min_size_bytes = 5});
    ASSERT_THAT(received, IsOk());
    EXPECT_EQ(ReadText(*received, 0, 5), "hello");
    EXPECT_EQ(received->Query()->inode, memfd.Query()->inode);
    EXPECT_EQ(fcntl(received->fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    // Refused ones are closed.
    ASSERT_THAT(memfd.Send(ends[0]), IsOk());
    EXPECT_FALSE(Memfd::Receive(ends[1], {.size_bytes = 77}).ok());
    ASSERT_EQ(write(ends[0], "x", 1), 1);
    EXPECT_THAT(Memfd::Receive(ends[1], {}),
                StatusIs(absl::StatusCode::kInvalidArgument));
    close(ends[0]);
    EXPECT_THAT(Memfd::Receive(ends[1], {}),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_FALSE(memfd.Send(ends[1]).ok()) << "no SIGPIPE";
    close(ends[1]);
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(MemfdTest, PassesThroughForkAndProc) {
  Memfd memfd = *Memfd::Create({});
  ASSERT_EQ(*memfd.WriteAt(0, Bytes("parent")), 6);
  const pid_t parent = getpid();
  EXPECT_TRUE(testing::Exited(
      testing::RunInChild([&] {
        if (ReadText(memfd, 0, 6) != "parent") return 1;
        auto opened = Memfd::OpenOf(parent, memfd.fd(), {.size_bytes = 6});
        if (!opened.ok()) return 2;
        return opened->WriteAt(0, Bytes("child!")).ok() ? 0 : 3;
      }),
      0));
  EXPECT_EQ(ReadText(memfd, 0, 6), "child!");
  EXPECT_FALSE(Memfd::OpenOf(parent, 99999, {}).ok());
}

TEST(MemfdTest, NamedObjectsAreTheFallback) {
  const std::string name = absl::StrCat("/doppel-test-", getpid());
  {
    Memfd created = *Memfd::CreateNamed(name);
    EXPECT_THAT(Memfd::CreateNamed(name),
                StatusIs(absl::StatusCode::kAlreadyExists));
    ASSERT_EQ(*created.WriteAt(0, Bytes("named")), 5);
    EXPECT_EQ(ReadText(*Memfd::OpenNamed(name), 0, 5), "named");
  }
  ASSERT_THAT(Memfd::UnlinkNamed(name), IsOk());
  EXPECT_THAT(Memfd::OpenNamed(name), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(Memfd::UnlinkNamed(name).ok());
}

TEST(MemfdTest, MovesOwnership) {
  const LeakCheck before;
  {
    Memfd a = *Memfd::Create({});
    const int fd = a.fd();
    Memfd b = std::move(a);
    EXPECT_EQ(a.fd(), -1);
    EXPECT_EQ(b.fd(), fd);
    b = *Memfd::Create({});
    EXPECT_NE(fcntl(b.fd(), F_GETFD), -1);
    close(b.Release());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(MemfdTest, BadOptionsAreErrors) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Memfd::Create({.name = std::string(250, 'n')}),
              StatusIs(kInvalid));
  EXPECT_THAT(Memfd::Create({.name = std::string("a\0b", 3)}),
              StatusIs(kInvalid));
  EXPECT_THAT(Memfd::Create({.page_size = PageSize::BestAvailable()}),
              StatusIs(kInvalid, HasSubstr("GrantPageSize")));
  EXPECT_FALSE(
      Memfd::Create({.page_size = *PageSize::Huge(uint64_t{16} << 30)}).ok());
  Memfd memfd = *Memfd::Create({});
  EXPECT_THAT(memfd.Resize(UINT64_MAX),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(memfd.Reserve(UINT64_MAX, 2),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(memfd.WriteAt(UINT64_MAX, Bytes("x")),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(MemfdTest, LimitsAreErrorsNotSignals) {
  Memfd memfd = *Memfd::Create({});
  {
    const ScopedRlimit limit(RLIMIT_FSIZE, 1 << 20);
    constexpr auto kRange = absl::StatusCode::kOutOfRange;
    EXPECT_THAT(memfd.Resize((1 << 20) + 1),
                StatusIs(kRange, HasSubstr("RLIMIT_FSIZE")));
    EXPECT_THAT(memfd.Reserve(1 << 20, 1), StatusIs(kRange));
    EXPECT_THAT(memfd.WriteAt(1 << 20, Bytes("x")), StatusIs(kRange));
    EXPECT_THAT(memfd.Resize(1 << 20), IsOk());
  }
  {
    const ScopedRlimit limit(RLIMIT_FSIZE, 4096);
    EXPECT_THAT(memfd.Reserve(65536, 8192), IsOk());
    EXPECT_THAT(memfd.PunchHole(65536, 8192), IsOk());
  }
  const ScopedRlimit limit(RLIMIT_NOFILE, 3);
  EXPECT_THAT(Memfd::Create({}), StatusIs(absl::StatusCode::kResourceExhausted,
                                          HasSubstr("RLIMIT_NOFILE")));
  EXPECT_FALSE(memfd.Duplicate().ok());
}

TEST(MemfdTest, HugetlbFilesHaveTheirUnit) {
  if (testing::FreeHugetlbPages(2 << 20) < 2) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  Memfd memfd = *Memfd::Create({.page_size = PageSize::Huge2MiB()});
  EXPECT_EQ(memfd.page_bytes(), 2 << 20);
  EXPECT_THAT(memfd.Resize(4096), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("huge page")));
  ASSERT_THAT(memfd.Reserve(0, 4 << 20), IsOk());
  EXPECT_EQ(memfd.Query()->allocated_bytes, 4 << 20);
  Memfd copy = *memfd.Duplicate();
  const auto adopted = Memfd::Adopt(copy.fd(), {.page_bytes = 2 << 20});
  ASSERT_THAT(adopted, IsOk());
  copy.Release();
  EXPECT_TRUE(adopted->page_size() == PageSize::Huge2MiB());
}

}  // namespace
}  // namespace doppel
