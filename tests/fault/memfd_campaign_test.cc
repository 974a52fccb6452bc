// SPDX-License-Identifier: Apache-2.0
//
// Every public operation of Memfd, with each system call that it makes failing in
// turn: an error comes back, nothing leaks, the file is as it was.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCall;
using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;

constexpr uint64_t kFileBytes = 16384;

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string Contents(const Memfd& file) {
  std::string text(kFileBytes + 1, '\0');
  const auto read = file.ReadAt(0, std::as_writable_bytes(std::span(text)));
  EXPECT_THAT(read, IsOk());
  text.resize(read.value_or(0));
  return text;
}

// What a failed operation must leave as it was.
struct Snapshot {
  std::string contents;
  uint64_t allocated_bytes = 0;
  Seal seals = Seal::kNone;
  int descriptor_flags = 0;

  bool operator==(const Snapshot&) const = default;
};

Snapshot Take(const Memfd& file) {
  return {Contents(file), file.Query()->allocated_bytes, *file.Seals(),
          fcntl(file.fd(), F_GETFD)};
}

struct File {
  Memfd memfd;
  Snapshot before;
};

// Two pages of text, two that are holes.
File MakeFile() {
  Memfd memfd = *Memfd::Create({});
  EXPECT_THAT(memfd.Resize(kFileBytes), IsOk());
  EXPECT_EQ(*memfd.WriteAt(0, Bytes(std::string(8192, 'd'))), 8192);
  Snapshot before = Take(memfd);
  return {std::move(memfd), std::move(before)};
}

constexpr auto kFailed = [](const auto& outcome) { return !outcome.ok(); };

// An operation on a file that can tolerate none of its calls' failures.
template <class Operate>
void ExpectEachFaultIsAnError(Operate operate) {
  const int faults = FailEachCall(
      MakeFile, [&](File& file) { return operate(file.memfd); }, kFailed,
      [](const File& file, const auto& outcome) {
        EXPECT_FALSE(outcome.ok());
        EXPECT_FALSE(testing::StatusOf(outcome).message().empty());
        EXPECT_TRUE(Take(file.memfd) == file.before);
      });
  EXPECT_GT(faults, 0) << "the operation makes no system call";
}

// The state of operations that need none.
struct Nothing {};
constexpr auto kNothing = [] { return Nothing{}; };

TEST(MemfdCampaignTest, Create) {
  for (const bool sealable : {true, false}) {
    const int faults = FailEachCall(
        kNothing,
        [&](Nothing&) { return Memfd::Create({.allow_sealing = sealable}); },
        kFailed,
        [](const Nothing&, absl::StatusOr<Memfd>& file) {
          // One EINVAL is a kernel that does not know a flag: it is left out.
          if (!file.ok()) return;
          EXPECT_THAT(file->Resize(kFileBytes), IsOk());
          EXPECT_EQ(*file->Seals() & Seal::kExec, Seal::kNone);
        });
    EXPECT_GT(faults, 0);
  }
}

