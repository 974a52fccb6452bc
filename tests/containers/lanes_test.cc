// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/lanes.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::Exited;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;

using Ring = SpscRing<uint64_t>;
using RingLanes = Lanes<RingReader<uint64_t>>;

// Rings and their writers, with the readers in lanes.
struct Producers {
  explicit Producers(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      rings.push_back(std::make_unique<Ring>(*Ring::Create(1)));
      writers.push_back(rings.back()->writer());
      EXPECT_EQ(*lanes.Add(rings.back()->reader()), i);
    }
  }
  std::vector<std::unique_ptr<Ring>> rings;
  std::vector<Ring::Writer> writers;
  RingLanes lanes;  // Last: its readers end before the rings.
};

TEST(Lanes, GoRound) {
  Producers producers(3);
  EXPECT_EQ(producers.lanes.Next(), nullptr);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(producers.writers[0].try_push(0));
    ASSERT_TRUE(producers.writers[2].try_push(2));
  }
  std::map<size_t, int> turns;
  for (int i = 0; i < 20; ++i) {
    RingReader<uint64_t>* reader = producers.lanes.Next();
    ASSERT_NE(reader, nullptr);
    EXPECT_EQ(reader->try_pop(), producers.lanes.current());
    ++turns[producers.lanes.current()];
    EXPECT_LE(std::abs(turns[0] - turns[2]), 1) << "a lane had two turns";
  }
  EXPECT_EQ(producers.lanes.Next(), nullptr);
}

TEST(Lanes, WaitForAnyOfThem) {
  Producers producers(4);
  std::thread partner([&writer = producers.writers[3]] {
    absl::SleepFor(absl::Milliseconds(10));
    ASSERT_TRUE(writer.try_push(7));
  });
  EXPECT_EQ(producers.lanes.wait(), RingWait::kReady);
  EXPECT_EQ(producers.lanes.Next()->try_pop(), 7);
  EXPECT_EQ(producers.lanes.current(), 3);
  partner.join();
  EXPECT_EQ(
      producers.lanes.wait({.deadline = absl::Now() + absl::Milliseconds(5)}),
      RingWait::kDeadlineExceeded);
}

TEST(Lanes, EndWhenDrained) {
  Producers producers(2);
  ASSERT_TRUE(producers.writers[0].try_push(1));
  producers.writers[0].close();
  EXPECT_TRUE(producers.lanes.RemoveEnded().empty()) << "an item is left";
  EXPECT_EQ(producers.lanes.wait(), RingWait::kReady);
  EXPECT_EQ(producers.lanes.Next()->try_pop(), 1);
  const std::vector<RingLanes::Ended> ended = producers.lanes.RemoveEnded();
  ASSERT_EQ(ended.size(), 1);
  EXPECT_EQ(ended[0].lane, 0);
  EXPECT_EQ(ended[0].why, RingWait::kClosed);
  EXPECT_EQ(producers.lanes.size(), 1);
  producers.writers[1].close();
  EXPECT_EQ(producers.lanes.wait(), RingWait::kClosed);
  EXPECT_EQ(producers.lanes.RemoveEnded().size(), 1);
  EXPECT_EQ(producers.lanes.wait(), RingWait::kClosed) << "there is none";
}

TEST(Lanes, NoSystemCallWhileThereIsSomething) {
  Producers producers(3);
  for (auto& writer : producers.writers) {
    while (writer.try_push(1)) {
    }
  }
  // Any call would be the first to fail.
  const FaultPlan plan({.call = testing::Call::kPoll, .error = EINVAL});
  const FaultPlan barrier({.call = testing::Call::kMembarrier, .error = EPERM});
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(producers.lanes.wait(), RingWait::kReady);
    ASSERT_TRUE(producers.lanes.Next()->try_pop().has_value());
  }
  EXPECT_FALSE(plan.fired() || barrier.fired());
}

TEST(Lanes, AllItemsOfAllThreads) {
  constexpr uint64_t kItems = 50'000;
  Producers producers(3);
  std::vector<std::thread> threads;
  for (auto& writer : producers.writers) {
    threads.emplace_back([&writer] {
      for (uint64_t i = 0; i < kItems; ++i) {
        while (!writer.try_push(i)) writer.wait();
      }
      writer.close();
    });
  }
  std::map<size_t, uint64_t> expected;
  while (producers.lanes.wait({.spin = absl::ZeroDuration()}) ==
         RingWait::kReady) {
    while (RingReader<uint64_t>* reader = producers.lanes.Next()) {
      uint64_t& next = expected[producers.lanes.current()];
      for (int i = 0; i < 64; ++i) {
        const std::optional<uint64_t> item = reader->try_pop();
        if (!item.has_value()) break;
        ASSERT_EQ(*item, next++);
      }
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(expected[i], kItems);
}

// A producer that dies in the middle blocks nobody, and what it published is read.
TEST(Lanes, ADeadProcessBlocksNobody) {
  using Shared = SharedRing<uint64_t>;
  constexpr size_t kProducers = 4;
  std::vector<Shared> rings;
  std::vector<std::unique_ptr<Child>> children;
  Lanes<RingReader<uint64_t>> lanes;
  for (size_t i = 0; i < kProducers; ++i) {
    rings.push_back(
        *Shared::Create(1, {.line_ownership = LineOwnership::kOff}));
    std::optional<RingInvitation> invitation = *rings.back().Invite();
    children.push_back(std::make_unique<Child>([&] {
      Shared mine = *Shared::Attach(*std::move(invitation),
                                    {.line_ownership = LineOwnership::kOff});
      rings.clear();
      auto writer = *mine.writer();
      for (uint64_t n = 0; n < 1000 || i != 1; ++n) {
        while (!writer.try_push(n)) writer.wait();
      }
      return 0;
    }));
    invitation.reset();
    ASSERT_THAT(lanes.Add(*rings.back().reader()), IsOk());
  }
  std::map<size_t, uint64_t> expected;
  size_t killed = 0;
  std::map<size_t, RingWait> ended;
  while (ended.size() < kProducers) {
    const RingWait waited = lanes.wait();
    if (waited == RingWait::kReady) {
      RingReader<uint64_t>* reader = lanes.Next();
      while (std::optional<uint64_t> item = reader->try_pop()) {
        ASSERT_EQ(*item, expected[lanes.current()]++);
        if (expected[lanes.current()] % 500 == 0) break;
      }
    }
    if (expected[killed] > 2000 && killed < kProducers) {
      children[killed]->Kill();
      ++killed;
    }
    if (killed == 1 && ended.contains(1)) killed = 2;
    for (const auto& one : lanes.RemoveEnded()) ended[one.lane] = one.why;
  }
  EXPECT_EQ(expected[1], 1000) << "it ended by itself";
  for (const auto& [lane, why] : ended) {
    EXPECT_EQ(why, RingWait::kPeerGone) << lane;
    EXPECT_EQ(rings[lane].statistics().pushed, expected[lane]);
  }
}

}  // namespace
}  // namespace doppel
