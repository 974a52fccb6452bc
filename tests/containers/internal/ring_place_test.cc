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

// Items of every size, over the end of the lap: each line ends once, and the place is
// where Advance would be.
TEST(RingPlace, EveryLineEndsOnce) {
  constexpr uint64_t kLines = 64;
  alignas(kCacheLineBytes) std::array<std::byte, kLines * kCacheLineBytes> lap;
  for (uint64_t item_bytes = 1; item_bytes <= 200; ++item_bytes) {
    RingPlace place(lap.data(), lap.size(), 0);
    RingPlace same = place;
    for (uint64_t at = 0; at < 3 * lap.size(); at += item_bytes) {
      const bool ends =
          (at + item_bytes) / kCacheLineBytes > at / kCacheLineBytes;
      ASSERT_EQ(place.EndsLine(item_bytes), ends) << item_bytes << " at " << at;
      same.Advance(item_bytes);
      ASSERT_EQ(place.here(), same.here()) << item_bytes << " at " << at;
    }
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