// The name of an object that is unlinked at the end, if it is there.
class Name {
 public:
  explicit Name(const char* suffix)
      : text_(absl::StrCat("/doppel-memfd-", getpid(), "-", suffix)) {}
  ~Name() { (void)Memfd::UnlinkNamed(text_); }
  Name(const Name&) = delete;
  Name& operator=(const Name&) = delete;

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST(MemfdCampaignTest, CreateNamed) {
  const int faults = FailEachCall(
      [] { return Name("create"); },
      [](Name& name) { return Memfd::CreateNamed(name.text()); }, kFailed,
      [](const Name& name, const absl::StatusOr<Memfd>& file) {
        EXPECT_FALSE(file.ok());
        EXPECT_THAT(Memfd::OpenNamed(name.text()),
                    StatusIs(absl::StatusCode::kNotFound));
      });
  EXPECT_GT(faults, 0);
}

struct NamedFile {
  Name name{"open"};
  Memfd file = *Memfd::CreateNamed(name.text());
};

TEST(MemfdCampaignTest, OpenNamed) {
  const int faults = FailEachCall(
      [] { return NamedFile(); },
      [](NamedFile& named) { return Memfd::OpenNamed(named.name.text()); },
      kFailed,
      [](const NamedFile&, const absl::StatusOr<Memfd>& file) {
        EXPECT_FALSE(file.ok());
      });
  EXPECT_GT(faults, 0);
}

TEST(MemfdCampaignTest, UnlinkNamed) {
  const int faults = FailEachCall(
      [] { return NamedFile(); },
      [](NamedFile& named) { return Memfd::UnlinkNamed(named.name.text()); },
      kFailed,
      [](const NamedFile& named, const absl::Status& status) {
        EXPECT_FALSE(status.ok());
        EXPECT_THAT(Memfd::OpenNamed(named.name.text()), IsOk());
      });
  EXPECT_GT(faults, 0);
}

// A file, and a descriptor of it that comes from elsewhere.
struct ForeignFile {
  ForeignFile() = default;
  ForeignFile(const ForeignFile&) = delete;
  ForeignFile& operator=(const ForeignFile&) = delete;
  ~ForeignFile() {
    if (fd >= 0) close(fd);
  }

