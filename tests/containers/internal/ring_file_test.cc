// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_file.h"

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/ring_identity.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;

TEST(RingFile, IsWhatTheOtherSideAsksFor) {
  const uint64_t page = BasePageBytes();
  absl::StatusOr<RingFile> file = MakeRingFile({.name = "ring",
                                                .item_bytes = 24,
                                                .sides = kWriterHere,
                                                .min_bytes = page + 1});
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->identity.capacity_bytes, 2 * page);
  EXPECT_EQ(file->memfd.Query()->size_bytes, 3 * page);
  EXPECT_EQ(*file->memfd.Seals() & kRingFileSeals, Seal::kNone);
  const IdentityDemand demand = {.item_bytes = 24, .sides = kWriterHere};
  EXPECT_THAT(ReadIdentity(file->memfd, 0, demand),
              StatusIs(absl::StatusCode::kInvalidArgument))
      << "it is not in the file yet";

  absl::StatusOr<Mapping> header = ShowHeader(file->memfd, 0, {});
  ASSERT_THAT(header, IsOk());
  (new (header->data()) RingHeader<>())->identity = file->identity;
  ASSERT_THAT(file->memfd.AddSeals(kRingFileSeals), IsOk());
  const absl::StatusOr<RingIdentity> read =
      ReadIdentity(file->memfd, 0, demand);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->items_offset_bytes, page);
  EXPECT_EQ(read->capacity_bytes, 2 * page);
  EXPECT_TRUE(Faults(header->data() - 1));
  EXPECT_TRUE(Faults(header->data() + page));
}

TEST(RingFile, OfWordsOnlyIsOnePage) {
  absl::StatusOr<RingFile> file =
      MakeRingFile({.name = "ring", .sides = kReaderHere});
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->identity.capacity_bytes, 0);
  EXPECT_EQ(file->memfd.Query()->size_bytes, BasePageBytes());
}

TEST(RingFile, ItemsFollowTheHeader) {
  const uint64_t page = BasePageBytes();
  absl::StatusOr<RingFile> file = MakeRingFile(
      {.name = "ring", .item_bytes = 24, .sides = kWriterHere, .min_bytes = 1});
  ASSERT_THAT(file, IsOk());
  absl::StatusOr<Mirror> written = ShowItems(file->memfd, file->identity, {});
  absl::StatusOr<Mirror> read =
      ShowItems(file->memfd, file->identity, {.protection = Protection::kRead});
  ASSERT_THAT(written, IsOk());
  ASSERT_THAT(read, IsOk());
  written->data()[page - 1] = std::byte{7};
  EXPECT_EQ(read->data()[page - 1], std::byte{7});
  EXPECT_EQ(read->views(), Mirror::kMaxViews);
  std::array<std::byte, 1> last = {};
  EXPECT_EQ(*file->memfd.ReadAt(2 * page - 1, last), 1);
  EXPECT_EQ(last[0], std::byte{7});
}

TEST(RingFile, AnExtentsHeader) {
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
  ASSERT_THAT(arena, IsOk());
  const absl::StatusOr<Extent> extent = (*arena)->Allocate(1);
  ASSERT_THAT(extent, IsOk());
  const absl::StatusOr<Mapping> header = ShowHeader(*extent);
  ASSERT_THAT(header, IsOk());
  header->data()[0] = std::byte{7};
  std::array<std::byte, 1> first = {};
  EXPECT_EQ(*(*arena)->memfd().ReadAt(extent->offset_bytes(), first), 1);
  EXPECT_EQ(first[0], std::byte{7});
}

TEST(RingFile, MoreThanTheMachineHasIsRefused) {
  EXPECT_THAT(MakeRingFile({.name = "ring", .min_bytes = UINT64_MAX}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(MakeRingFile({.name = "ring", .min_bytes = uint64_t{1} << 62}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

// A descriptor that is refused is closed all the same: nobody else has it.
TEST(RingFile, WhatIsNoFileIsClosed) {
  EXPECT_FALSE(AdoptRingFile(-1).ok());
  const LeakCheck before;
  std::array<int, 2> ends = {-1, -1};
  ASSERT_EQ(pipe(ends.data()), 0);
  EXPECT_FALSE(AdoptRingFile(ends[0]).ok());
  EXPECT_FALSE(AdoptRingFile(ends[1]).ok());
  EXPECT_TRUE(before.Unchanged());
}

}  // namespace
}  // namespace doppel::internal
