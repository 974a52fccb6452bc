// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_reader.h"

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
#include "doppel/tests/support/checked_build.h"
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

TEST(RingReader, FrontShowsWhatPopRemoves) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_TRUE(writer.emplace(41));
  ASSERT_TRUE(writer.emplace(42));
  ASSERT_NE(reader.front(), nullptr);
  EXPECT_EQ(*reader.front(), 41);
  reader.pop();
  EXPECT_EQ(*reader.front(), 42);
  reader.pop();
  EXPECT_EQ(reader.front(), nullptr);
}

TEST(RingReader, PeekLooksAgainOnlyWhenItKnowsTooLittle) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_TRUE(writer.try_push(1));
  EXPECT_EQ(reader.peek().size(), 1);
  ASSERT_TRUE(writer.try_push(2));
  EXPECT_EQ(reader.peek().size(), 1);
  EXPECT_EQ(reader.peek(2).size(), 2);
  EXPECT_TRUE(reader.peek(3).empty());
  reader.consume(1);
  EXPECT_THAT(reader.peek(), ElementsAre(2));
}

TEST(RingReader, PeekAgainShowsTheSame) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  Skip<int>(writer, reader, ring.capacity() - 1);
  ASSERT_EQ(writer.push(std::array{1, 2, 3}), 3);
  EXPECT_THAT(reader.peek(3), ElementsAre(1, 2, 3));
  EXPECT_THAT(reader.peek(3), ElementsAre(1, 2, 3));
  EXPECT_EQ(*reader.front(), 1);
}

TEST(RingReader, KnownLooksOnlyForMore) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_EQ(writer.push(std::array{1, 2}), 2);
  EXPECT_EQ(reader.known(), 0);
  EXPECT_EQ(reader.known(1), 2);
  ASSERT_TRUE(writer.try_push(3));
  EXPECT_EQ(reader.known(2), 2);
  EXPECT_EQ(reader.known(7), 3);
  reader.consume(1);
  EXPECT_EQ(reader.known(), 2);
}

// Over the wrap too, and whatever is shown after it.
TEST(RingReader, WhatPeekAtShowsStays) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t round = 0; round < 2 * ring.capacity(); ++round) {
    std::vector<std::span<const uint64_t>> shown;
    size_t skip = 0;
    for (const size_t n : {3, 1, 0, 5}) {
      for (size_t i = 0; i < n; ++i) ASSERT_TRUE(writer.try_push(skip + i));
      ASSERT_EQ(reader.known(skip + n), skip + n);
      shown.push_back(reader.peek_at(skip, n));
      skip += n;
    }
    const auto overlapping = reader.peek_at(2, 4);
    EXPECT_THAT(overlapping, ElementsAre(2, 3, 4, 5));
    EXPECT_THAT(shown[0], ElementsAre(0, 1, 2));
    EXPECT_THAT(shown[1], ElementsAre(3));
    EXPECT_TRUE(shown[2].empty());
    ASSERT_THAT(shown[3], ElementsAre(4, 5, 6, 7, 8));
    reader.consume(8);
    EXPECT_THAT(reader.peek_at(0, 1), ElementsAre(8));
    reader.consume(1);
    Skip<uint64_t>(writer, reader, round % 3);
  }
}

TEST(RingReader, PeekAtBeyondWhatIsKnownIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_TRUE(writer.try_push(1));
  ASSERT_EQ(reader.peek().size(), 1);
  EXPECT_EQ(reader.peek_at(1, 0).size(), 0);
  EXPECT_DEATH((void)reader.peek_at(1, 1), "known");
  EXPECT_DEATH((void)reader.peek_at(SIZE_MAX, 1), "known");
  EXPECT_DEATH((void)reader.peek_at(2, SIZE_MAX), "known") << "their sum is 1";
}

TEST(RingReader, FinishedItemsAreHandedBackWhenReleased) {
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  while (writer.try_push(1)) {
  }
  auto reader = ring.reader();
  ASSERT_EQ(reader.peek().size(), ring.capacity());
  reader.finish(2);
  reader.finish(3);
  EXPECT_EQ(writer.free(), 0);
  EXPECT_EQ(reader.peek().size(), ring.capacity() - 5);
  reader.release();
  EXPECT_EQ(writer.free(), 5);
}

TEST(RingReader, WhatIsFinishedIsGoneWithoutRelease) {
  SpscRing<std::string> ring = MakeRing<std::string>(1);
  auto writer = ring.writer();
  for (const char* word : {"a", "b", "c"}) ASSERT_TRUE(writer.try_push(word));
  {
    auto reader = ring.reader();
    ASSERT_EQ(reader.peek(3).size(), 3);
    reader.finish(2);
  }
  EXPECT_EQ(ring.reader().try_pop(), "c");
}

// What the reader writes to a consumed line must stay away from its neighbours.
TEST(RingReader, LineOwnershipSparesWhatIsNotConsumed) {
  for (const LineOwnership owns : {LineOwnership::kOn, LineOwnership::kOff}) {
    SpscRing<unsigned char> ring =
        MakeRing<unsigned char>(1, {.line_ownership = owns});
    auto writer = ring.writer();
    auto reader = ring.reader();
    const size_t capacity = ring.capacity();
    unsigned char next = 1;
    unsigned char expected = 1;
    // 61 is coprime to the line and the page: every offset is met.
    for (size_t round = 0; round < 2 * capacity; ++round) {
      while (writer.try_push(next)) ++next;
      const auto items = reader.peek(capacity);
      ASSERT_EQ(items.size(), capacity);
      ASSERT_EQ(items.front(), expected);
      ASSERT_EQ(items[capacity - 1],
                static_cast<unsigned char>(expected + capacity - 1));
      const size_t n = 61;
      reader.consume(n);
      expected = static_cast<unsigned char>(expected + n);
      ASSERT_EQ(*reader.front(), expected);
    }
    while (std::optional<unsigned char> item = reader.try_pop()) {
      ASSERT_EQ(*item, expected++);
    }
  }
}

}  // namespace
}  // namespace doppel
