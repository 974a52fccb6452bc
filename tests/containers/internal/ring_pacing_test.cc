// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_pacing.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "doppel/containers/internal/pause.h"
#include "doppel/containers/ring_protocol.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

constexpr uint64_t kItemBytes = 8;
constexpr uint64_t kRingBytes = 1 << 20;
constexpr uint64_t kMuch = RingPacing::kMuchBytes / kItemBytes;
constexpr uint64_t kLine = RingPacing::kLineBytes / kItemBytes;

// Where an interval is 22 pauses.
RingPacing Fresh(uint64_t ring_bytes = kRingBytes) {
  return RingPacing(kItemBytes, ring_bytes, /*pause_ns=*/10);
}

// At the other side's heels.
RingPacing Paced() {
  RingPacing pacing = Fresh();
  pacing.Found(kLine + 1);
  pacing.Found(kLine + 1);
  return pacing;
}

TEST(PauseTest, TakesSomeNanoseconds) {
  const double pause_ns = MeasurePauseNs();
  EXPECT_GT(pause_ns, 0);
  EXPECT_LT(pause_ns, 1e6);
}

TEST(RingPacingTest, WaitsFromTheSecondSmallFindOn) {
  RingPacing pacing = Fresh();
  EXPECT_EQ(pacing.pauses(), 0);
  pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 0);
  pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 22) << "220 ns of pauses of 10 ns";
}

TEST(RingPacingTest, WaitsTwiceAsLongWhileTheOtherSideGivesMore) {
  RingPacing pacing = Paced();
  uint32_t pauses = 22;
  for (int i = 0; i < RingPacing::kDoublings; ++i, pauses *= 2) {
    EXPECT_EQ(pacing.pauses(), pauses);
    pacing.Found(kMuch - 1);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pacing.pauses(), pauses) << "the longest";
    pacing.Found(kMuch - 1);
  }
}

TEST(RingPacingTest, WaitsHalfAsLongWhereTheOtherSideHasNoMoreToGive) {
  RingPacing pacing = Paced();
  pacing.Found(kMuch - 1);
  pacing.Found(kMuch - 1);
  ASSERT_EQ(pacing.pauses(), 88);
  pacing.Found(kLine + 1);
  EXPECT_EQ(pacing.pauses(), 44);
  for (int i = 0; i < 3; ++i) {
    pacing.Found(kLine + 1);
    EXPECT_LE(pacing.pauses(), 44) << "for a line or two nobody waits long";
  }
  pacing.Found(0);
  pacing.Found(kLine + 1);
  pacing.Found(kLine + 1);
  EXPECT_EQ(pacing.pauses(), 22) << "who found nothing begins anew";
}

// Or the other side would run full, or be dry, while this one waits.
TEST(RingPacingTest, ASmallRingHasShortWaitsAndIsSoonHalfFull) {
  for (const uint64_t ring_bytes : {4096, 8192, 16384}) {
    RingPacing pacing = Fresh(ring_bytes);
    const uint64_t half = ring_bytes / 2 / kItemBytes;
    for (int i = 0; i < 10; ++i) pacing.Found(half - 1);
    EXPECT_LE(pacing.pauses() * 10.0,
              std::max(static_cast<double>(ring_bytes / 2) /
                           RingPacing::kFullBytesPerNs,
                       RingPacing::kLookIntervalNs));
    EXPECT_GT(pacing.pauses(), 0);
    pacing.Found(half);
    EXPECT_EQ(pacing.pauses(), 0);
  }
}

TEST(RingPacingTest, WhoFindsNothingOrMuchDoesNotWait) {
  for (const uint64_t found : {uint64_t{0}, kMuch, kMuch + 1}) {
    RingPacing pacing = Paced();
    ASSERT_GT(pacing.pauses(), 0);
    pacing.Found(found);
    EXPECT_EQ(pacing.pauses(), 0) << found;
    pacing.Found(kMuch - 1);
    EXPECT_EQ(pacing.pauses(), 0) << found;
    pacing.Found(kMuch - 1);
    EXPECT_GT(pacing.pauses(), 0) << found;
  }
}

// Both sides in one thread find one item each time: waiting brings nothing.
TEST(RingPacingTest, RestsWhereWaitingBringsNothing) {
  RingPacing pacing = Fresh();
  constexpr int kLooks = 100 * RingPacing::kRestLooks;
  int waits = 0;
  for (int i = 0; i < kLooks; ++i) {
    if (pacing.pauses() > 0) ++waits;
    pacing.Found(1 + static_cast<uint64_t>(i) % kLine);
  }
  EXPECT_GE(waits, 90) << "it never tries again";
  EXPECT_LE(waits, 100);
}

TEST(RingPacingTest, TheIntervalIsBoundedOnAnyProcessor) {
  for (const double pause_ns : {1e-9, 0.5, 5.0, 70.0, 1e9}) {
    RingPacing pacing(kItemBytes, kRingBytes, pause_ns);
    pacing.Found(1);
    pacing.Found(1);
    EXPECT_GE(pacing.pauses(), 1) << pause_ns;
    for (int i = 0; i < 10; ++i) pacing.Found(kMuch - 1);
    EXPECT_LE(pacing.pauses(), 64 << RingPacing::kDoublings) << pause_ns;
  }
}

TEST(RingPacingTest, ItemsOfAnySizeRest) {
  for (const uint64_t item_bytes : {1, 64, 100, 2000}) {
    RingPacing pacing(item_bytes, kRingBytes, 10);
    for (int i = 0; i < 3; ++i) pacing.Found(1);
    EXPECT_EQ(pacing.pauses(), 0) << item_bytes;
  }
  // One item of four pages is much already.
  RingPacing pacing(16384, kRingBytes, 10);
  for (int i = 0; i < 3; ++i) pacing.Found(1);
  EXPECT_EQ(pacing.pauses(), 0);
}

TEST(RingPacingTest, ByDefaultNobodyWaits) {
  RingPacing pacing;
  for (int i = 0; i < 10; ++i) {
    pacing.Found(1);
    ASSERT_EQ(pacing.pauses(), 0);
  }
}

// The cursors look as often, and see the same, with pacing as without.
TEST(RingPacingTest, CursorsSeeAllThatWasPublished) {
  constexpr uint64_t kCapacity = 1024;
  // On the heap: ASan's stack does not keep an alignment of 128.
  const auto writer_side = std::make_unique<RingSide<>>();
  const auto reader_side = std::make_unique<RingSide<>>();
  auto writer_watch = RingWatch<>::Writer(writer_side.get(), reader_side.get(),
                                          kCapacity, Fresh());
  auto reader_watch = RingWatch<>::Reader(reader_side.get(), writer_side.get(),
                                          kCapacity, Fresh());
  RingCursor<> writer(&writer_watch);
  RingCursor<> reader(&reader_watch);
  for (uint64_t i = 0; i < 10 * kCapacity; ++i) {
    const uint64_t n = 1 + i % (2 * kLine);
    ASSERT_GE(writer.AvailableFor(n), n) << i;
    writer.Stage(n);
    ASSERT_FALSE(writer.Publish());
    ASSERT_EQ(reader.AvailableFor(n), n) << i;
    reader.Finish(n);
    ASSERT_FALSE(reader.Publish());
    ASSERT_EQ(reader.AvailableFor(1), 0) << i;
  }
}

}  // namespace
}  // namespace doppel::internal
