// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/spsc_ring.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "doppel/alloc/page_size.h"
#include "doppel/tests/support/checked_build.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST(SpscRing, CapacityRoundsUpToPages) {
  const SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  EXPECT_EQ(ring.capacity(), BasePageBytes() / 8);
  EXPECT_EQ(ring.memory_bytes(), BasePageBytes());
  EXPECT_EQ(MakeRing<uint64_t>(BasePageBytes() / 8 + 1).capacity(),
            2 * BasePageBytes() / 8);
  EXPECT_EQ(MakeRing<std::byte>(3 * BasePageBytes()).capacity(),
            3 * BasePageBytes());
}

TEST(SpscRing, StartsEmpty) {
  SpscRing<int> ring = MakeRing<int>(8);
  EXPECT_TRUE(ring.empty());
  auto reader = ring.reader();
  EXPECT_EQ(reader.size(), 0);
  EXPECT_EQ(reader.front(), nullptr);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  EXPECT_TRUE(reader.peek().empty());
  EXPECT_TRUE(reader.peek(0).empty());
}

TEST(SpscRing, ItemsComeOutInOrderOnceOverManyLaps) {
  SpscRing<uint32_t> ring = MakeRing<uint32_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  uint32_t pushed = 0;
  uint32_t popped = 0;
  for (size_t lap = 0; lap < 10; ++lap) {
    while (writer.try_push(pushed)) ++pushed;
    EXPECT_EQ(ring.size(), ring.capacity());
    const size_t keep = lap * 3;
    while (reader.size() > keep) {
      uint32_t item = 0;
      ASSERT_TRUE(reader.try_pop(item));
      ASSERT_EQ(item, popped++);
    }
  }
  EXPECT_EQ(ring.size(), pushed - popped);
}

TEST(SpscRing, PushFailsOnlyWhenFullAndPopOnlyWhenEmpty) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t i = 0; i < ring.capacity(); ++i) ASSERT_TRUE(writer.try_push(i));
  EXPECT_FALSE(writer.try_push(7));
  EXPECT_EQ(writer.free(), 0);
  // One slot back is seen at once, and each single one after it.
  for (size_t i = 0; i < 2 * ring.capacity(); ++i) {
    ASSERT_EQ(reader.try_pop(), i);
    ASSERT_TRUE(writer.try_push(ring.capacity() + i));
    ASSERT_FALSE(writer.try_push(0));
  }
}

TEST(SpscRing, BatchesTakeWhatFits) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  const size_t capacity = ring.capacity();
  auto writer = ring.writer();
  auto reader = ring.reader();
  std::vector<uint64_t> items(capacity + 10);
  std::iota(items.begin(), items.end(), 0);
  EXPECT_EQ(writer.push(items), capacity);
  EXPECT_EQ(writer.push(items), 0);
  std::vector<uint64_t> out(capacity - 1);
  EXPECT_EQ(reader.pop(out), capacity - 1);
  EXPECT_EQ(out.back(), capacity - 2);
  EXPECT_EQ(writer.push(std::span(items).first(3)), 3);
  EXPECT_EQ(reader.pop(out), 4);
  EXPECT_THAT(std::span(out).first(4), ElementsAre(capacity - 1, 0, 1, 2));
  EXPECT_EQ(reader.pop(out), 0);
  EXPECT_EQ(writer.push({}), 0);
}

// Items whose size divides no page reach over the end of the first view.
struct Odd {
  std::array<unsigned char, 24> bytes;
  friend bool operator==(const Odd&, const Odd&) = default;
};
struct Tiny {
  std::array<unsigned char, 3> bytes;
  friend bool operator==(const Tiny&, const Tiny&) = default;
};
struct Large {
  std::array<unsigned char, 5000> bytes;
  friend bool operator==(const Large&, const Large&) = default;
};

template <class T>
T Filled(size_t seed) {
  T item;
  for (size_t i = 0; i < item.bytes.size(); ++i) {
    item.bytes[i] = static_cast<unsigned char>(seed * 31 + i);
  }
  return item;
}

template <class T>
class SpscRingItemSize : public ::testing::Test {};
using ItemSizes = ::testing::Types<Odd, Tiny, Large>;
TYPED_TEST_SUITE(SpscRingItemSize, ItemSizes);

