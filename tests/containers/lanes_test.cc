// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/lanes.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/message.h"
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
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;

using Ring = SpscRing<uint64_t>;
using RingLanes = Lanes<RingReader<uint64_t>>;

// Rings and their writers, with the readers in lanes.
struct Producers {
  explicit Producers(size_t count) {
    for (size_t i = 0; i < count; ++i) Add();
  }
  void Add() {
    const size_t number = rings.size();
    rings.push_back(std::make_unique<Ring>(*Ring::Create(1)));
    writers.push_back(rings.back()->writer());
    EXPECT_EQ(*lanes.Add(rings.back()->reader()), number);
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

// Who spun for ever never saw that nothing comes any more, and who slept learnt of the
// end of a lane only when another lane had something.
TEST(LanesRegression, AWaitNoticesTheEndOfALaneHoweverItWaits) {
  for (const absl::Duration spin : {absl::ZeroDuration(), absl::Milliseconds(5),
                                    absl::InfiniteDuration()}) {
    Producers producers(3);
    std::thread partner([&writer = producers.writers[1]] {
      absl::SleepFor(absl::Milliseconds(10));
      writer.close();
    });
    EXPECT_EQ(producers.lanes.wait({.spin = spin}), RingWait::kClosed);
    partner.join();
    EXPECT_EQ(producers.lanes.wait({.spin = spin}), RingWait::kClosed)
        << "it is still there";
    ASSERT_TRUE(producers.writers[2].try_push(7));
    EXPECT_EQ(producers.lanes.wait({.spin = spin}), RingWait::kReady)
        << "others have something";
    EXPECT_EQ(producers.lanes.Next()->try_pop(), 7);
    const std::vector<RingLanes::Ended> ended = producers.lanes.RemoveEnded();
    ASSERT_EQ(ended.size(), 1);
    EXPECT_EQ(ended[0].lane, 1);
    EXPECT_EQ(
        producers.lanes.wait(
            {.deadline = absl::Now() + absl::Milliseconds(2), .spin = spin}),
        RingWait::kDeadlineExceeded);
  }
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
  while (producers.lanes.size() > 0) {
    if (producers.lanes.wait({.spin = absl::ZeroDuration()}) !=
        RingWait::kReady) {
      producers.lanes.RemoveEnded();
    }
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

// Whoever asks for ended lanes after each turn starves no lane by it.
TEST(LanesRegression, RemovingKeepsTheTurns) {
  Producers producers(4);
  const auto fill = [&](size_t lane) {
    while (producers.writers[lane].try_push(lane)) {
    }
  };
  for (size_t lane = 0; lane < 4; ++lane) fill(lane);
  const auto turn = [&] {
    RingReader<uint64_t>* reader = producers.lanes.Next();
    EXPECT_TRUE(reader->try_pop().has_value());
    return producers.lanes.current();
  };
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(turn(), i % 4) << "a lane had two turns, or none";
    EXPECT_TRUE(producers.lanes.RemoveEnded().empty());
    EXPECT_EQ(producers.lanes.current(), i % 4);
  }
  // The lane before the one whose turn it is ends.
  EXPECT_EQ(turn(), 0);
  RingReader<uint64_t>* reader = producers.lanes.Next();
  ASSERT_EQ(producers.lanes.current(), 1);
  reader->consume(reader->size());
  producers.writers[1].close();
  ASSERT_EQ(producers.lanes.RemoveEnded().size(), 1);
  EXPECT_EQ(turn(), 2);
  EXPECT_EQ(turn(), 3);
  EXPECT_EQ(turn(), 0);
  EXPECT_EQ(turn(), 2);
}

// A lane that is added when all others had their turn waits for no second one of theirs.
TEST(LanesRegression, AddingKeepsTheTurns) {
  Producers producers(2);
  const auto fill = [&](size_t lane) {
    while (producers.writers[lane].try_push(lane)) {
    }
  };
  const auto turn = [&] {
    EXPECT_TRUE(producers.lanes.Next()->try_pop().has_value());
    return producers.lanes.current();
  };
  fill(0);
  fill(1);
  EXPECT_EQ(turn(), 0);
  EXPECT_EQ(turn(), 1);
  producers.Add();
  fill(2);
  EXPECT_EQ(turn(), 2);
  EXPECT_EQ(turn(), 0);
  producers.Add();
  fill(3);
  for (const size_t lane : {1, 2, 3, 0}) EXPECT_EQ(turn(), lane);
}

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Rings of messages, with the readers in lanes.
struct Correspondents {
  explicit Correspondents(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      rings.push_back(std::make_unique<SpscRing<>>(
          *SpscRing<>::Create(1, {.line_ownership = LineOwnership::kOff})));
      writers.emplace_back(rings.back()->writer());
      EXPECT_EQ(*lanes.Add(MessageReader(rings.back()->reader())), i);
    }
  }
  std::vector<std::unique_ptr<SpscRing<>>> rings;
  std::vector<MessageWriter> writers;
  Lanes<MessageReader> lanes;  // Last: its readers end before the rings.
};

std::string TextOf(std::span<const std::byte> message) {
  return std::string(reinterpret_cast<const char*>(message.data()),
                     message.size());
}

TEST(LanesOfMessages, GoRound) {
  Correspondents from(3);
  EXPECT_EQ(from.lanes.Next(), nullptr);
  for (int i = 0; i < 10; ++i) {
    for (const size_t lane : {size_t{0}, size_t{2}}) {
      // Of no length, too.
      ASSERT_EQ(from.writers[lane].push(Bytes(std::string(i, 'a'))),
                RingRoom::kRoom);
    }
  }
  std::map<size_t, int> turns;
  for (int i = 0; i < 20; ++i) {
    MessageReader* reader = from.lanes.Next();
    ASSERT_NE(reader, nullptr);
    const auto message = reader->next();
    ASSERT_TRUE(message.has_value());
    const size_t lane = from.lanes.current();
    EXPECT_EQ(TextOf(*message), std::string(turns[lane]++, 'a'));
    if (i % 3 == 0) reader->release();
    EXPECT_LE(std::abs(turns[0] - turns[2]), 1) << "a lane had two turns";
  }
  EXPECT_EQ(from.lanes.Next(), nullptr)
      << "what was shown and not released is not something new";
}

TEST(LanesOfMessages, WaitForAnyOfThem) {
  Correspondents from(4);
  std::thread partner([&writer = from.writers[3]] {
    absl::SleepFor(absl::Milliseconds(10));
    ASSERT_EQ(writer.push(Bytes("seven")), RingRoom::kRoom);
  });
  EXPECT_EQ(from.lanes.wait(), RingWait::kReady);
  MessageReader* reader = from.lanes.Next();
  ASSERT_NE(reader, nullptr);
  EXPECT_EQ(TextOf(*reader->next()), "seven");
  EXPECT_EQ(from.lanes.current(), 3);
  partner.join();
  // A message that was shown does not end a wait.
  EXPECT_EQ(from.lanes.wait({.deadline = absl::Now() + absl::Milliseconds(5)}),
            RingWait::kDeadlineExceeded);
}

TEST(LanesOfMessages, EndWhenDrained) {
  Correspondents from(2);
  ASSERT_EQ(from.writers[0].push(Bytes("last")), RingRoom::kRoom);
  from.writers[0].close();
  EXPECT_TRUE(from.lanes.RemoveEnded().empty()) << "a message is left";
  std::array<std::byte, 8> buffer = {};
  EXPECT_EQ(from.lanes.Next()->pop(buffer), 4);
  const auto ended = from.lanes.RemoveEnded();
  ASSERT_EQ(ended.size(), 1);
  EXPECT_EQ(ended[0].lane, 0);
  EXPECT_EQ(ended[0].why, RingWait::kClosed);
  EXPECT_EQ(from.lanes.size(), 1);
}

// Whoever writes something else than messages is out, and holds up nobody.
TEST(LanesOfMessages, ALaneThatLiesIsRemoved) {
  Correspondents from(1);
  auto ring = SpscRing<>::Create(1, {.line_ownership = LineOwnership::kOff});
  ASSERT_THAT(ring, IsOk());
  {
    MessageWriter honest(ring->writer());
    ASSERT_EQ(honest.push(Bytes("true")), RingRoom::kRoom);
  }
  const std::array<std::byte, 8> lie = {std::byte{0xff}, std::byte{0xff}};
  ASSERT_EQ(ring->writer().push(lie), 8);
  ASSERT_THAT(from.lanes.Add(MessageReader(ring->reader())), IsOk());
  EXPECT_EQ(from.lanes.wait(), RingWait::kReady);
  MessageReader* reader = from.lanes.Next();
  ASSERT_NE(reader, nullptr);
  EXPECT_EQ(TextOf(*reader->next()), "true");
  reader->release();
  EXPECT_EQ(from.lanes.Next(), nullptr);
  ASSERT_EQ(from.writers[0].push(Bytes("on")), RingRoom::kRoom);
  const auto ended = from.lanes.RemoveEnded();
  ASSERT_EQ(ended.size(), 1);
  EXPECT_EQ(ended[0].lane, 1);
  EXPECT_EQ(ended[0].why, RingWait::kDataLoss);
  EXPECT_EQ(from.lanes.wait(), RingWait::kReady);
  EXPECT_EQ(TextOf(*from.lanes.Next()->next()), "on");
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
