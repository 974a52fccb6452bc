// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/spsc_pacing.h"

#include <cstdint>

#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/spsc_protocol.h"
#include "doppel/containers/internal/spsc_shared.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

constexpr uint64_t kItemBytes = 8;
constexpr uint64_t kFew = SpscPacing::kFewBytes / kItemBytes;
constexpr uint64_t kLine = SpscPacing::kLineBytes / kItemBytes;

SpscPacing Fresh() { return SpscPacing(kItemBytes, /*pause_ns=*/10); }

// At the other side's heels.
SpscPacing Paced() {
  SpscPacing pacing = Fresh();
  pacing.Found(kLine + 1);
  pacing.Found(kLine + 1);
  return pacing;
}

TEST(PauseTest, TakesSomeNanoseconds) {
  const double pause_ns = MeasurePauseNs();
  EXPECT_GT(pause_ns, 0);
  EXPECT_LT(pause_ns, 1e6);
}

TEST(SpscPacingTest, WaitsFromTheSecondSmallFindOn) {
  SpscPacing pacing = Fresh();
  EXPECT_EQ(pacing.pauses(), 0);
  pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 0);
  pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 22) << "220 ns of pauses of 10 ns";
  pacing.Found(kLine + 1);
  EXPECT_EQ(pacing.pauses(), 22) << "it was worth waiting for";
}

TEST(SpscPacingTest, WhoFindsNothingOrMuchDoesNotWait) {
  for (const uint64_t found : {uint64_t{0}, kFew, kFew + 1}) {
    SpscPacing pacing = Paced();
    ASSERT_GT(pacing.pauses(), 0);
    pacing.Found(found);
    EXPECT_EQ(pacing.pauses(), 0) << found;
    pacing.Found(kFew - 1);
    EXPECT_EQ(pacing.pauses(), 0) << found;
    pacing.Found(kFew - 1);
    EXPECT_GT(pacing.pauses(), 0) << found;
  }
}

// Both sides in one thread find one item each time: waiting brings nothing.
TEST(SpscPacingTest, RestsWhereWaitingBringsNothing) {
  SpscPacing pacing = Fresh();
  constexpr int kLooks = 100 * SpscPacing::kRestLooks;
  int waits = 0;
  for (int i = 0; i < kLooks; ++i) {
    if (pacing.pauses() > 0) ++waits;
    pacing.Found(1 + static_cast<uint64_t>(i) % kLine);
  }
  EXPECT_GE(waits, 90) << "it never tries again";
  EXPECT_LE(waits, 100);
}

TEST(SpscPacingTest, TheIntervalIsBoundedOnAnyProcessor) {
  for (const double pause_ns : {1e-9, 0.5, 5.0, 70.0, 1e9}) {
    SpscPacing pacing(kItemBytes, pause_ns);
    pacing.Found(1);
    pacing.Found(1);
    EXPECT_GE(pacing.pauses(), 1) << pause_ns;
    EXPECT_LE(pacing.pauses(), 64) << pause_ns;
  }
}

TEST(SpscPacingTest, ItemsOfAnySizeRest) {
  for (const uint64_t item_bytes : {1, 64, 100, 2000}) {
    SpscPacing pacing(item_bytes, 10);
    for (int i = 0; i < 3; ++i) pacing.Found(1);
    EXPECT_EQ(pacing.pauses(), 0) << item_bytes;
  }
  // One item of a page is much already.
  SpscPacing pacing(4096, 10);
  for (int i = 0; i < 3; ++i) pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 0);
}

TEST(SpscPacingTest, ByDefaultNobodyWaits) {
  SpscPacing pacing;
  for (int i = 0; i < 10; ++i) {
    pacing.Found(1);
    ASSERT_EQ(pacing.pauses(), 0);
  }
}

// The cursors look as often, and see the same, with pacing as without.
TEST(SpscPacingTest, CursorsSeeAllThatWasPublished) {
  constexpr uint64_t kCapacity = 1024;
  SpscShared shared;
  SpscWriterCursor<> writer(&shared.write_position, &shared.read_position,
                            kCapacity, Fresh());
  SpscReaderCursor<> reader(&shared.read_position, &shared.write_position,
                            kCapacity, Fresh());
  for (uint64_t i = 0; i < 10 * kCapacity; ++i) {
    const uint64_t n = 1 + i % (2 * kLine);
    ASSERT_GE(writer.FreeFor(n), n) << i;
    writer.Publish(n);
    ASSERT_EQ(reader.ReadableFor(n), n) << i;
    reader.Release(n);
    ASSERT_EQ(reader.ReadableFor(1), 0) << i;
  }
}

}  // namespace
}  // namespace doppel::internal
