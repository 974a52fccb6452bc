// SPDX-License-Identifier: Apache-2.0
//
// The sealing protocol of memfd_create(2), "File sealing", between two processes: one
// makes, fills and seals a file; the other, a program of its own (this one, executed
// again), takes the descriptor, trusts it only if it is sealed, and tries what the
// seals forbid.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;

constexpr uint64_t kFileBytes = 8192;

// --- The peer: a process that trusts nobody. ---

// What the peer found, as its exit code; bits, so that each is seen.
enum Finding : unsigned {
  kRefused = 1,      // The descriptor is not what was promised.
  kWrongText = 2,    // The contents are not.
  kCouldWrite = 4,   // By write(2) or through a new writable mapping.
  kCouldResize = 8,  // To more or to less.
  kCouldPunch = 16,  // And so zero what the other process relies on.
  kNotStarted = 64,  // The program could not be executed.
};

// How the peer comes by the descriptor: argv of this program.
//   peer proc PID FD | peer socket SOCKET 0 | peer inherited FD 0
// followed by the seals and the text that it expects, and by the seals to add.
absl::StatusOr<Memfd> TakeFile(const std::string& way, int first, int second,
                               const Memfd::Expectation& expectation) {
  if (way == "proc") return Memfd::OpenOf(first, second, expectation);
  if (way == "socket") return Memfd::Receive(first, expectation);
  return Memfd::Adopt(first, expectation);
}

bool TextIs(const Memfd& file, const std::string& text) {
  void* const map =
      mmap(nullptr, kFileBytes, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (map == MAP_FAILED) return false;
  const bool same = std::memcmp(map, text.data(), text.size()) == 0;
  munmap(map, kFileBytes);
  return same;
}

unsigned TryToChange(Memfd& file) {
  unsigned findings = 0;
  const std::byte byte{'!'};
  void* const map = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED, file.fd(), 0);
  if (map != MAP_FAILED || file.WriteAt(0, std::span(&byte, 1)).ok()) {
    findings |= kCouldWrite;
  }
  if (file.Resize(2 * kFileBytes).ok() || file.Resize(4096).ok()) {
    findings |= kCouldResize;
  }
  if (file.PunchHole(0, 4096).ok()) findings |= kCouldPunch;
  return findings;
}

int PeerMain(const std::vector<std::string>& arguments) {
  int first = 0;
  int second = 0;
  int seals = 0;
  int more_seals = 0;
  if (arguments.size() != 6 || !absl::SimpleAtoi(arguments[1], &first) ||
      !absl::SimpleAtoi(arguments[2], &second) ||
      !absl::SimpleAtoi(arguments[3], &seals) ||
      !absl::SimpleAtoi(arguments[5], &more_seals)) {
    return kNotStarted;
  }
  absl::StatusOr<Memfd> file = TakeFile(
      arguments[0], first, second,
      {.exact_seals = static_cast<Seal>(seals), .size_bytes = kFileBytes});
  if (!file.ok()) {
    std::fprintf(stderr, "peer: %s\n", file.status().ToString().c_str());
    return kRefused;
  }
  unsigned findings = 0;
  if (!TextIs(*file, arguments[4])) findings |= kWrongText;
  if (more_seals != 0 && !file->AddSeals(static_cast<Seal>(more_seals)).ok()) {
    findings |= kRefused;
  }
  return static_cast<int>(findings | TryToChange(*file));
}

// --- The creator. ---

struct PeerCall {
  std::string way;
  int first = 0;
  int second = 0;
  Seal seals = Seal::kNone;
  std::string text = "sealed text";
  Seal more_seals = Seal::kNone;
};

// The wait status of the peer's process.
int RunPeer(const PeerCall& call) {
  const std::vector<std::string> words = {
      "sealing_protocol_test",
      "peer",
      call.way,
      absl::StrCat(call.first),
      absl::StrCat(call.second),
      absl::StrCat(static_cast<unsigned>(call.seals)),
      call.text,
      absl::StrCat(static_cast<unsigned>(call.more_seals))};
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  return testing::RunInChild([&] {
    execv("/proc/self/exe", argv.data());
    return static_cast<int>(kNotStarted);
  });
}

// The creator's first steps of the manual page: create, size, map, fill.
class Creator {
 public:
  Creator() : file_(*Memfd::Create({.name = "protocol"})) {
    EXPECT_THAT(file_.Resize(kFileBytes), IsOk());
    map_ = static_cast<char*>(mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE,
                                   MAP_SHARED, file_.fd(), 0));
    EXPECT_NE(map_, MAP_FAILED);
    Fill("sealed text");
  }
  ~Creator() { Unmap(); }
  Creator(const Creator&) = delete;
  Creator& operator=(const Creator&) = delete;

  void Fill(const std::string& text) {
    std::memcpy(map_, text.data(), text.size());
  }
  void Unmap() {
    if (map_ != nullptr) munmap(map_, kFileBytes);
    map_ = nullptr;
  }
  Memfd& file() { return file_; }
  // All, those it was born with too.
  Seal seals() const { return *file_.Seals(); }

 private:
  Memfd file_;
  char* map_ = nullptr;
};

