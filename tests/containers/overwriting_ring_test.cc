// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/overwriting_ring.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/page_size.h"
#include "doppel/tests/support/checked_build.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::Exited;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Ring = OverwritingRing<uint64_t>;
using Start = OverwritingRingStart;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

template <class T = uint64_t>
OverwritingRing<T> MakeRing(size_t min_capacity = 1,
                            const OverwritingRingOptions& options = {}) {
  absl::StatusOr<OverwritingRing<T>> ring =
      OverwritingRing<T>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

template <class T>
typename OverwritingRing<T>::Reader Join(OverwritingRing<T>& ring,
                                         Start start = Start::kNewest) {
  absl::StatusOr<typename OverwritingRing<T>::Reader> reader =
      ring.reader(start);
  EXPECT_THAT(reader, IsOk());
  return *std::move(reader);
}

std::vector<uint64_t> Numbers(uint64_t first, size_t n) {
  std::vector<uint64_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

TEST(OverwritingRing, CapacityRoundsUpToPages) {
  const Ring ring = MakeRing();
  EXPECT_EQ(ring.memory_bytes(), BasePageBytes());
  EXPECT_EQ(ring.capacity(), BasePageBytes() / 8);
  EXPECT_EQ(ring.max_readers(), 16);
}

TEST(OverwritingRing, AReaderInTimeGetsAll) {
  Ring ring = MakeRing();
  auto first = Join(ring);
  auto second = Join(ring);
  EXPECT_EQ(ring.readers(), 2);
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 5 * ring.capacity(); ++i) {
    writer.push(i);
    ASSERT_EQ(first.size(), 1);
    ASSERT_EQ(first.try_pop(), i);
    uint64_t item = 0;
    ASSERT_TRUE(second.try_pop(item));
    ASSERT_EQ(item, i);
  }
  EXPECT_EQ(first.try_pop(), std::nullopt);
  EXPECT_EQ(first.lost(), 0);
  EXPECT_EQ(second.lost(), 0);
  EXPECT_EQ(ring.statistics().overruns, 0);
}

TEST(OverwritingRing, AnOverrunReaderGoesOnAtTheOldest) {
  Ring ring = MakeRing();
  const uint64_t capacity = ring.capacity();
  auto slow = Join(ring);
  auto fast = Join(ring);
  auto writer = ring.writer();
  std::vector<uint64_t> items(capacity);
  for (uint64_t pushed = 0; pushed < 3 * capacity + 5; ++pushed) {
    writer.push(pushed);
    ASSERT_EQ(fast.try_pop(), pushed);
  }
  const uint64_t pushed = 3 * capacity + 5;
  EXPECT_EQ(slow.size() + slow.lost(), pushed);
  EXPECT_GE(slow.size(), capacity - capacity / 16);
  const uint64_t oldest = slow.lost();
  EXPECT_EQ(slow.try_pop(), oldest);
  const size_t n = slow.pop(items);
  EXPECT_EQ(n, pushed - oldest - 1);
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(items[i], oldest + 1 + i);
  EXPECT_EQ(slow.lost(), oldest);
  EXPECT_EQ(ring.statistics().lost, oldest);
  EXPECT_EQ(ring.statistics().overruns, 1);
  EXPECT_EQ(ring.statistics().pushed, pushed);
  EXPECT_EQ(ring.statistics().high_water, capacity);
}

// A reader that knows of items from a look before, which are gone now.
TEST(OverwritingRing, WhatWasOverwrittenSinceTheLookIsNotGiven) {
  Ring ring = MakeRing();
  const uint64_t capacity = ring.capacity();
  const uint64_t lead = capacity / 16;
  auto writer = ring.writer();
  for (const bool batch : {false, true}) {
    auto reader = Join(ring);
    const uint64_t first = ring.statistics().pushed;
    writer.push(Numbers(first, capacity));
    // Half of them are overwritten, or were about to be.
    ASSERT_GT(reader.size(), 0);
    writer.push(Numbers(first + capacity, capacity / 2));
    std::vector<uint64_t> items(capacity / 2 + 3 * lead);
    size_t n = 1;
    if (batch) {
      // The first of the copy are spoiled, the rest is given.
      n = reader.pop(items);
      EXPECT_LT(n, items.size());
    } else {
      ASSERT_TRUE(reader.try_pop(items[0]));
    }
    for (size_t i = 0; i < n; ++i) {
      ASSERT_EQ(items[i], first + reader.lost() + i);
    }
    EXPECT_GE(reader.lost(), capacity / 2);
    EXPECT_LE(reader.lost(), capacity / 2 + lead);
  }
}

TEST(OverwritingRing, ReadersBeginAtTheNewestOrTheOldest) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  writer.push(Numbers(0, 10));
  auto newest = Join(ring);
  auto oldest = Join(ring, Start::kOldest);
  EXPECT_EQ(newest.size(), 0);
  EXPECT_EQ(newest.try_pop(), std::nullopt);
  EXPECT_EQ(oldest.size(), 10);
  EXPECT_EQ(oldest.try_pop(), 0);
  writer.push(Numbers(10, 3 * ring.capacity()));
  auto late = Join(ring, Start::kOldest);
  EXPECT_EQ(late.lost(), 0) << "what was before is not lost";
  const size_t n = late.size();
  EXPECT_GE(n, ring.capacity() - ring.capacity() / 16);
  EXPECT_EQ(late.try_pop(), 3 * ring.capacity() + 10 - n);
}

