// SPDX-License-Identifier: Apache-2.0
//
// kill -9 at random moments, over and over, of whoever writes or reads a shared ring at
// full speed. What was published is read once and whole, the survivor notices the end
// and never hangs, and a new peer goes on.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::ExpectItem;
using ::doppel::testing::IsItem;
using ::doppel::testing::Item;
using ::doppel::testing::Numbered;
using ::doppel::testing::Scaled;

using Ring = SharedRing<Item>;

constexpr size_t kCapacity = 2000;
constexpr uint64_t kMostOfAnOperation = 300;
constexpr uint64_t kMostOperations = 30;
constexpr uint64_t kItemsPerPause = 64;
constexpr uint64_t kLongestPauseNs = 20'000;
constexpr RingWaitOptions kSleepSoon = {.spin = absl::Microseconds(1)};

// What the child tells its parent about the moment of its death.
struct Diary {
  std::atomic<bool> in_operation{false};
  std::atomic<uint64_t> operations{0};
};

class SharedDiary {
 public:
  SharedDiary()
      : diary_(new (mmap(nullptr, sizeof(Diary), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Diary) {}
  ~SharedDiary() { munmap(diary_, sizeof(Diary)); }
  SharedDiary(const SharedDiary&) = delete;
  SharedDiary& operator=(const SharedDiary&) = delete;
  Diary* operator->() { return diary_; }

 private:
  Diary* diary_;
};

// In the child, which gives up what it has of its parent's.
Ring AttachInChild(Ring& parents, RingInvitation& invitation) {
  Ring ring = *Ring::Attach(
      std::move(invitation),
      {.line_ownership =
           parents.owns_lines() ? LineOwnership::kOn : LineOwnership::kOff});
  parents = std::move(ring);
  return std::move(parents);
}

// Some time in the middle of an operation, as who makes or uses items takes it.
void Linger(std::mt19937_64& random) {
  const absl::Time until =
      absl::Now() + absl::Nanoseconds(random() % kLongestPauseNs);
  while (absl::Now() < until) {
  }
}

// Pushes items, numbered by their positions, until it is killed.
int WriteUntilKilled(Ring ring, uint64_t seed, SharedDiary& diary) {
  std::mt19937_64 random(seed);
  auto writer = *ring.writer();
  for (uint64_t next = ring.statistics().pushed;;) {
    const uint64_t n = 1 + random() % kMostOfAnOperation;
    diary->in_operation.store(true, std::memory_order_relaxed);
    const std::span<Item> slots = writer.reserve(n);
    for (Item& slot : slots) {
      slot = Numbered(next++);
      if (slot.number % kItemsPerPause == 0) Linger(random);
    }
    if (!slots.empty()) writer.commit(n);
    diary->in_operation.store(false, std::memory_order_relaxed);
    diary->operations.fetch_add(1, std::memory_order_relaxed);
    if (slots.empty() && writer.wait(n, kSleepSoon) != RingWait::kReady) {
      return 1;
    }
  }
}

// Takes items and checks them until it is killed.
int ReadUntilKilled(Ring ring, uint64_t seed, SharedDiary& diary) {
  std::mt19937_64 random(seed);
  auto reader = *ring.reader();
  std::optional<uint64_t> expected;
  for (;;) {
    if (reader.wait(1, kSleepSoon) != RingWait::kReady) return 1;
    diary->in_operation.store(true, std::memory_order_relaxed);
    std::span<const Item> items = reader.peek();
    items = items.first(
        std::min<size_t>(items.size(), 1 + random() % kMostOfAnOperation));
    for (const Item& item : items) {
      if (!IsItem(item, expected.value_or(item.number))) return 2;
      expected = item.number + 1;
      if (item.number % kItemsPerPause == 0) Linger(random);
    }
    reader.consume(items.size());
    diary->in_operation.store(false, std::memory_order_relaxed);
    diary->operations.fetch_add(1, std::memory_order_relaxed);
  }
}

struct Tally {
  int64_t kills = 0;
  int64_t in_operation = 0;
};

void Report(const char* who, const Tally& tally) {
  std::cout << "killed " << tally.kills << " times as " << who << ", "
            << tally.in_operation << " of them within an operation\n";
  EXPECT_GE(tally.in_operation * 10, tally.kills);
}

void Count(SharedDiary& diary, Tally& tally) {
  ++tally.kills;
  if (diary->in_operation.load(std::memory_order_relaxed)) {
    ++tally.in_operation;
  }
}

class RandomKill : public ::testing::TestWithParam<LineOwnership> {
 protected:
  static int64_t Rounds() { return Scaled(2'500, 50'000); }

  // Whether the child's hour has come. Every second one is killed once it is seen within
  // an operation, however seldom the machine lets a child get there.
  static bool Due(SharedDiary& diary, uint64_t last_operation, int64_t round) {
    return diary->operations.load() >= last_operation &&
           (round % 2 == 0 || diary->in_operation.load());
  }

  Ring ring_ = *Ring::Create(kCapacity, {.line_ownership = GetParam()});
  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(LineOwnership, RandomKill,
                         ::testing::Values(LineOwnership::kOn,
                                           LineOwnership::kOff),
                         [](const auto& info) {
                           return info.param == LineOwnership::kOn ? "On"
                                                                   : "Off";
                         });

TEST_P(RandomKill, OfTheWriter) {
  Tally tally;
  auto reader = *ring_.reader();
  uint64_t expected = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary;
    RingInvitation invitation = *ring_.Invite();
    const uint64_t seed = random_();
    Child child([&] {
      return WriteUntilKilled(AttachInChild(ring_, invitation), seed, diary);
    });
    invitation.Reset();
    const uint64_t last_operation = random_() % kMostOperations;
    for (bool killed = false;;) {
      const RingWait waited = reader.wait(1, kSleepSoon);
      if (waited == RingWait::kPeerGone) break;
      ASSERT_EQ(waited, RingWait::kReady);
      const std::span<const Item> items = reader.peek();
      for (const Item& item : items) ExpectItem(item, expected++);
      reader.consume(items.size());
      if (killed || !Due(diary, last_operation, round)) continue;
      ASSERT_TRUE(DiedOf(child.Kill(), SIGKILL));
      Count(diary, tally);
      killed = true;
    }
    EXPECT_EQ(ring_.statistics().pushed, expected) << "round " << round;
  }
  Report("writer", tally);
}

TEST_P(RandomKill, OfTheReader) {
  Tally tally;
  auto writer = *ring_.writer();
  uint64_t written = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    SharedDiary diary;
    RingInvitation invitation = *ring_.Invite();
    const uint64_t seed = random_();
    Child child([&] {
      return ReadUntilKilled(AttachInChild(ring_, invitation), seed, diary);
    });
    invitation.Reset();
    const uint64_t last_operation = random_() % kMostOperations;
    for (bool killed = false;;) {
      const RingWait waited = writer.wait(1, kSleepSoon);
      if (waited == RingWait::kPeerGone) break;
      ASSERT_EQ(waited, RingWait::kReady);
      // Room for ever, once the reader is dead: then it shows at the latest.
      if (killed && writer.peer_gone()) break;
      ASSERT_TRUE(writer.try_push(Numbered(written)));
      ++written;
      if (killed || !Due(diary, last_operation, round)) continue;
      ASSERT_TRUE(DiedOf(child.Kill(), SIGKILL));
      Count(diary, tally);
      killed = true;
    }
    // A successor finds all that was not finished, whole and in order.
    Ring successor = *Ring::Attach(*ring_.Invite());
    auto reader = *successor.reader();
    const std::span<const Item> left = reader.peek();
    ASSERT_LE(left.size(), written);
    uint64_t number = written - left.size();
    EXPECT_GE(number, ring_.statistics().popped);
    for (const Item& item : left) ExpectItem(item, number++);
  }
  Report("reader", tally);
}

}  // namespace
}  // namespace doppel
