// SPDX-License-Identifier: Apache-2.0
//
// What a ring of many producers takes from the machine, and what it gives back.

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/containers/mpsc_ring_support.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::Exited;
using ::doppel::testing::Faults;
using ::doppel::testing::FreeHugetlbPages;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::MakeMpscRing;
using ::doppel::testing::RunInChild;

constexpr uint64_t kHugeBytes = uint64_t{2} << 20;

std::shared_ptr<Arena> MakeArena(const Arena::Options& options = {}) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create(options);
  EXPECT_THAT(arena, IsOk());
  return *std::move(arena);
}

TEST(MpscRingMemory, GivesEverythingBack) {
  const std::shared_ptr<Arena> arena = MakeArena();
  const LeakCheck before;
  {
    MpscRing ring = MakeMpscRing(100'000, {.arena = arena});
    MpscRing moved = std::move(ring);
    ASSERT_EQ(moved.producer().push({}), RingRoom::kRoom);
    moved = MakeMpscRing(1, {.arena = arena});
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
  const absl::StatusOr<Arena::Stats> stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->handed_out_bytes, 0);
  EXPECT_EQ(stats->views, 0);
}

TEST(MpscRingMemory, KeepsItsArenaAlive) {
  std::shared_ptr<Arena> arena = MakeArena();
  MpscRing ring = MakeMpscRing(1, {.arena = arena});
  arena.reset();
  ASSERT_EQ(ring.producer().push({}), RingRoom::kRoom);
  EXPECT_EQ(ring.consumer().pop({}), 0);
}

// An arena that retains pages hands them out as their last owner left them.
TEST(MpscRingMemory, WhatPagesHeldBeforeIsNoMessage) {
  const std::shared_ptr<Arena> arena = MakeArena({.retain_bytes = 1 << 20});
  {
    absl::StatusOr<SpscRing<uint64_t>> dirty =
        SpscRing<uint64_t>::Create(1, {.arena = arena});
    ASSERT_THAT(dirty, IsOk());
    auto writer = dirty->writer();
    const uint64_t header = internal::MpscHeader::Message(8, 16).word();
    while (writer.try_push(header)) {
    }
  }
  MpscRing ring = MakeMpscRing(1, {.arena = arena});
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  for (uint64_t i = 0; i < 2 * ring.capacity_bytes(); i += 8) {
    ASSERT_EQ(consumer.next(), std::nullopt);
    ASSERT_EQ(producer.push({}), RingRoom::kRoom);
    ASSERT_EQ(consumer.pop({}), 0);
  }
}

TEST(MpscRingMemory, OperationsMakeNoSystemCall) {
  MpscRing ring = MakeMpscRing(1, {.arena = MakeArena()});
  const std::vector<std::byte> message(100);
  std::vector<std::byte> buffer(100);
  const CallCounter counter;
  {
    auto producer = ring.producer();
    auto consumer = ring.consumer();
    for (int i = 0; i < 1000; ++i) {
      while (producer.push(message) == RingRoom::kRoom) {
      }
      ASSERT_EQ(consumer.pop(buffer), 100);
      ASSERT_TRUE(producer.reserve(10));
      producer.abort();
      while (consumer.next()) {
      }
      consumer.release();
    }
  }
  EXPECT_EQ(counter.total(), 0);
}

// Invariant 7: every page is there since creation, in both views.
TEST(MpscRingMemory, NoOperationFaults) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "sanitizers fault in their shadow";
#endif
  MpscRing ring = MakeMpscRing(1 << 20, {.arena = MakeArena()});
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  std::vector<std::byte> message(100'000, std::byte{1});
  std::vector<std::byte> buffer(100'000, std::byte{1});
  rusage before{};
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &before), 0);
  for (int i = 0; i < 40; ++i) {
    if (producer.push(message) != RingRoom::kRoom) break;
    if (consumer.pop(buffer) != message.size()) break;
  }
  rusage after{};
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &after), 0);
  // Hundreds of pages were touched; the kernel may have moved a few.
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 32);
  EXPECT_EQ(ring.statistics().messages, 40);
}

TEST(MpscRingMemory, BothEndsFault) {
  MpscRing ring = MakeMpscRing(1, {.arena = MakeArena()});
  auto producer = ring.producer();
  const MessageReservation space = producer.reserve(8);
  ASSERT_TRUE(space);
  const std::byte* const begin = space.payload.data() - 8;
  const uint64_t shown = ring.capacity_bytes() * internal::Mirror::kMaxViews;
  EXPECT_TRUE(Faults(begin - 1));
  EXPECT_FALSE(Faults(begin));
  EXPECT_FALSE(Faults(begin + shown - 1));
  EXPECT_TRUE(Faults(begin + shown));
}

TEST(MpscRingMemory, StandsOnHugetlbPages) {
  if (FreeHugetlbPages(kHugeBytes) < 1) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  MpscRing ring = MakeMpscRing(
      1, {.arena = MakeArena({.page_size = PageSize::Huge2MiB()})});
  EXPECT_EQ(ring.capacity_bytes(), kHugeBytes);
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  const std::vector<std::byte> message(kHugeBytes / 3, std::byte{5});
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(producer.push(message), RingRoom::kRoom);
    const auto seen = consumer.next();
    ASSERT_TRUE(seen.has_value());
    ASSERT_TRUE(std::memcmp(seen->data(), message.data(), message.size()) == 0);
    consumer.release();
  }
}

// A forked child has the frames in common with its parent: what its copies of handles
// hold is the parent's to commit.
TEST(MpscRingMemory, AForkedChildLeavesMessagesAlone) {
  std::optional<MpscRing> ring(MakeMpscRing(1, {.arena = MakeArena()}));
  std::optional<MpscRing::Producer> producer(ring->producer());
  const MessageReservation space = producer->reserve(8);
  ASSERT_TRUE(space);
  const int status = RunInChild([&] {
    producer.reset();
    ring.reset();
    return 0;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
  auto consumer = ring->consumer();
  EXPECT_EQ(consumer.next(), std::nullopt);
  EXPECT_EQ(ring->size_bytes(), 16)
      << "the child's abort would have emptied it";
  producer->commit(8);
  EXPECT_TRUE(consumer.next().has_value());
  producer.reset();
}

// Bugs that others had.

// A pool that is exhausted is found out at creation, not by SIGBUS at a touch.
TEST(MpscRingMemoryRegression, ExhaustedHugetlbPoolIsAnError) {
  const uint64_t free_pages = FreeHugetlbPages(kHugeBytes);
  if (free_pages < 1) GTEST_SKIP() << testing::kNoHugetlbPool;
  const std::shared_ptr<Arena> arena =
      MakeArena({.page_size = PageSize::Huge2MiB()});
  const LeakCheck before;
  const auto ring =
      MpscRing::Create((free_pages + 512) * kHugeBytes, {.arena = arena});
  EXPECT_FALSE(ring.ok());
  EXPECT_TRUE(before.Unchanged());
}

// ftruncate(2) above RLIMIT_FSIZE kills by SIGXFSZ if nobody looks first.
TEST(MpscRingMemoryRegression, FileSizeLimitIsAnErrorNotASignal) {
  const int status = RunInChild([] {
    const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
    if (!arena.ok()) return 2;
    const rlimit nothing = {0, 0};
    if (setrlimit(RLIMIT_FSIZE, &nothing) != 0) return 3;
    return MpscRing::Create(1, {.arena = *arena}).ok() ? 4 : 0;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

}  // namespace
}  // namespace doppel
