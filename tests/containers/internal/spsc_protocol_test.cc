// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/spsc_protocol.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <random>

#include "doppel/containers/internal/spsc_shared.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

// An atomic word that keeps a record of how it is used.
class Recorded {
 public:
  uint64_t load(std::memory_order order) const {
    ++loads;
    last_load_order = order;
    return value;
  }
  void store(uint64_t to, std::memory_order order) {
    ++stores;
    last_store_order = order;
    value = to;
  }

  uint64_t value = 0;
  mutable int loads = 0;
  int stores = 0;
  mutable std::memory_order last_load_order = std::memory_order_seq_cst;
  std::memory_order last_store_order = std::memory_order_seq_cst;
};

struct Positions {
  explicit Positions(uint64_t start = 0) {
    write.value = start;
    read.value = start;
  }
  Recorded write;
  Recorded read;
};

using Writer = SpscWriterCursor<Recorded>;
using Reader = SpscReaderCursor<Recorded>;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(SpscShared, EachPositionIsAloneOnItsLine) {
  alignas(kSharedLineBytes) SpscShared shared;
  const auto line = [](const void* at) {
    return reinterpret_cast<uintptr_t>(at) / kSharedLineBytes;
  };
  EXPECT_NE(line(&shared.write_position), line(&shared.read_position));
  EXPECT_NE(line(&shared.write_position), line(&shared.writer));
  EXPECT_NE(line(&shared.read_position), line(&shared.writer));
  EXPECT_NE(line(&shared.writer), line(&shared.reader));
}

TEST(SpscShared, ASideIsClaimedOnceAndKeepsItsOffset) {
  SpscParking side;
  EXPECT_FALSE(side.taken());
  EXPECT_TRUE(side.Claim());
  EXPECT_FALSE(side.Claim());
  EXPECT_TRUE(side.taken());
  side.Leave(40);
  EXPECT_FALSE(side.taken());
  EXPECT_TRUE(side.Claim());
  EXPECT_EQ(side.offset_bytes(), 40);
}

TEST(SpscProtocol, OrdersWhatItHandsOver) {
  Positions positions;
  Writer writer(&positions.write, &positions.read, 8);
  Reader reader(&positions.read, &positions.write, 8);
  ASSERT_EQ(writer.FreeFor(1), 8);
  EXPECT_EQ(positions.read.last_load_order, std::memory_order_acquire);
  writer.Publish(1);
  EXPECT_EQ(positions.write.last_store_order, std::memory_order_release);
  ASSERT_EQ(reader.ReadableFor(1), 1);
  EXPECT_EQ(positions.write.last_load_order, std::memory_order_acquire);
  reader.Release(1);
  EXPECT_EQ(positions.read.last_store_order, std::memory_order_release);
}

TEST(SpscProtocol, LooksOnlyWhenItKnowsTooLittle) {
  Positions positions;
  Writer writer(&positions.write, &positions.read, 8);
  Reader reader(&positions.read, &positions.write, 8);
  positions.read.loads = 0;
  positions.write.loads = 0;
  for (int i = 0; i < 8; ++i) {
    ASSERT_GE(writer.FreeFor(1), 1);
    writer.Publish(1);
  }
  EXPECT_EQ(positions.read.loads, 1);
  for (int i = 0; i < 8; ++i) {
    ASSERT_GE(reader.ReadableFor(1), 1);
    reader.Release(1);
  }
  EXPECT_EQ(positions.write.loads, 1);
  EXPECT_EQ(positions.read.stores, 8);
}

TEST(SpscProtocol, ContinuesWhereThePositionsStand) {
  Positions positions(1000);
  positions.write.value = 1005;
  Writer writer(&positions.write, &positions.read, 8);
  Reader reader(&positions.read, &positions.write, 8);
  EXPECT_EQ(writer.position(), 1005);
  EXPECT_EQ(writer.known_free(), 0);
  EXPECT_EQ(reader.known_readable(), 0);
  EXPECT_EQ(writer.FreeFor(1), 3);
  EXPECT_EQ(reader.ReadableFor(1), 5);
}

