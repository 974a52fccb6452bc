// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_writer.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::testing::ElementsAre;

template <class T>
SpscRing<T> MakeRing(size_t min_capacity, const RingOptions& options = {}) {
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

// Moves both sides of an empty ring forward by n items.
template <class T>
void Skip(typename SpscRing<T>::Writer& writer,
          typename SpscRing<T>::Reader& reader, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    ASSERT_TRUE(writer.try_push(T{}));
    ASSERT_TRUE(reader.try_pop().has_value());
  }
}

TEST(RingWriter, ReserveIsContiguousOverTheWrap) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  const size_t capacity = ring.capacity();
  auto writer = ring.writer();
  auto reader = ring.reader();
  Skip<uint64_t>(writer, reader, capacity - 5);
  std::span<uint64_t> slots = writer.reserve(capacity);
  ASSERT_EQ(slots.size(), capacity);
  std::iota(slots.begin(), slots.end(), 100);
  EXPECT_TRUE(reader.peek().empty()) << "nothing is seen before commit";
  writer.commit(capacity);
  const std::span<const uint64_t> items = reader.peek(capacity);
  ASSERT_EQ(items.size(), capacity);
  for (size_t i = 0; i < capacity; ++i) ASSERT_EQ(items[i], 100 + i);
  reader.consume(capacity);
  EXPECT_TRUE(ring.empty());
}

TEST(RingWriter, CommitOfLessForgetsTheRest) {
  SpscRing<uint32_t> ring = MakeRing<uint32_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t lap = 0; lap < 3 * ring.capacity(); ++lap) {
    std::span<uint32_t> slots = writer.reserve(7);
    ASSERT_EQ(slots.size(), 7);
    std::iota(slots.begin(), slots.end(), static_cast<uint32_t>(lap));
    writer.commit(2);
    ASSERT_THAT(reader.peek(2), ElementsAre(static_cast<uint32_t>(lap),
                                            static_cast<uint32_t>(lap + 1)));
    reader.consume(2);
  }
  ASSERT_EQ(writer.reserve(5).size(), 5);
  ASSERT_TRUE(writer.try_push(9));  // A reservation holds nothing.
  EXPECT_EQ(reader.try_pop(), 9);
}

// Written piece by piece, seen at once.
TEST(RingWriter, StagedItemsAreSeenWhenPublished) {
  SpscRing<int> ring = MakeRing<int>(1);
  // From each place of the memory, so that pieces wrap.
  for (size_t round = 0; round < 2 * ring.capacity(); ++round) {
    auto writer = ring.writer();
    auto reader = ring.reader();
    for (int i = 0; i < 3; ++i) {
      std::span<int> slots = writer.reserve(7);
      ASSERT_EQ(slots.size(), 7);
      slots[0] = 2 * i;
      slots[1] = 2 * i + 1;
      writer.stage(2);
    }
    ASSERT_TRUE(reader.peek().empty());
    writer.publish();
    const std::span<const int> items = reader.peek();
    ASSERT_EQ(items.size(), 6);
    for (int i = 0; i < 6; ++i) ASSERT_EQ(items[static_cast<size_t>(i)], i);
    reader.consume(6);
    // So that the next round begins one further.
    ASSERT_TRUE(writer.try_push(0));
    ASSERT_EQ(reader.try_pop(), 0);
  }
}

TEST(RingWriter, WhatIsStagedAndNotPublishedGoesWithTheHandle) {
  SpscRing<int> ring = MakeRing<int>(1);
  {
    auto writer = ring.writer();
    ASSERT_FALSE(writer.reserve(3).empty());
    writer.stage(3);
  }
  auto writer = ring.writer();
  ASSERT_TRUE(writer.try_push(8));
  EXPECT_EQ(ring.size(), 1);
  EXPECT_EQ(ring.reader().try_pop(), 8);
}

// A reservation larger than the ring was granted (BPF ring buffer, CVE-2021-3489).
TEST(RingWriterRegression, ReservationLargerThanTheRing) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  auto writer = ring.writer();
  EXPECT_TRUE(writer.reserve(ring.capacity() + 1).empty());
  EXPECT_TRUE(writer.reserve(std::numeric_limits<size_t>::max()).empty());
  EXPECT_TRUE(
      writer.reserve(std::numeric_limits<size_t>::max() / 8 + 2).empty());
  EXPECT_EQ(writer.reserve(ring.capacity()).size(), ring.capacity());
}

}  // namespace
}  // namespace doppel
