// SPDX-License-Identifier: Apache-2.0
//
// kill -9 at random moments of whoever writes or reads a ring at full speed: the child
// that goes on until it is killed, its parent at the other end, and who decides when.
//
//   child    operation ─ operation ─ ope│SIGKILL     Diary: within one? how many? how far?
//   parent   push or pop ... Look ... Look ┘ ... until it learns of the end
//
// Invariants:
//   1. Every second child is killed once it is seen within an operation, however seldom
//      the machine lets a child get there.
//   2. No child ends in another way: one that does fails the test.
//
// Thread safety: a Diary is of two processes; the rest belongs to one.
// Errors: what a child finds wrong is its exit code, and then a test failure.
//
// Example:
//   Child child([&] { return WriteUntilKilled(AttachInChild(), 0, seed, diary); });
//   Reaper reaper(child, diary, {.round = 1, .last_operation = 7}, tally);
//   ReadUntilGone(reader, expected, reaper);

#ifndef DOPPEL_TESTS_CRASH_RANDOM_KILL_H_
#define DOPPEL_TESTS_CRASH_RANDOM_KILL_H_

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <new>
#include <optional>
#include <random>
#include <span>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/ring_writer.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline constexpr uint64_t kMostOfAnOperation = 300;
inline constexpr uint64_t kMostOperations = 30;
inline constexpr uint64_t kItemsPerPause = 64;
inline constexpr uint64_t kLongestPauseNs = 20'000;
inline constexpr RingWaitOptions kSleepSoon = {.spin = absl::Microseconds(1)};

// What the child tells its parent about the moment of its death.
struct Diary {
  std::atomic<bool> in_operation{false};
  std::atomic<uint64_t> operations{0};
  // Of the next item after those that it has handed over or back for sure.
  std::atomic<uint64_t> number{0};

  void Begin() { in_operation.store(true, std::memory_order_relaxed); }
  void End(uint64_t next) {
    number.store(next, std::memory_order_relaxed);
    in_operation.store(false, std::memory_order_relaxed);
    operations.fetch_add(1, std::memory_order_relaxed);
  }
};

