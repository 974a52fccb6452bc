// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/broadcast_ring.h"

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
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::Exited;
using ::doppel::testing::Faults;
using ::doppel::testing::FreeHugetlbPages;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Ring = BroadcastRing<uint64_t>;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

template <class T = uint64_t>
BroadcastRing<T> MakeRing(size_t min_capacity = 1,
                          const BroadcastRingOptions& options = {}) {
  absl::StatusOr<BroadcastRing<T>> ring =
      BroadcastRing<T>::Create(min_capacity, options);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

template <class T>
typename BroadcastRing<T>::Reader Join(BroadcastRing<T>& ring) {
  absl::StatusOr<typename BroadcastRing<T>::Reader> reader = ring.reader();
  EXPECT_THAT(reader, IsOk());
  return *std::move(reader);
}

// Pushes and takes n items, so that positions are further by n.
void Skip(Ring& ring, size_t n) {
  auto writer = ring.writer();
  auto reader = Join(ring);
  for (size_t i = 0; i < n; ++i) {
    ASSERT_TRUE(writer.try_push(i));
    ASSERT_EQ(reader.try_pop(), i);
  }
}

TEST(BroadcastRing, CapacityRoundsUpToPages) {
  const Ring ring = MakeRing();
  EXPECT_EQ(ring.memory_bytes(), BasePageBytes());
  EXPECT_EQ(ring.capacity(), BasePageBytes() / 8);
  EXPECT_EQ(ring.max_readers(), 16);
  EXPECT_EQ(MakeRing(BasePageBytes() / 8 + 1).memory_bytes(),
            2 * BasePageBytes());
}

TEST(BroadcastRing, EachReaderGetsEachItem) {
  Ring ring = MakeRing();
  auto first = Join(ring);
  auto second = Join(ring);
  EXPECT_EQ(ring.readers(), 2);
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(writer.try_push(i));
  for (uint64_t i = 0; i < 10; ++i) ASSERT_EQ(first.try_pop(), i);
  EXPECT_EQ(first.try_pop(), std::nullopt);
  EXPECT_EQ(second.size(), 10);
  EXPECT_FALSE(second.empty());
  EXPECT_TRUE(first.empty());
  EXPECT_EQ(first.size(), 0);
  EXPECT_EQ(ring.size(), 10);
  for (uint64_t i = 0; i < 10; ++i) ASSERT_EQ(second.try_pop(), i);
  uint64_t item = 77;
  EXPECT_FALSE(second.try_pop(item));
  EXPECT_EQ(item, 77);
  EXPECT_EQ(ring.size(), 0);
}

TEST(BroadcastRing, TheSlowestReaderHoldsTheProducerUp) {
  Ring ring = MakeRing();
  const size_t capacity = ring.capacity();
  auto fast = Join(ring);
  auto slow = Join(ring);
  auto writer = ring.writer();
  for (uint64_t i = 0; i < capacity; ++i) ASSERT_TRUE(writer.try_push(i));
  EXPECT_FALSE(writer.try_push(0));
  for (uint64_t i = 0; i < capacity; ++i) ASSERT_EQ(fast.try_pop(), i);
  EXPECT_FALSE(writer.try_push(0));
  EXPECT_EQ(writer.free(), 0);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(slow.try_pop(), i);
  EXPECT_EQ(writer.free(), 3);
  const std::array<uint64_t, 5> more = {1, 2, 3, 4, 5};
  EXPECT_EQ(writer.push(more), 3);
  EXPECT_EQ(writer.push(more), 0);
  EXPECT_EQ(fast.size(), 3);
  EXPECT_EQ(slow.size(), capacity);
}

TEST(BroadcastRing, WithoutReadersTheProducerGoesOn) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 5 * ring.capacity(); ++i) {
    ASSERT_TRUE(writer.try_push(i));
  }
  EXPECT_EQ(writer.free(), ring.capacity());
  EXPECT_EQ(ring.size(), 0);
  EXPECT_EQ(ring.statistics().pushed, 5 * ring.capacity());
  EXPECT_EQ(ring.statistics().push_refusals, 0);
}

