// SPDX-License-Identifier: Apache-2.0
//
// Every system call that making a ring takes fails in turn, with each errno that its
// manual page lists; and every limit that a process can run into is run into.

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::FailEachCall;
using ::doppel::testing::FreeHugetlbPages;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::ScopedRlimit;

// An arena, a ring in it that must not notice anything, and the one that is made.
template <class T>
struct State {
  std::shared_ptr<Arena> arena;
  std::optional<SpscRing<T>> neighbour;
  std::optional<SpscRing<T>> made;
};

template <class T>
T ItemOf(int number) {
  if constexpr (std::is_same_v<T, std::string>) {
    return std::to_string(number);
  } else {
    return static_cast<T>(number);
  }
}

template <class T>
State<T> Prepare(const Arena::Options& options) {
  absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create(options);
  EXPECT_THAT(arena, IsOk());
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(1, {.arena = *arena});
  EXPECT_THAT(ring, IsOk());
  State<T> state = {*std::move(arena), *std::move(ring), std::nullopt};
  auto writer = state.neighbour->writer();
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(writer.try_push(ItemOf<T>(i)));
  return state;
}

// Whether items go over the wrap, wherever an empty ring stands.
template <class T>
bool Works(SpscRing<T>& ring) {
  auto writer = ring.writer();
  auto reader = ring.reader();
  size_t singles = 2 * ring.capacity();
  if constexpr (std::is_trivially_copyable_v<T>) {
    // Most of a lap at once: hugetlb rings have millions of items.
    const size_t n = ring.capacity() - 3;
    const std::span<T> slots = writer.reserve(n);
    if (slots.size() != n) return false;
    slots.front() = ItemOf<T>(1);
    slots.back() = ItemOf<T>(2);
    writer.commit(n);
    const std::span<const T> items = reader.peek(n);
    if (items.size() != n) return false;
    if (items.front() != ItemOf<T>(1)) return false;
    if (items.back() != ItemOf<T>(2)) return false;
    reader.consume(n);
    singles = 100;
  }
  for (size_t i = 0; i < singles; ++i) {
    const T item = ItemOf<T>(static_cast<int>(i % 100));
    if (!writer.try_push(item)) return false;
    if (reader.try_pop() != item) return false;
  }
  return reader.try_pop() == std::nullopt;
}

// After a fault the neighbour has its items, a ring that was made nevertheless
// works, and the next one can be made.
template <class T>
void Check(State<T>& state, const absl::Status& outcome) {
  {
    auto reader = state.neighbour->reader();
    EXPECT_EQ(reader.size(), 50);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(reader.try_pop(), ItemOf<T>(i));
  }
  EXPECT_EQ(outcome.ok(), state.made.has_value());
  if (outcome.ok()) {
    EXPECT_TRUE(Works(*state.made));
  } else {
    EXPECT_NE(outcome.message(), "");
  }
  absl::StatusOr<SpscRing<T>> next =
      SpscRing<T>::Create(1, {.arena = state.arena});
  ASSERT_THAT(next, IsOk());
  EXPECT_TRUE(Works(*next));
}

template <class T>
int Campaign(const Arena::Options& options, size_t capacity) {
  return FailEachCall([&] { return Prepare<T>(options); },
                      [&](State<T>& state) {
                        absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(
                            capacity, {.arena = state.arena});
                        if (ring.ok()) state.made.emplace(*std::move(ring));
                        return ring.status();
                      },
                      [](const absl::Status& outcome) { return !outcome.ok(); },
                      [](State<T>& state, const absl::Status& outcome) {
                        Check<T>(state, outcome);
                      });
}

TEST(RingCampaign, Bytes) { EXPECT_GT(Campaign<unsigned char>({}, 1), 20); }

TEST(RingCampaign, Objects) { EXPECT_GT(Campaign<std::string>({}, 1000), 20); }

TEST(RingCampaign, LargerThanATransparentUnit) {
  EXPECT_GT(Campaign<unsigned char>({}, size_t{3} << 20), 20);
}

TEST(RingCampaign, LockedArena) {
  EXPECT_GT(Campaign<uint64_t>({.lock = true}, 1), 20);
}

TEST(RingCampaign, ArenaThatForksDoNotSee) {
  EXPECT_GT(
      Campaign<uint64_t>({.fork_policy = Arena::ForkPolicy::kDontFork}, 1), 20);
}

TEST(RingCampaign, Hugetlb) {
  if (FreeHugetlbPages(uint64_t{2} << 20) < 8) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  EXPECT_GT(Campaign<unsigned char>({.page_size = PageSize::Huge2MiB()}, 1),
            20);
}

// Limits are run into in a child, so that the test's own process keeps its own.

TEST(RingLimits, AddressSpace) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow is larger than the limit";
#endif
  const int status = RunInChild([] {
    absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
    if (!arena.ok()) return 2;
    const LeakCheck before;
    {
      const ScopedRlimit limit(RLIMIT_AS, 64 << 20);
      const auto ring =
          SpscRing<>::Create(size_t{256} << 20, {.arena = *arena});
      if (!absl::IsResourceExhausted(ring.status())) return 3;
    }
    if (!before.Unchanged()) return 4;
    auto next = SpscRing<unsigned char>::Create(1, {.arena = *arena});
    return next.ok() && Works(*next) ? 0 : 5;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(RingLimits, Descriptors) {
  const int status = RunInChild([] {
    const rlimit limit = {3, 3};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return 2;
    // The process's own arena cannot be made now.
    const auto ring = SpscRing<>::Create(1);
    return ring.status().code() == absl::StatusCode::kResourceExhausted ? 0 : 3;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(RingLimits, FileSize) {
  const int status = RunInChild([] {
    absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Create();
    if (!arena.ok()) return 2;
    const rlimit limit = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
    const auto ring = SpscRing<>::Create(8 << 20, {.arena = *arena});
    if (ring.status().code() != absl::StatusCode::kOutOfRange) return 4;
    auto smaller = SpscRing<unsigned char>::Create(1, {.arena = *arena});
    return smaller.ok() && Works(*smaller) ? 0 : 5;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(RingLimits, LockedMemory) {
  const int status = RunInChild([] {
    absl::StatusOr<std::shared_ptr<Arena>> arena =
        Arena::Create({.lock = true});
    if (!arena.ok()) return 2;
    if (!testing::DropLockPrivilege()) return 3;
    const ScopedRlimit limit(RLIMIT_MEMLOCK, BasePageBytes());
    const LeakCheck before;
    const auto ring = SpscRing<>::Create(1 << 20, {.arena = *arena});
    if (!absl::IsResourceExhausted(ring.status())) return 4;
    if (!absl::StrContains(ring.status().message(), "RLIMIT_MEMLOCK")) return 5;
    return before.Unchanged() ? 0 : 6;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

}  // namespace
}  // namespace doppel
