// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_end.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::IsOk;

class RingEndTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
    ASSERT_THAT(arena, IsOk());
    absl::StatusOr<Mirror> items = Mirror::Create(*arena, 1, GetParam());
    ASSERT_THAT(items, IsOk());
    items_ = *std::move(items);
    absl::StatusOr<Mirror> scratch = MakeScratch(items_, *arena);
    ASSERT_THAT(scratch, IsOk());
    scratch_ = *std::move(scratch);
  }

  Mirror items_;
  Mirror scratch_;
  RingSeat seat_;
};

TEST_P(RingEndTest, StandsOverItems) {
  const uint64_t bytes = items_.size_bytes();
  const RingEnd end = EndOver(items_, 24, seat_, scratch_, /*owns_lines=*/true);
  EXPECT_EQ(end.seat, &seat_);
  EXPECT_EQ(end.data, items_.data());
  EXPECT_EQ(end.item_bytes, 24);
  EXPECT_TRUE(end.owns_lines);
  // One view: the last item is whole, and what wraps is put together elsewhere.
  EXPECT_EQ(end.lap_bytes, GetParam() == 2 ? bytes : bytes / 24 * 24);
  EXPECT_EQ(end.scratch, scratch_.data());
  EXPECT_EQ(scratch_.size_bytes(), GetParam() == 2 ? 0 : bytes);
}

TEST_P(RingEndTest, KnowsThePlaceOfEachPosition) {
  const RingEnd end =
      EndOver(items_, 24, seat_, scratch_, /*owns_lines=*/false);
  RingPlace place = PlaceOf(end, 0);
  for (uint64_t position = 0; position < end.lap_bytes; ++position) {
    ASSERT_EQ(PlaceOf(end, position).here(), place.here()) << position;
    place.Advance(24);
  }
  // Bytes past 2^64.
  const uint64_t last = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(OffsetOf(end, last), (last % end.lap_bytes) * 24 % end.lap_bytes);
}

INSTANTIATE_TEST_SUITE_P(Views, RingEndTest,
                         ::testing::Range(1, Mirror::kMaxViews + 1));

}  // namespace
}  // namespace doppel::internal