TEST(BroadcastRing, WhoJoinsGetsWhatIsPublishedFromThenOn) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto early = Join(ring);
  ASSERT_TRUE(writer.try_push(1));
  auto late = Join(ring);
  EXPECT_EQ(late.try_pop(), std::nullopt);
  const std::span<uint64_t> slots = writer.reserve(2);
  ASSERT_EQ(slots.size(), 2);
  slots[0] = 2;
  slots[1] = 3;
  writer.stage(2);
  auto later = Join(ring);  // What is staged is not published.
  writer.publish();
  EXPECT_EQ(early.try_pop(), 1);
  EXPECT_EQ(early.try_pop(), 2);
  EXPECT_EQ(late.try_pop(), 2);
  EXPECT_EQ(later.try_pop(), 2);
  EXPECT_EQ(later.try_pop(), 3);
}

// A limit that the producer knew of when there was nobody still holds when somebody is.
TEST(BroadcastRing, WhoJoinsIsNotOverrunByWhatTheProducerKnew) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  for (uint64_t at = 0; at < 2 * ring.capacity(); at += 37) {
    ASSERT_TRUE(writer.try_push(0));
    auto reader = Join(ring);
    uint64_t pushed = 0;
    while (writer.try_push(pushed)) ++pushed;
    ASSERT_EQ(pushed, ring.capacity());
    for (uint64_t i = 0; i < pushed; ++i) ASSERT_EQ(reader.try_pop(), i);
  }
}

TEST(BroadcastRing, WhoLeavesHoldsNobodyUp) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto stays = Join(ring);
  std::optional<Ring::Reader> leaves(Join(ring));
  while (writer.try_push(7)) {
  }
  while (stays.try_pop()) {
  }
  EXPECT_FALSE(writer.try_push(8));
  leaves.reset();
  EXPECT_EQ(ring.readers(), 1);
  EXPECT_TRUE(writer.try_push(8));
  EXPECT_EQ(stays.try_pop(), 8);
}

TEST(BroadcastRing, AtMostMaxReadersAtOnce) {
  Ring ring = MakeRing(1, {.max_readers = 3});
  std::vector<Ring::Reader> readers;
  readers.reserve(3);
  for (int i = 0; i < 3; ++i) readers.push_back(Join(ring));
  EXPECT_THAT(ring.reader(), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("max_readers")));
  EXPECT_EQ(ring.readers(), 3);
  readers.pop_back();
  auto writer = ring.writer();
  ASSERT_TRUE(writer.try_push(1));
  auto again = Join(ring);
  EXPECT_EQ(again.try_pop(), std::nullopt);
  ASSERT_TRUE(writer.try_push(2));
  EXPECT_EQ(again.try_pop(), 2);
}