constexpr Seal kFixed = Seal::kShrink | Seal::kGrow;

TEST(SealingProtocolTest, ThePeerCanChangeNothingAndSealsFurther) {
  const LeakCheck before;
  {
    Creator creator;
    // Write cannot be sealed while somebody could still write.
    EXPECT_THAT(creator.file().AddSeals(Seal::kWrite),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    creator.Unmap();
    ASSERT_THAT(creator.file().AddSeals(kFixed | Seal::kWrite), IsOk());
    EXPECT_TRUE(Exited(RunPeer({.way = "proc",
                                .first = getpid(),
                                .second = creator.file().fd(),
                                .seals = creator.seals(),
                                .more_seals = Seal::kSeal}),
                       0));
    // The peer's seal binds the creator as well.
    EXPECT_EQ(creator.seals() & Seal::kSeal, Seal::kSeal);
    EXPECT_FALSE(creator.file().AddSeals(Seal::kFutureWrite).ok());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(SealingProtocolTest, ThePeerRefusesAFileThatLacksSeals) {
  Creator creator;
  const Seal promised = creator.seals() | kFixed;
  const PeerCall call = {.way = "proc",
                         .first = getpid(),
                         .second = creator.file().fd(),
                         .seals = promised};
  EXPECT_TRUE(Exited(RunPeer(call), kRefused));
  ASSERT_THAT(creator.file().AddSeals(Seal::kShrink), IsOk());
  EXPECT_TRUE(Exited(RunPeer(call), kRefused));
  ASSERT_THAT(creator.file().AddSeals(Seal::kGrow), IsOk());
  EXPECT_FALSE(Exited(RunPeer(call), kRefused));
}

TEST(SealingProtocolTest, ThePeerRefusesAnotherSizeAndWhatIsNoMemory) {
  Memfd small = *Memfd::Create({});
  ASSERT_THAT(small.Resize(4096), IsOk());
  EXPECT_TRUE(Exited(RunPeer({.way = "proc",
                              .first = getpid(),
                              .second = small.fd(),
                              .seals = *small.Seals()}),
                     kRefused));
  EXPECT_TRUE(
      Exited(RunPeer({.way = "inherited", .first = STDERR_FILENO}), kRefused));
  EXPECT_TRUE(Exited(
      RunPeer({.way = "proc", .first = getpid(), .second = 99999}), kRefused));
}

// FUTURE_WRITE over a socket: the creator's old mapping goes on, peers only read.
TEST(SealingProtocolTest, FutureWriteLeavesTheCreatorAsTheOnlyWriter) {
  Creator creator;
  ASSERT_THAT(creator.file().AddSeals(kFixed | Seal::kFutureWrite), IsOk());
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  for (const char* text : {"sealed text", "text of later"}) {
    creator.Fill(text);
    ASSERT_THAT(creator.file().Send(ends[0]), IsOk());
    EXPECT_TRUE(Exited(RunPeer({.way = "socket",
                                .first = ends[1],
                                .seals = creator.seals(),
                                .text = text}),
                       0));
  }
  close(ends[0]);
  close(ends[1]);
}

TEST(SealingProtocolTest, ADescriptorIsInheritedOnlyIfToldSo) {
  Creator creator;
  creator.Unmap();
  ASSERT_THAT(creator.file().AddSeals(kFixed | Seal::kWrite), IsOk());
  const PeerCall call = {.way = "inherited",
                         .first = creator.file().fd(),
                         .seals = creator.seals()};
  EXPECT_TRUE(Exited(RunPeer(call), kRefused)) << "it is close-on-exec";
  ASSERT_EQ(fcntl(creator.file().fd(), F_SETFD, 0), 0);
  EXPECT_TRUE(Exited(RunPeer(call), 0));
}

// Why a ring wants FUTURE_WRITE: a fixed size alone protects no contents.
TEST(SealingProtocolTest, AFixedSizeStillLetsAPeerZeroTheContents) {
  Creator creator;
  ASSERT_THAT(creator.file().AddSeals(kFixed | Seal::kSeal), IsOk());
  EXPECT_TRUE(Exited(RunPeer({.way = "proc",
                              .first = getpid(),
                              .second = creator.file().fd(),
                              .seals = creator.seals()}),
                     kCouldWrite | kCouldPunch));
  std::byte first{};
  ASSERT_THAT(creator.file().ReadAt(0, std::span(&first, 1)), IsOk());
  EXPECT_EQ(first, std::byte{0});
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "peer") == 0) {
    return doppel::PeerMain({argv + 2, argv + argc});
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