class SharedDiary {
 public:
  // Of a child whose first item has this number.
  explicit SharedDiary(uint64_t first)
      : diary_(new (mmap(nullptr, sizeof(Diary), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Diary) {
    diary_->number.store(first, std::memory_order_relaxed);
  }
  ~SharedDiary() { munmap(diary_, sizeof(Diary)); }
  SharedDiary(const SharedDiary&) = delete;
  SharedDiary& operator=(const SharedDiary&) = delete;
  Diary* operator->() { return diary_; }

 private:
  Diary* diary_;
};

// --- The child. ---

// Some time in the middle of an operation, as who makes or uses items takes it.
inline void Linger(std::mt19937_64& random) {
  const absl::Time until =
      absl::Now() + absl::Nanoseconds(random() % kLongestPauseNs);
  while (absl::Now() < until) {
  }
}

// Pushes items, numbered from `next` on, until it is killed.
inline int WriteUntilKilled(RingWriter<Item> writer, uint64_t next,
                            uint64_t seed, SharedDiary& diary) {
  std::mt19937_64 random(seed);
  for (;;) {
    const uint64_t n = 1 + random() % kMostOfAnOperation;
    diary->Begin();
    const std::span<Item> slots = writer.reserve(n);
    for (Item& slot : slots) {
      slot = Numbered(next++);
      if (slot.number % kItemsPerPause == 0) Linger(random);
    }
    if (!slots.empty()) writer.commit(n);
    diary->End(next);
    if (slots.empty() && writer.wait(n, kSleepSoon) != RingWait::kReady) {
      return 1;
    }
  }
}

// Takes items and checks them until it is killed.
inline int ReadUntilKilled(RingReader<Item> reader, uint64_t seed,
                           SharedDiary& diary) {
  std::mt19937_64 random(seed);
  std::optional<uint64_t> expected;
  for (;;) {
    if (reader.wait(1, kSleepSoon) != RingWait::kReady) return 1;
    diary->Begin();
    std::span<const Item> items = reader.peek();
    items = items.first(
        std::min<size_t>(items.size(), 1 + random() % kMostOfAnOperation));
    for (const Item& item : items) {
      if (!IsItem(item, expected.value_or(item.number))) return 2;
      expected = item.number + 1;
      if (item.number % kItemsPerPause == 0) Linger(random);
    }
    reader.consume(items.size());
    diary->End(*expected);
  }
}

// --- The parent. ---

struct Tally {
  int64_t kills = 0;
  int64_t in_operation = 0;

  void Report(const char* who) const {
    std::cout << "killed " << kills << " times as " << who << ", "
              << in_operation << " of them within an operation\n";
    EXPECT_GT(kills, 0);
    EXPECT_GE(in_operation * 10, kills);
  }
};

struct Hour {
  int64_t round = 0;
  uint64_t last_operation = 0;
};

// Kills a child when its hour has come.
class Reaper {
 public:
  Reaper(Child& child, SharedDiary& diary, Hour hour, Tally& tally)
      : child_(child), diary_(diary), hour_(hour), tally_(tally) {}
  // After the child's end has been noticed.
  ~Reaper() {
    if (killed_) return;
    // It may still be about to exit, by the code that says why.
    absl::SleepFor(absl::Milliseconds(100));
    ADD_FAILURE() << "it was not killed; its status is " << child_.Kill();
  }
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // To be called often.
  void Look() {
    if (killed_ || !IsDue()) return;
    const int status = child_.Kill();
    EXPECT_TRUE(DiedOf(status, SIGKILL)) << status;
    killed_ = true;
    ++tally_.kills;
    if (diary_->in_operation.load(std::memory_order_relaxed)) {
      ++tally_.in_operation;
    }
  }

  bool killed() const { return killed_; }

 private:
  bool IsDue() {
    return diary_->operations.load() >= hour_.last_operation &&
           (hour_.round % 2 == 0 || diary_->in_operation.load());
  }

  Child& child_;
  SharedDiary& diary_;
  const Hour hour_;
  Tally& tally_;
  bool killed_ = false;
};

// Reads and checks all until the writer, a child, has ended.
inline void ReadUntilGone(RingReader<Item>& reader, uint64_t& expected,
                          Reaper& reaper) {
  for (;;) {
    const RingWait waited = reader.wait(1, kSleepSoon);
    if (waited == RingWait::kPeerGone) return;
    ASSERT_EQ(waited, RingWait::kReady);
    const std::span<const Item> items = reader.peek();
    for (const Item& item : items) ExpectItem(item, expected++);
    reader.consume(items.size());
    reaper.Look();
  }
}

// Writes until the reader, a child, has ended.
inline void WriteUntilGone(RingWriter<Item>& writer, uint64_t& written,
                           Reaper& reaper) {
  for (;;) {
    const RingWait waited = writer.wait(1, kSleepSoon);
    if (waited == RingWait::kPeerGone) return;
    ASSERT_EQ(waited, RingWait::kReady);
    // Room for ever, once the reader is dead: then it shows at the latest.
    if (reaper.killed() && writer.peer_gone()) return;
    ASSERT_TRUE(writer.try_push(Numbered(written)));
    ++written;
    reaper.Look();
  }
}

// What a successor finds of a reader that was killed: all that was not finished, whole
// and in order. The dead one had finished at most one operation that its diary does not
// tell of. `finished` goes on to what it had finished.
inline void ExpectLeft(RingReader<Item>& successor, uint64_t written,
                       SharedDiary& diary, uint64_t& finished) {
  const std::span<const Item> left = successor.peek();
  ASSERT_LE(left.size(), written);
  finished = written - left.size();
  EXPECT_GE(finished, diary->number.load());
  EXPECT_LE(finished, diary->number.load() + kMostOfAnOperation);
  uint64_t number = finished;
  for (const Item& item : left) ExpectItem(item, number++);
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_RANDOM_KILL_H_