// The two sides agree with counting, at random, over the end of 2^64.
TEST(SpscProtocol, AgreesWithCountingAcrossTheWrapOfPositions) {
  for (const uint64_t start : {uint64_t{0}, kMax - 50, kMax}) {
    for (const uint64_t capacity : {1, 2, 7, 64}) {
      Positions positions(start);
      Writer writer(&positions.write, &positions.read, capacity);
      Reader reader(&positions.read, &positions.write, capacity);
      std::mt19937_64 random(start + capacity);
      uint64_t held = 0;
      for (int step = 0; step < 2000; ++step) {
        const uint64_t wanted = random() % (capacity + 2);
        if (random() % 2 == 0) {
          const uint64_t known = writer.FreeFor(wanted);
          ASSERT_LE(known, capacity - held);
          ASSERT_EQ(known >= wanted, capacity - held >= wanted);
          if (known < wanted) continue;
          writer.Publish(wanted);
          held += wanted;
        } else {
          const uint64_t known = reader.ReadableFor(wanted);
          ASSERT_LE(known, held);
          ASSERT_EQ(known >= wanted, held >= wanted);
          if (known < wanted) continue;
          reader.Release(wanted);
          held -= wanted;
        }
      }
    }
  }
}

// At capacity 2, every order in which the two sides can make twelve calls.
TEST(SpscProtocol, EveryInterleavingOfCallsKeepsTheOrder) {
  constexpr int kSteps = 12;
  for (unsigned schedule = 0; schedule < 1U << kSteps; ++schedule) {
    SpscShared shared;
    SpscWriterCursor<> writer(&shared.write_position, &shared.read_position, 2);
    SpscReaderCursor<> reader(&shared.read_position, &shared.write_position, 2);
    std::array<int, 2> slots = {-1, -1};
    int pushed = 0;
    int popped = 0;
    for (int step = 0; step < kSteps; ++step) {
      if ((schedule >> step & 1) != 0) {
        const bool fits = pushed - popped < 2;
        ASSERT_EQ(writer.FreeFor(1) >= 1, fits);
        if (!fits) continue;
        slots[writer.position() % 2] = pushed++;
        writer.Publish(1);
      } else {
        ASSERT_EQ(reader.ReadableFor(1) >= 1, pushed > popped);
        if (pushed == popped) continue;
        ASSERT_EQ(slots[reader.position() % 2], popped++);
        reader.Release(1);
      }
    }
  }
}

// Bugs that others had.

// A consumer position that was rewritten gave reservations that overlap (BPF ring
// buffer, CVE-2024-41009): a position that cannot be true frees nothing.
TEST(SpscProtocolRegression, RewrittenPositionsGrantNoMoreThanTheRing) {
  constexpr uint64_t kCapacity = 8;
  for (const uint64_t lie : {uint64_t{101}, uint64_t{109}, kMax, kMax - 8,
                             uint64_t{1} << 63, uint64_t{0}, uint64_t{91}}) {
    Positions positions(100);
    Writer writer(&positions.write, &positions.read, kCapacity);
    positions.read.value = lie;
    EXPECT_EQ(writer.FreeFor(1), 0) << lie;
  }
  for (const uint64_t lie : {uint64_t{99}, uint64_t{109}, kMax, uint64_t{0}}) {
    Positions positions(100);
    Reader reader(&positions.read, &positions.write, kCapacity);
    positions.write.value = lie;
    EXPECT_EQ(reader.ReadableFor(1), 0) << lie;
  }
}

// A shared word that is loaded twice may change in between (XSA-155).
TEST(SpscProtocolRegression, OneLoadADecision) {
  Positions positions;
  Writer writer(&positions.write, &positions.read, 8);
  Reader reader(&positions.read, &positions.write, 8);
  positions.read.loads = 0;
  positions.write.loads = 0;
  EXPECT_EQ(writer.FreeFor(100), 8);
  EXPECT_EQ(positions.read.loads, 1);
  EXPECT_EQ(positions.write.loads, 0);
  EXPECT_EQ(reader.ReadableFor(100), 0);
  EXPECT_EQ(positions.write.loads, 1);
  EXPECT_EQ(positions.read.loads, 1);
}

}  // namespace
}  // namespace doppel::internal