TYPED_TEST(SpscRingItemSize, SinglesAndSpansAgreeOverManyLaps) {
  SpscRing<TypeParam> ring = MakeRing<TypeParam>(3);
  EXPECT_EQ(ring.capacity(), ring.memory_bytes() / sizeof(TypeParam));
  auto writer = ring.writer();
  auto reader = ring.reader();
  const size_t capacity = ring.capacity();
  size_t pushed = 0;
  size_t popped = 0;
  for (int round = 0; round < 40; ++round) {
    const size_t n = 1 + static_cast<size_t>(round * 7) % capacity;
    std::span<TypeParam> slots = writer.reserve(n);
    ASSERT_EQ(slots.size(), n);
    for (TypeParam& slot : slots) slot = Filled<TypeParam>(pushed++);
    writer.commit(n);
    while (writer.try_push(Filled<TypeParam>(pushed))) ++pushed;
    ASSERT_EQ(ring.size(), capacity);
    const std::span<const TypeParam> items = reader.peek(capacity);
    ASSERT_EQ(items.size(), capacity);
    ASSERT_EQ(items.back(), Filled<TypeParam>(pushed - 1));
    ASSERT_EQ(items.front(), Filled<TypeParam>(popped));
    reader.consume(1);
    ++popped;
    while (std::optional<TypeParam> item = reader.try_pop()) {
      ASSERT_EQ(*item, Filled<TypeParam>(popped++));
    }
  }
}

TEST(SpscRing, HandlesContinueWhereTheLastOnesStopped) {
  SpscRing<Odd> ring = MakeRing<Odd>(1);
  size_t pushed = 0;
  size_t popped = 0;
  for (int round = 0; round < 500; ++round) {
    {
      auto writer = ring.writer();
      while (writer.try_push(Filled<Odd>(pushed))) ++pushed;
    }
    auto reader = ring.reader();
    for (int i = 0; i < 13; ++i) {
      ASSERT_EQ(reader.try_pop(), Filled<Odd>(popped++));
    }
  }
}

TEST(SpscRing, MovesWithItsHandles) {
  SpscRing<int> first = MakeRing<int>(1);
  std::optional<SpscRing<int>> second;
  auto writer = first.writer();
  ASSERT_TRUE(writer.try_push(1));
  second.emplace(std::move(first));
  ASSERT_TRUE(writer.try_push(2));
  auto reader = second->reader();
  auto moved = std::move(reader);
  EXPECT_EQ(moved.try_pop(), 1);
  reader = std::move(moved);
  EXPECT_EQ(reader.try_pop(), 2);
  first = MakeRing<int>(1);
  EXPECT_TRUE(first.empty());
}

TEST(SpscRing, AssignmentOfAHandleLeavesItsOldRing) {
  SpscRing<int> first = MakeRing<int>(1);
  SpscRing<int> second = MakeRing<int>(1);
  auto writer = first.writer();
  ASSERT_TRUE(writer.try_push(1));
  writer = second.writer();
  ASSERT_TRUE(writer.try_push(2));
  auto again = first.writer();
  ASSERT_TRUE(again.try_push(3));
  EXPECT_EQ(first.size(), 2);
  EXPECT_EQ(second.size(), 1);
}

TEST(SpscRing, SecondHandleOfASideIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  EXPECT_DEATH((void)ring.writer(), "one handle of each side");
  EXPECT_DEATH((void)ring.reader(), "one handle of each side");
}

TEST(SpscRing, CommitAndConsumeBeyondWhatIsThereAreRefused) {
  DOPPEL_SKIP_UNCHECKED();
  SpscRing<int> ring = MakeRing<int>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  EXPECT_DEATH(writer.commit(ring.capacity() + 1), "known");
  EXPECT_DEATH(reader.consume(1), "known");
}

TEST(SpscRing, ByteRingCarriesMessagesOfAnyLength) {
  SpscRing<> ring = MakeRing<std::byte>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (uint32_t n = 0; n < 3000; ++n) {
    const uint32_t length = n % 1021;
    std::span<std::byte> frame = writer.reserve(sizeof(length) + length);
    ASSERT_FALSE(frame.empty());
    std::memcpy(frame.data(), &length, sizeof(length));
    for (uint32_t i = 0; i < length; ++i) {
      frame[sizeof(length) + i] = static_cast<std::byte>(n + i);
    }
    writer.commit(frame.size());
    uint32_t got = 0;
    ASSERT_GE(reader.peek(sizeof(got)).size(), sizeof(got));
    std::memcpy(&got, reader.peek().data(), sizeof(got));
    ASSERT_EQ(got, length);
    const auto whole = reader.peek(sizeof(got) + got);
    ASSERT_EQ(whole.size(), sizeof(got) + got);
    for (uint32_t i = 0; i < length; ++i) {
      ASSERT_EQ(whole[sizeof(got) + i], static_cast<std::byte>(n + i));
    }
    reader.consume(whole.size());
  }
}

