// SPDX-License-Identifier: Apache-2.0
//
// What a ring takes from the machine, and what it gives back.

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::Faults;
using ::doppel::testing::FreeHugetlbPages;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;

constexpr bool kCanonical = internal::Mirror::kMaxViews == 1;
constexpr uint64_t kHugeBytes = uint64_t{2} << 20;

std::shared_ptr<Arena> MakeArena(const Arena::Options& options = {}) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create(options);
  EXPECT_THAT(arena, IsOk());
  return *std::move(arena);
}

template <class T>
SpscRing<T> MakeRing(size_t min_capacity, const std::shared_ptr<Arena>& arena) {
  absl::StatusOr<SpscRing<T>> ring =
      SpscRing<T>::Create(min_capacity, {.arena = arena});
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

TEST(SpscRingMemory, GivesEverythingBack) {
  const std::shared_ptr<Arena> arena = MakeArena();
  // What is made once a process: the C library keeps the memory of a thread.
  MakeRing<int>(1, arena);
  const LeakCheck before;
  {
    SpscRing<int> ring = MakeRing<int>(100'000, arena);
    SpscRing<int> moved = std::move(ring);
    ASSERT_TRUE(moved.writer().try_push(1));
    moved = MakeRing<int>(1, arena);
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
  const absl::StatusOr<Arena::Stats> stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->handed_out_bytes, 0);
  EXPECT_EQ(stats->views, 0);
}

TEST(SpscRingMemory, AThousandRingsShareOneDescriptor) {
  const std::shared_ptr<Arena> arena = MakeArena();
  const size_t descriptors = testing::OpenDescriptors().size();
  std::vector<SpscRing<uint64_t>> rings;
  for (int i = 0; i < 1000; ++i) {
    rings.push_back(MakeRing<uint64_t>(1, arena));
    ASSERT_TRUE(rings.back().writer().try_push(i));
  }
  EXPECT_EQ(testing::OpenDescriptors().size(), descriptors);
  for (uint64_t i = 0; i < rings.size(); ++i) {
    ASSERT_EQ(rings[i].reader().try_pop(), i);
  }
}

TEST(SpscRingMemory, KeepsItsArenaAlive) {
  std::shared_ptr<Arena> arena = MakeArena();
  SpscRing<int> ring = MakeRing<int>(1, arena);
  arena.reset();
  ASSERT_TRUE(ring.writer().try_push(5));
  EXPECT_EQ(ring.reader().try_pop(), 5);
}

TEST(SpscRingMemory, OperationsMakeNoSystemCall) {
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1, MakeArena());
  std::vector<uint64_t> batch(100);
  const CallCounter counter;
  {
    auto writer = ring.writer();
    auto reader = ring.reader();
    for (int i = 0; i < 1000; ++i) {
      ASSERT_TRUE(writer.try_push(1));
      ASSERT_EQ(writer.push(batch), 100);
      ASSERT_EQ(writer.reserve(10).size(), 10);
      writer.commit(10);
      ASSERT_EQ(reader.pop(batch), 100);
      ASSERT_FALSE(reader.peek(11).empty());
      reader.consume(11);
    }
  }
  EXPECT_EQ(counter.total(), 0);
}

// Invariant 4: every page is there since creation, in both views.
TEST(SpscRingMemory, NoOperationFaults) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "sanitizers fault in their shadow";
#endif
  SpscRing<unsigned char> ring = MakeRing<unsigned char>(1 << 20, MakeArena());
  auto writer = ring.writer();
  auto reader = ring.reader();
  std::vector<unsigned char> batch(100'000, 1);
  ASSERT_EQ(writer.push(batch), batch.size());
  ASSERT_EQ(reader.pop(batch), batch.size());
  rusage before{};
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &before), 0);
  for (int i = 0; i < 40; ++i) {
    if (writer.push(batch) != batch.size()) break;
    if (reader.pop(batch) != batch.size()) break;
  }
  rusage after{};
  ASSERT_EQ(getrusage(RUSAGE_THREAD, &after), 0);
  // Hundreds of pages were touched; the kernel may have moved a few.
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 32);
}

TEST(SpscRingMemory, BothEndsFault) {
  SpscRing<unsigned char> ring = MakeRing<unsigned char>(1, MakeArena());
  auto writer = ring.writer();
  const size_t capacity = ring.capacity();
  const unsigned char* const begin = writer.reserve(capacity).data();
  const size_t shown = capacity * internal::Mirror::kMaxViews;
  EXPECT_TRUE(Faults(begin - 1));
  EXPECT_FALSE(Faults(begin));
  EXPECT_FALSE(Faults(begin + shown - 1));
  EXPECT_TRUE(Faults(begin + shown));
}

// Items that are not bytes are never reached by an alias, so there is none.
TEST(SpscRingMemory, ObjectsTakeOneView) {
  const std::shared_ptr<Arena> arena = MakeArena();
  SpscRing<std::unique_ptr<int>> ring =
      MakeRing<std::unique_ptr<int>>(1, arena);
  EXPECT_EQ(arena->Query()->views, 1);
  SpscRing<int> of_bytes = MakeRing<int>(1, arena);
  EXPECT_EQ(arena->Query()->views, kCanonical ? 4 : 3);
}

TEST(SpscRingMemory, StandsOnHugetlbPages) {
  if (FreeHugetlbPages(kHugeBytes) < 3) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const std::shared_ptr<Arena> arena =
      MakeArena({.page_size = PageSize::Huge2MiB()});
  SpscRing<uint64_t> ring = MakeRing<uint64_t>(1, arena);
  EXPECT_EQ(ring.memory_bytes(), kHugeBytes);
  EXPECT_EQ(ring.capacity(), kHugeBytes / 8);
  auto writer = ring.writer();
  auto reader = ring.reader();
  std::vector<uint64_t> items(ring.capacity() - 3);
  std::iota(items.begin(), items.end(), 0);
  for (int lap = 0; lap < 4; ++lap) {
    ASSERT_EQ(writer.push(items), items.size());
    const auto seen = reader.peek(items.size());
    ASSERT_TRUE(std::equal(seen.begin(), seen.end(), items.begin()));
    reader.consume(seen.size());
  }
}

// Bugs that others had.

// A pool that is exhausted is found out at creation, not by SIGBUS at a touch.
TEST(SpscRingMemoryRegression, ExhaustedHugetlbPoolIsAnError) {
  const uint64_t free_pages = FreeHugetlbPages(kHugeBytes);
  if (free_pages < 1) GTEST_SKIP() << testing::kNoHugetlbPool;
  const std::shared_ptr<Arena> arena =
      MakeArena({.page_size = PageSize::Huge2MiB()});
  const LeakCheck before;
  const auto ring =
      SpscRing<>::Create((free_pages + 512) * kHugeBytes, {.arena = arena});
  EXPECT_FALSE(ring.ok());
  EXPECT_TRUE(before.Unchanged());
}

// ftruncate(2) above RLIMIT_FSIZE kills by SIGXFSZ if nobody looks first.
TEST(SpscRingMemoryRegression, FileSizeLimitIsAnErrorNotASignal) {
  const int status = testing::RunInChild([] {
    const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
    if (!arena.ok()) return 2;
    const rlimit nothing = {0, 0};
    if (setrlimit(RLIMIT_FSIZE, &nothing) != 0) return 3;
    return SpscRing<>::Create(1, {.arena = *arena}).ok() ? 4 : 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0)) << status;
}

}  // namespace
}  // namespace doppel