TEST(OverwritingRing, BatchesLongerThanTheRing) {
  Ring ring = MakeRing();
  auto reader = Join(ring);
  const std::vector<uint64_t> numbers = Numbers(0, 5 * ring.capacity() + 7);
  ring.writer().push(numbers);
  std::vector<uint64_t> items(numbers.size());
  const size_t n = reader.pop(items);
  EXPECT_EQ(n + reader.lost(), numbers.size());
  EXPECT_GE(n, ring.capacity() - ring.capacity() / 16);
  for (size_t i = 0; i < n; ++i) {
    ASSERT_EQ(items[i], numbers[reader.lost() + i]);
  }
  EXPECT_EQ(reader.pop(items), 0);
  ring.writer().push(std::span<const uint64_t>());
  EXPECT_EQ(reader.pop(items), 0);
  EXPECT_EQ(reader.pop({}), 0);
}

template <class T>
void RoundTrips() {
  auto ring = MakeRing<T>(3);
  auto reader = Join(ring);
  auto writer = ring.writer();
  const auto item_of = [](uint64_t number) {
    std::array<unsigned char, sizeof(T)> bytes;
    bytes.fill(static_cast<unsigned char>(number * 7 + 1));
    return std::bit_cast<T>(bytes);
  };
  const auto bytes_of = [](const T& item) {
    return std::bit_cast<std::array<unsigned char, sizeof(T)>>(item);
  };
  for (uint64_t i = 0; i < 3 * ring.capacity(); ++i) {
    writer.push(item_of(i));
    const std::array<T, 2> more = {item_of(i + 1), item_of(i + 2)};
    writer.push(more);
    std::array<T, 2> got;
    ASSERT_EQ(reader.pop(got), 2);
    ASSERT_EQ(bytes_of(got[0]), bytes_of(item_of(i)));
    ASSERT_EQ(bytes_of(got[1]), bytes_of(item_of(i + 1)));
    const std::optional<T> third = reader.try_pop();
    ASSERT_TRUE(third.has_value());
    ASSERT_EQ(bytes_of(*third), bytes_of(item_of(i + 2)));
  }
  EXPECT_EQ(reader.lost(), 0);
}

// Words of all sizes, items that lie over the wrap, and few items a ring.
TEST(OverwritingRing, ItemsOfAnySize) {
  RoundTrips<std::byte>();
  RoundTrips<uint16_t>();
  RoundTrips<std::array<char, 23>>();
  RoundTrips<std::array<uint16_t, 3>>();
  RoundTrips<std::array<uint32_t, 5>>();
  RoundTrips<std::array<uint64_t, 7>>();
  RoundTrips<std::array<uint64_t, 200>>();
}

TEST(OverwritingRing, ALeadOfOneItem) {
  using Big = std::array<uint64_t, 128>;
  auto ring = MakeRing<Big>(1);
  ASSERT_LT(ring.capacity(), 16);
  auto reader = Join(ring);
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 100; ++i) writer.push(Big{i});
  EXPECT_EQ(reader.size(), ring.capacity());
  EXPECT_EQ((*reader.try_pop())[0], 100 - ring.capacity());
}

TEST(OverwritingRing, AtMostMaxReadersAtOnce) {
  Ring ring = MakeRing(1, {.max_readers = 2});
  std::optional<Ring::Reader> first(Join(ring));
  auto second = Join(ring);
  EXPECT_THAT(ring.reader(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("max_readers")));
  ring.writer().push(Numbers(0, 10 * ring.capacity()));
  uint64_t item = 0;
  ASSERT_TRUE(first->try_pop(item));
  const uint64_t lost = first->lost();
  first.reset();
  auto third = Join(ring);
  EXPECT_EQ(third.lost(), 0);
  ASSERT_TRUE(second.try_pop(item));
  EXPECT_EQ(ring.statistics().lost, lost + second.lost());
  EXPECT_EQ(ring.statistics().overruns, 2);
}