  File file = MakeFile();
  int fd = dup(file.memfd.fd());  // Not close-on-exec; -1 once adopted.
};

TEST(MemfdCampaignTest, Adopt) {
  const int faults = FailEachCall(
      [] { return ForeignFile(); },
      [](ForeignFile& foreign) {
        auto adopted =
            Memfd::Adopt(foreign.fd, {.exact_seals = foreign.file.before.seals,
                                      .size_bytes = kFileBytes,
                                      .page_bytes = BasePageBytes()});
        if (adopted.ok()) foreign.fd = -1;
        return adopted;
      },
      kFailed,
      [](const ForeignFile& foreign, const absl::StatusOr<Memfd>& adopted) {
        ASSERT_FALSE(adopted.ok());
        EXPECT_EQ(fcntl(foreign.fd, F_GETFD), 0) << "the caller's, as it was";
        EXPECT_TRUE(Take(foreign.file.memfd) == foreign.file.before);
      });
  EXPECT_GT(faults, 0);
}

TEST(MemfdCampaignTest, OpenOf) {
  const int faults = FailEachCall(
      MakeFile,
      [](File& file) {
        return Memfd::OpenOf(
            getpid(), file.memfd.fd(),
            {.exact_seals = file.before.seals, .size_bytes = kFileBytes});
      },
      kFailed,
      [](const File& file, const absl::StatusOr<Memfd>& opened) {
        // A file that may not be written is opened for reading.
        if (opened.ok()) {
          EXPECT_EQ(Contents(*opened), file.before.contents);
          EXPECT_EQ(fcntl(opened->fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
        }
        EXPECT_TRUE(Take(file.memfd) == file.before);
      });
  EXPECT_GT(faults, 0);
}

// A file and the two ends of a Unix socket.
struct Sockets {
  Sockets() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0); }
  ~Sockets() {
    close(ends[0]);
    close(ends[1]);
  }
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;

  bool MessageWaits() const {
    char byte = 0;
    return recv(ends[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0;
  }

  File file = MakeFile();
  int ends[2] = {-1, -1};
};

TEST(MemfdCampaignTest, Send) {
  const int faults = FailEachCall(
      [] { return Sockets(); },
      [](Sockets& sockets) { return sockets.file.memfd.Send(sockets.ends[0]); },
      kFailed,
      [](const Sockets& sockets, const absl::Status& sent) {
        EXPECT_FALSE(sent.ok());
        EXPECT_FALSE(sockets.MessageWaits());
        EXPECT_TRUE(Take(sockets.file.memfd) == sockets.file.before);
      });
  EXPECT_GT(faults, 0);
}

struct SentFile : Sockets {
  SentFile() { EXPECT_THAT(file.memfd.Send(ends[0]), IsOk()); }
};

// A received descriptor is the process's own at once: a refusal closes it.
TEST(MemfdCampaignTest, Receive) {
  const int faults =
      FailEachCall([] { return SentFile(); },
                   [](SentFile& sent) {
                     return Memfd::Receive(
                         sent.ends[1], {.exact_seals = sent.file.before.seals,
                                        .min_size_bytes = kFileBytes});
                   },
                   kFailed,
                   [](const SentFile& sent, const absl::StatusOr<Memfd>& file) {
                     EXPECT_FALSE(file.ok());
                     EXPECT_TRUE(Take(sent.file.memfd) == sent.file.before);
                   });
  EXPECT_GT(faults, 0);
}

// The limit is on growth, so shrinking does without getrlimit(2).
TEST(MemfdCampaignTest, Shrink) {
  const int faults = FailEachCall(
      MakeFile, [](File& file) { return file.memfd.Resize(4096); }, kFailed,
      [](const File& file, const absl::Status& shrunk) {
        if (shrunk.ok()) {
          EXPECT_EQ(file.memfd.Query()->size_bytes, 4096);
        } else {
          EXPECT_TRUE(Take(file.memfd) == file.before);
        }
      });
  EXPECT_GT(faults, 0);
}

TEST(MemfdCampaignTest, SizeAndPages) {
  ExpectEachFaultIsAnError([](Memfd& file) { return file.Resize(1 << 20); });
  ExpectEachFaultIsAnError(
      [](Memfd& file) { return file.Reserve(4096, kFileBytes); });
  ExpectEachFaultIsAnError([](Memfd& file) { return file.PunchHole(0, 4096); });
}

TEST(MemfdCampaignTest, Seals) {
  ExpectEachFaultIsAnError(
      [](Memfd& file) { return file.AddSeals(Seal::kShrink | Seal::kWrite); });
  ExpectEachFaultIsAnError([](Memfd& file) { return file.Seals(); });
  ExpectEachFaultIsAnError(
      [](Memfd& file) { return file.RequireSeals(Seal::kNone); });
}

TEST(MemfdCampaignTest, ReadWriteQueryDuplicate) {
  std::string text(4096, 'w');
  ExpectEachFaultIsAnError(
      [&](Memfd& file) { return file.WriteAt(100, Bytes(text)); });
  ExpectEachFaultIsAnError([&](Memfd& file) {
    return file.ReadAt(100, std::as_writable_bytes(std::span(text)));
  });
  ExpectEachFaultIsAnError([](Memfd& file) { return file.Query(); });
  ExpectEachFaultIsAnError([](Memfd& file) { return file.Duplicate(); });
}

// No page leaves the pool for good: its state cannot change what is found.
TEST(MemfdCampaignTest, HugetlbFiles) {
  if (!FindHugetlbPool(2 << 20).ok()) GTEST_SKIP() << "no 2 MiB pages here";
  const auto make = [] {
    return *Memfd::Create({.page_size = PageSize::Huge2MiB()});
  };
  const auto unchanged = [](const Memfd& file, const absl::Status& status) {
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(file.Query()->size_bytes, 0);
    EXPECT_EQ(file.Query()->allocated_bytes, 0);
  };
  const auto resize = [](Memfd& file) { return file.Resize(2 << 20); };
  const auto punch = [](Memfd& file) { return file.PunchHole(0, 2 << 20); };
  const auto reserve = [](Memfd& file) { return file.Reserve(0, 2 << 20); };
  EXPECT_GT(FailEachCall(make, resize, kFailed, unchanged), 0);
  EXPECT_GT(FailEachCall(make, punch, kFailed, unchanged), 0);
  EXPECT_GT(FailEachCall(make, reserve, kFailed, unchanged), 0);
}

}  // namespace
}  // namespace doppel
