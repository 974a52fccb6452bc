// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_layout.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace doppel {
namespace {

constexpr size_t kHeaderBytes = 896;

// The words of a header, byte for byte, as another program would read them.
std::vector<uint8_t> BytesOf(const RingHeader<>& header) {
  std::vector<uint8_t> bytes(sizeof(header));
  std::memcpy(bytes.data(), static_cast<const void*>(&header), bytes.size());
  return bytes;
}

TEST(RingLayout, GoldenBytes) {
  if (std::endian::native != std::endian::little) {
    GTEST_SKIP() << "the bytes are written down for little-endian machines";
  }
  const auto header = std::make_unique<RingHeader<>>();
  header->identity.page_bytes = 0x1000;
  header->identity.items_offset_bytes = 0x1000;
  header->identity.capacity_bytes = 0x10000;
  header->identity.item_bytes = 8;
  header->identity.sides = kWriterHere | kReaderHere;
  header->identity.number = 0xbb;
  header->writer.position = 0x0102030405060708;
  header->writer.wish = 0x11;
  header->writer.wake_by = WakeBy::kEvent;
  header->writer.fenced = 0x99;
  header->writer.signal = 0x22;
  header->writer.closed = 1;
  header->writer.finished = 0x33;
  header->writer.stalls = 0x44;
  header->writer.refusals = 0x55;
  header->writer.high_water = 0x66;
  header->writer.link = 0xaa;
  header->reader.position = 0x77;
  header->reader.high_water = 0x88;

  std::map<size_t, uint8_t> expected = {
      // identity: "doppring", version, page, items, capacity, item, sides
      {0, 'd'},
      {1, 'o'},
      {2, 'p'},
      {3, 'p'},
      {4, 'r'},
      {5, 'i'},
      {6, 'n'},
      {7, 'g'},
      {8, 3},
      {13, 0x10},
      {17, 0x10},
      {26, 0x01},
      {32, 8},
      {40, 3},
      {48, 0xbb},
      // writer
      {128, 8},
      {129, 7},
      {130, 6},
      {131, 5},
      {132, 4},
      {133, 3},
      {134, 2},
      {135, 1},
      {256, 0x11},
      {264, 1},
      {268, 0x99},
      {384, 0x22},
      {388, 1},
      {392, 0x33},
      {400, 0x44},
      {408, 0x55},
      {416, 0x66},
      {424, 0xaa},
      // reader
      {512, 0x77},
      {800, 0x88},
  };
  const std::vector<uint8_t> bytes = BytesOf(*header);
  ASSERT_EQ(bytes.size(), kHeaderBytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto found = expected.find(i);
    EXPECT_EQ(bytes[i], found == expected.end() ? 0 : found->second) << i;
  }
}

TEST(RingLayout, ZeroBytesAreTwoSidesAtRest) {
  const auto fresh = std::make_unique<RingHeader<>>();
  const std::vector<uint8_t> bytes = BytesOf(*fresh);
  for (size_t i = offsetof(RingHeader<>, writer); i < bytes.size(); ++i) {
    EXPECT_EQ(bytes[i], 0) << i;
  }
}

TEST(RingLayout, WordsOfOnePurposeAreAloneOnTheirLines) {
  const auto line = [](size_t offset) { return offset / kRingLineBytes; };
  EXPECT_NE(line(offsetof(RingSide<>, position)),
            line(offsetof(RingSide<>, wish)));
  EXPECT_NE(line(offsetof(RingSide<>, wish)),
            line(offsetof(RingSide<>, signal)));
  EXPECT_EQ(sizeof(RingSide<>) % kRingLineBytes, 0);
  EXPECT_EQ(alignof(RingHeader<>), kRingLineBytes);
}

}  // namespace
}  // namespace doppel