TEST(OverwritingRing, AtTheEndReadersGetTheRest) {
  Ring ring = MakeRing();
  auto reader = Join(ring);
  {
    auto writer = ring.writer();
    writer.push(1);
    EXPECT_FALSE(reader.closed());
    writer.close();
  }
  EXPECT_TRUE(reader.closed());
  EXPECT_EQ(reader.try_pop(), 1);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  auto writer = ring.writer();
  EXPECT_FALSE(reader.closed());
  writer.push(2);
  EXPECT_EQ(reader.try_pop(), 2);
}

TEST(OverwritingRing, AWriterGoesOnWhereTheLastOneEnded) {
  Ring ring = MakeRing();
  auto reader = Join(ring);
  uint64_t next = 0;
  for (uint64_t i = 0; i < 3 * ring.capacity(); ++i) {
    ring.writer().push(i);
    if (i % 3 == 2) {
      std::array<uint64_t, 3> got{};
      ASSERT_EQ(reader.pop(got), 3);
      for (const uint64_t item : got) ASSERT_EQ(item, next++);
    }
  }
}

TEST(OverwritingRing, HandlesAndRingsMove) {
  Ring first = MakeRing(1, {.max_readers = 2});
  std::optional<Ring> second;  // Outlives the handles.
  auto writer = first.writer();
  auto reader = Join(first);
  second.emplace(std::move(first));
  auto moved_writer = std::move(writer);
  moved_writer.push(1);
  moved_writer.push(2);
  auto moved = std::move(reader);
  EXPECT_EQ(moved.try_pop(), 1);
  auto other = Join(*second);
  other = std::move(moved);
  EXPECT_EQ(second->readers(), 1);
  EXPECT_EQ(other.try_pop(), 2);
  first = MakeRing();
  EXPECT_EQ(first.statistics().pushed, 0);
}

TEST(OverwritingRing, OperationsMakeNoSystemCall) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto reader = Join(ring);
  std::array<uint64_t, 64> items{};
  const CallCounter counter;
  for (uint64_t i = 0; i < 10'000; ++i) {
    writer.push(items);
    if (i % 16 == 0) {
      ASSERT_EQ(reader.pop(items), items.size());
    }
  }
  EXPECT_EQ(counter.total(), 0);
}

TEST(OverwritingRing, GivesEverythingBack) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create({});
  ASSERT_THAT(arena, IsOk());
  const LeakCheck before;
  {
    Ring ring = MakeRing(10'000, {.arena = *arena});
    auto reader = Join(ring);
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(OverwritingRing, AForkedChildLeavesTheRingAlone) {
  std::optional<Ring> ring(MakeRing());
  auto writer = ring->writer();
  std::optional<Ring::Reader> reader(Join(*ring));
  writer.push(1);
  const int status = RunInChild([&] {
    reader.reset();
    ring.reset();
    return 0;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
  EXPECT_EQ(ring->readers(), 1);
  EXPECT_EQ(reader->try_pop(), 1);
}

TEST(OverwritingRing, MisuseIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  Ring ring = MakeRing();
  auto writer = ring.writer();
  EXPECT_DEATH((void)ring.writer(), "one handle");
  // In the child, so that the ring is its own.
  EXPECT_DEATH(
      {
        std::optional<Ring> own(MakeRing());
        auto own_writer = own->writer();
        own.reset();
      },
      "Writer outlives");
  EXPECT_DEATH(
      {
        Ring own = MakeRing();
        auto own_reader = Join(own);
        own = MakeRing();
      },
      "Reader outlives");
}

// Bugs that others had.

TEST(OverwritingRingRegression, CapacityZeroAndSizesThatOverflow) {
  EXPECT_THAT(Ring::Create(0), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("capacity 0")));
  EXPECT_THAT(Ring::Create(1, {.max_readers = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  for (const uint64_t items : {kMax, kMax / 8 + 1, kMax / 8}) {
    EXPECT_THAT(Ring::Create(items),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  }
  EXPECT_THAT(
      Ring::Create(kMax / 256),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("machine has")));
}

// A reader that was behind by far more than the ring copied beyond the mirror: what it
// believes in is never more than the capacity.
TEST(OverwritingRingRegression, AReaderFarBehindCopiesNoMoreThanTheRing) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto reader = Join(ring);
  std::vector<uint64_t> items(10 * ring.capacity());
  for (int round = 0; round < 5; ++round) {
    writer.push(items);
    ASSERT_LE(reader.pop(items), ring.capacity());
    writer.push(items);
    ASSERT_LE(reader.size(), ring.capacity());
  }
}

}  // namespace
}  // namespace doppel
