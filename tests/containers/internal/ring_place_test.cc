// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_place.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

TEST(RingPlace, GoesRound) {
  std::array<std::byte, 24> memory = {};
  RingPlace place(memory.data(), 24, 16);
  EXPECT_EQ(place.here(), &memory[16]);
  EXPECT_EQ(place.bytes_to_wrap(), 8);
  place.Advance(4);
  EXPECT_EQ(place.here(), &memory[20]);
  place.Advance(4);
  EXPECT_EQ(place.here(), memory.data());
  place.Advance(24);
  EXPECT_EQ(place.here(), memory.data()) << "a whole lap";
}

// Items of every size up to a line: each line is entered once.
TEST(RingPlace, EveryLineIsEnteredOnce) {
  constexpr uint64_t kLap = 64 * kCacheLineBytes;
  for (uint64_t item_bytes = 1; item_bytes <= kCacheLineBytes; ++item_bytes) {
    RingPlace place(nullptr, kLap, 0);
    uint64_t entered = 0;
    for (uint64_t at = 0; at < kLap; at += item_bytes) {
      if (place.EntersLine(item_bytes)) ++entered;
      place.Advance(item_bytes);
    }
    EXPECT_EQ(entered, kLap / kCacheLineBytes) << item_bytes;
  }
}

TEST(RingPlace, TakeLinesWritesTheLastByteOfEachLineThatEndsInTheRun) {
  alignas(64) std::array<std::byte, 256> memory;
  for (size_t begin = 0; begin < 130; ++begin) {
    for (size_t bytes = 0; begin + bytes <= memory.size(); ++bytes) {
      memory.fill(std::byte{1});
      TakeLines(memory.data() + begin, bytes);
      for (size_t i = 0; i < memory.size(); ++i) {
        const bool taken = i % 64 == 63 && begin <= i && i < begin + bytes;
        ASSERT_EQ(memory[i] == std::byte{0}, taken)
            << i << " of " << begin << " + " << bytes;
      }
    }
  }
}

}  // namespace
}  // namespace doppel::internal