// Bugs that others had.

// Twice the size overflowed (BPF ring buffer, CVE-2022-49030).
TEST(SpscRingRegression, SizesThatOverflow) {
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  EXPECT_THAT(SpscRing<uint64_t>::Create(kMax),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  EXPECT_THAT(SpscRing<uint64_t>::Create(kMax / 8),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  for (const size_t bytes : {kMax, kMax - 1, kMax / 2 + 1, kMax / 2}) {
    EXPECT_THAT(SpscRing<>::Create(bytes),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  }
  EXPECT_THAT(
      SpscRing<>::Create(kMax / 32),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("machine has")));
}

TEST(SpscRingRegression, CapacityZero) {
  EXPECT_THAT(
      SpscRing<>::Create(0),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("capacity 0")));
}

// The wrap point was the queue's length, not the distance of the views
// (Firecracker): items that divide no page tell the two apart.
TEST(SpscRingRegression, WrapsAtTheDistanceOfTheViews) {
  SpscRing<Odd> ring = MakeRing<Odd>(1);
  ASSERT_NE(ring.capacity() * sizeof(Odd), ring.memory_bytes());
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t i = 0; i < 10 * ring.capacity(); ++i) {
    // A full ring each time, so that a wrong wrap overwrites what is unread.
    while (writer.try_push(Filled<Odd>(i + reader.size()))) {
    }
    ASSERT_EQ(reader.try_pop(), Filled<Odd>(i));
  }
}

// The path that wrapped returned the wrong place (Aeron #2015).
TEST(SpscRingRegression, EveryLengthAtEveryPlaceBeforeTheWrap) {
  SpscRing<uint16_t> ring = MakeRing<uint16_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  const size_t capacity = ring.capacity();
  for (size_t before = 1; before <= 9; ++before) {
    for (size_t n = 1; n <= 18; ++n) {
      // To `before` items ahead of the wrap.
      const size_t at = capacity - before;
      Skip<uint16_t>(writer, reader, at);
      std::span<uint16_t> slots = writer.reserve(n);
      ASSERT_EQ(slots.size(), n);
      std::iota(slots.begin(), slots.end(), static_cast<uint16_t>(n));
      writer.commit(n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(reader.try_pop(), n + i);
      Skip<uint16_t>(writer, reader, 2 * capacity - at - n);
    }
  }
}

// The check of the free length ran below zero (HAProxy's ring).
TEST(SpscRingRegression, FreeNeverRunsBelowZero) {
  SpscRing<uint32_t> ring = MakeRing<uint32_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t free = ring.capacity(); free > 0; --free) {
    ASSERT_EQ(writer.free(), free);
    ASSERT_TRUE(writer.reserve(free + 1).empty());
    ASSERT_TRUE(writer.try_push(1));
  }
  ASSERT_EQ(writer.free(), 0);
  ASSERT_TRUE(writer.reserve(1).empty());
  ASSERT_EQ(writer.reserve(0).size(), 0);
  writer.commit(0);
  EXPECT_EQ(reader.size(), ring.capacity());
}

// Compilers take the two views for different objects: one thread that writes by
// one and reads by the other must still see what it wrote.
TEST(SpscRingRegression, OneThreadOnBothSidesSeesItsOwnWrites) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1);
  auto writer = ring.writer();
  auto reader = ring.reader();
  const size_t capacity = ring.capacity();
  Skip<uint64_t>(writer, reader, capacity - 1);
  for (uint64_t round = 1; round < 100; ++round) {
    std::span<uint64_t> slots = writer.reserve(2);  // The second by its alias.
    ASSERT_EQ(slots.size(), 2);
    slots[0] = round;
    slots[1] = round * 1000;
    writer.commit(2);
    ASSERT_EQ(reader.try_pop(), round);
    ASSERT_EQ(reader.try_pop(), round * 1000);  // By the first view.
    Skip<uint64_t>(writer, reader, capacity - 2);
  }
}

// A reader that only polled found nothing, and the writer no room, for ever.
TEST(SpscRingRegression, WhatAReaderFinishedTheNextHandsBack) {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(1);
  ASSERT_THAT(ring, IsOk());
  auto writer = ring->writer();
  uint64_t pushed = 0;
  while (writer.try_push(pushed)) ++pushed;
  {
    auto reader = ring->reader();
    reader.finish(reader.peek().size());
  }
  EXPECT_FALSE(writer.try_push(7)) << "it was not released";
  auto reader = ring->reader();
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  EXPECT_TRUE(writer.try_push(7));
  EXPECT_EQ(reader.try_pop(), 7);
}

}  // namespace
}  // namespace doppel