TEST(BroadcastRing, SpansAreWholeAtEachPlace) {
  Ring ring = MakeRing();
  const size_t capacity = ring.capacity();
  auto first = Join(ring);
  auto second = Join(ring);
  auto writer = ring.writer();
  uint64_t next = 0;
  for (size_t round = 0; round < 2 * capacity; ++round) {
    const std::span<uint64_t> slots = writer.reserve(capacity);
    ASSERT_EQ(slots.size(), capacity);
    const size_t n = round % (capacity - 1) + 1;
    std::iota(slots.begin(), slots.end(), next);
    writer.commit(n);
    for (Ring::Reader* reader : {&first, &second}) {
      ASSERT_TRUE(reader->peek(n + 1).empty());
      const std::span<const uint64_t> items = reader->peek(n);
      ASSERT_EQ(items.size(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(items[i], next + i);
      reader->finish(n / 2);
      reader->finish(n - n / 2);
      reader->release();
    }
    next += n;
  }
  EXPECT_TRUE(writer.reserve(capacity + 1).empty());
  EXPECT_TRUE(writer.reserve(kMax).empty());
}

TEST(BroadcastRing, WhatIsNotReleasedStays) {
  Ring ring = MakeRing();
  auto reader = Join(ring);
  auto writer = ring.writer();
  while (writer.try_push(1)) {
  }
  ASSERT_EQ(reader.peek(5).size(), ring.capacity());
  reader.finish(5);
  EXPECT_FALSE(writer.try_push(2));
  reader.release();
  EXPECT_EQ(writer.free(), 5);
}

TEST(BroadcastRing, BatchesAreCopied) {
  Ring ring = MakeRing();
  Skip(ring, ring.capacity() - 3);
  auto reader = Join(ring);
  auto writer = ring.writer();
  EXPECT_EQ(writer.push(std::array<uint64_t, 5>{1, 2, 3, 4, 5}), 5);
  std::array<uint64_t, 4> items{};
  EXPECT_EQ(reader.pop(items), 4);
  EXPECT_THAT(items, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(reader.pop(items), 1);
  EXPECT_EQ(items[0], 5);
  EXPECT_EQ(reader.pop(items), 0);
  EXPECT_EQ(reader.pop({}), 0);
  EXPECT_EQ(writer.push({}), 0);
}

// Sizes that do not divide a page: items lie over the wrap.
TEST(BroadcastRing, ItemsOfAnySize) {
  struct Odd {
    std::array<unsigned char, 23> bytes;
  };
  auto ring = MakeRing<Odd>(1);
  EXPECT_EQ(ring.capacity(), BasePageBytes() / 23);
  auto reader = Join(ring);
  auto writer = ring.writer();
  for (uint64_t i = 0; i < 10 * ring.capacity(); ++i) {
    Odd odd{};
    odd.bytes.fill(static_cast<unsigned char>(i));
    ASSERT_TRUE(writer.try_push(odd));
    const std::optional<Odd> got = reader.try_pop();
    ASSERT_TRUE(got.has_value());
    ASSERT_EQ(got->bytes, odd.bytes);
  }
}

TEST(BroadcastRing, AtTheEndReadersGetTheRest) {
  Ring ring = MakeRing();
  auto reader = Join(ring);
  {
    auto writer = ring.writer();
    ASSERT_TRUE(writer.try_push(1));
    EXPECT_FALSE(reader.closed());
    writer.close();
  }
  EXPECT_TRUE(reader.closed());
  EXPECT_EQ(reader.try_pop(), 1);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  auto writer = ring.writer();
  EXPECT_FALSE(reader.closed());
  ASSERT_TRUE(writer.try_push(2));
  EXPECT_EQ(reader.try_pop(), 2);
}

TEST(BroadcastRing, HandlesMove) {
  Ring ring = MakeRing(1, {.max_readers = 2});
  auto writer = ring.writer();
  auto reader = Join(ring);
  ASSERT_TRUE(writer.try_push(1));
  ASSERT_TRUE(writer.try_push(2));
  auto moved_writer = std::move(writer);
  auto moved = std::move(reader);
  EXPECT_EQ(ring.readers(), 1);
  EXPECT_EQ(moved.try_pop(), 1);
  auto other = Join(ring);
  other = std::move(moved);  // Leaves its own seat.
  EXPECT_EQ(ring.readers(), 1);
  EXPECT_EQ(other.try_pop(), 2);
  auto third = Join(ring);
  ASSERT_TRUE(moved_writer.try_push(3));
  EXPECT_EQ(other.try_pop(), 3);
  EXPECT_EQ(third.try_pop(), 3);
}

TEST(BroadcastRing, MovesWithItsHandles) {
  Ring first = MakeRing();
  std::optional<Ring> second;  // Outlives the handles.
  auto writer = first.writer();
  auto reader = Join(first);
  second.emplace(std::move(first));
  ASSERT_TRUE(writer.try_push(1));
  EXPECT_EQ(second->size(), 1);
  EXPECT_EQ(reader.try_pop(), 1);
  first = MakeRing();
  EXPECT_EQ(first.size(), 0);
}

TEST(BroadcastRing, StatisticsCountRefusalsStallsAndTheMost) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto reader = Join(ring);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  EXPECT_EQ(reader.try_pop(), std::nullopt);
  while (writer.try_push(1)) {
  }
  EXPECT_FALSE(writer.try_push(1));
  const BroadcastRingStatistics statistics = ring.statistics();
  EXPECT_EQ(statistics.pushed, ring.capacity());
  EXPECT_EQ(statistics.push_refusals, 2);
  EXPECT_EQ(statistics.push_stalls, 1);
  EXPECT_EQ(statistics.pop_refusals, 2);
  EXPECT_EQ(statistics.pop_stalls, 1);
  EXPECT_EQ(statistics.high_water, ring.capacity());
}

TEST(BroadcastRing, OperationsMakeNoSystemCall) {
  Ring ring = MakeRing(1000);
  auto writer = ring.writer();
  auto reader = Join(ring);
  const CallCounter counter;
  for (int i = 0; i < 1000; ++i) {
    while (writer.try_push(1)) {
    }
    while (!reader.peek().empty()) reader.consume(1);
  }
  EXPECT_EQ(counter.total(), 0);
}

TEST(BroadcastRing, GivesEverythingBack) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create({});
  ASSERT_THAT(arena, IsOk());
  const LeakCheck before;
  {
    Ring ring = MakeRing(10'000, {.arena = *arena});
    auto reader = Join(ring);
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
  const absl::StatusOr<Arena::Stats> stats = (*arena)->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->handed_out_bytes, 0);
}

TEST(BroadcastRing, BothEndsFault) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  const auto* begin =
      reinterpret_cast<const std::byte*>(writer.reserve(1).data());
  const uint64_t shown = ring.memory_bytes() * internal::Mirror::kMaxViews;
  EXPECT_TRUE(Faults(begin - 1));
  EXPECT_FALSE(Faults(begin));
  EXPECT_FALSE(Faults(begin + shown - 1));
  EXPECT_TRUE(Faults(begin + shown));
}

TEST(BroadcastRing, StandsOnHugetlbPages) {
  constexpr uint64_t kHugeBytes = uint64_t{2} << 20;
  // The canonical build takes one for each side's scratch, too.
  if (FreeHugetlbPages(kHugeBytes) < 3) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  absl::StatusOr<std::shared_ptr<Arena>> arena =
      Arena::Create({.page_size = PageSize::Huge2MiB()});
  ASSERT_THAT(arena, IsOk());
  Ring ring = MakeRing(1, {.arena = *arena});
  EXPECT_EQ(ring.memory_bytes(), kHugeBytes);
  auto writer = ring.writer();
  auto reader = Join(ring);
  for (uint64_t i = 0; i < 3 * ring.capacity(); ++i) {
    ASSERT_TRUE(writer.try_push(i));
    ASSERT_EQ(reader.try_pop(), i);
  }
}

TEST(BroadcastRing, AForkedChildLeavesTheRingAlone) {
  std::optional<Ring> ring(MakeRing());
  auto writer = ring->writer();
  std::optional<Ring::Reader> reader(Join(*ring));
  ASSERT_TRUE(writer.try_push(1));
  const int status = RunInChild([&] {
    reader.reset();
    ring.reset();
    return 0;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
  EXPECT_EQ(ring->readers(), 1);
  EXPECT_EQ(reader->try_pop(), 1);
}

TEST(BroadcastRing, MisuseIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  Ring ring = MakeRing();
  auto writer = ring.writer();
  EXPECT_DEATH((void)ring.writer(), "one handle");
  EXPECT_DEATH(writer.commit(1), "");
  auto reader = Join(ring);
  EXPECT_DEATH(reader.consume(1), "");
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

TEST(BroadcastRingRegression, CapacityZeroAndNumbersOfReaders) {
  EXPECT_THAT(Ring::Create(0), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("capacity 0")));
  for (const uint32_t readers : {0U, 4097U, 0xffffffffU}) {
    EXPECT_THAT(
        Ring::Create(1, {.max_readers = readers}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  }
  Ring many = MakeRing(1, {.max_readers = 4096});
  auto reader = Join(many);
  EXPECT_TRUE(many.writer().try_push(1));
  EXPECT_EQ(reader.try_pop(), 1);
}

// The length overflowed (BPF ring buffer, CVE-2022-49030).
TEST(BroadcastRingRegression, SizesThatOverflow) {
  for (const uint64_t items : {kMax, kMax / 8 + 1, kMax / 8}) {
    EXPECT_THAT(Ring::Create(items),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  }
  EXPECT_THAT(
      Ring::Create(kMax / 256),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("machine has")));
}

// Compilers take the two views for different objects: one thread that writes by one and
// reads by the other must still see what it wrote.
TEST(BroadcastRingRegression, OneThreadOnAllSidesSeesItsOwnWrites) {
  Ring ring = MakeRing();
  auto writer = ring.writer();
  auto first = Join(ring);
  auto second = Join(ring);
  for (uint64_t round = 0; round < 10'000; ++round) {
    const std::array<uint64_t, 5> numbers = {round, round + 1, round + 2,
                                             round + 3, round + 4};
    ASSERT_EQ(writer.push(numbers), 5);
    std::array<uint64_t, 5> got{};
    ASSERT_EQ(first.pop(got), 5);
    ASSERT_EQ(got, numbers);
    ASSERT_EQ(second.pop(got), 5);
    ASSERT_EQ(got, numbers);
  }
}

}  // namespace
}  // namespace doppel
