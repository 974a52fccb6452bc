// SPDX-License-Identifier: Apache-2.0
//
// A peer that shrinks the file which another process shows: whoever touches what was
// cut off dies of SIGBUS (Hyprland #7518, libqb #465). A file that its peers could
// shrink is refused before it is mapped; one that is sealed they cannot shrink.

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kFileBytes = 8192;

// What the peer made, and goes on holding.
Memfd MakePeersFile(const std::string& text) {
  Memfd file = *Memfd::Create({.name = "peer"});
  EXPECT_THAT(file.Resize(kFileBytes), IsOk());
  EXPECT_THAT(
      file.WriteAt(kFileBytes - text.size(), std::as_bytes(std::span(text))),
      IsOk());
  return file;
}

// The wait status of the peer's process, whose exit code is what ftruncate(2) left in
// errno, or 0 where the file was shrunk.
int PeerShrinks(const Memfd& file) {
  return RunInChild([&] { return ftruncate(file.fd(), 0) == 0 ? 0 : errno; });
}

// The reader's steps: trust the descriptor only with exactly these seals, then map.
absl::StatusOr<Mapping> MapIfSealed(const Memfd& peers, Seal exact_seals) {
  auto file =
      Memfd::OpenOf(getpid(), peers.fd(),
                    {.exact_seals = exact_seals, .size_bytes = kFileBytes});
  if (!file.ok()) return file.status();
  auto mapping = Mapping::Reserve(kFileBytes);
  if (!mapping.ok()) return mapping.status();
  absl::Status shown =
      mapping->Show(*file, 0, kFileBytes, 0, {.protection = Protection::kRead});
  if (!shown.ok()) return shown;
  return mapping;
}

bool EndsWith(const Mapping& mapping, const std::string& text) {
  return std::memcmp(mapping.data() + kFileBytes - text.size(), text.data(),
                     text.size()) == 0;
}

TEST(TruncatingPeerTest, AFileThatCouldBeShrunkIsRefusedBeforeItIsMapped) {
  const Memfd peers = MakePeersFile("text");
  const Seal as_it_is = *peers.Seals();
  const LeakCheck before;
  EXPECT_THAT(
      MapIfSealed(peers, as_it_is | Seal::kShrink),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("SHRINK")));
  EXPECT_TRUE(before.Unchanged()) << "no mapping, no descriptor";

  // What would have come of it.
  const auto trusting = MapIfSealed(peers, as_it_is);
  ASSERT_THAT(trusting, IsOk());
  EXPECT_TRUE(EndsWith(*trusting, "text"));
  EXPECT_TRUE(Exited(PeerShrinks(peers), 0));
  EXPECT_TRUE(Faults(trusting->data()));
  EXPECT_TRUE(Faults(trusting->data() + kFileBytes - 1));
}

TEST(TruncatingPeerTest, AFileThatWasShrunkMeanwhileIsRefused) {
  Memfd peers = MakePeersFile("text");
  EXPECT_TRUE(Exited(PeerShrinks(peers), 0));
  ASSERT_THAT(peers.AddSeals(Seal::kShrink), IsOk());
  EXPECT_THAT(MapIfSealed(peers, *peers.Seals()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("has 0 bytes")));
}

TEST(TruncatingPeerTest, ASealedFileStaysReadableWhateverThePeerDoes) {
  Memfd peers = MakePeersFile("text");
  ASSERT_THAT(peers.AddSeals(Seal::kShrink), IsOk());
  const auto mapping = MapIfSealed(peers, *peers.Seals());
  ASSERT_THAT(mapping, IsOk());
  EXPECT_TRUE(Exited(PeerShrinks(peers), EPERM));
  EXPECT_FALSE(Faults(mapping->data()));
  EXPECT_FALSE(Faults(mapping->data() + kFileBytes - 1));
  EXPECT_TRUE(EndsWith(*mapping, "text"));
}

// Who must trust an unsealed file asks the kernel instead of touching it.
TEST(TruncatingPeerTest, PopulatingTellsWhatATouchWouldBeSigbus) {
  const Memfd peers = MakePeersFile("text");
  auto mapping = MapIfSealed(peers, *peers.Seals());
  ASSERT_THAT(mapping, IsOk());
  EXPECT_THAT(mapping->Populate(0, kFileBytes, Protection::kRead), IsOk());
  EXPECT_TRUE(Exited(PeerShrinks(peers), 0));
  EXPECT_THAT(mapping->Populate(0, kFileBytes, Protection::kRead),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace doppel
