// SPDX-License-Identifier: Apache-2.0
//
// A producer and several consumers, each a thread: some slow, some that come and go.
// Under TSan these are the proof that the rings order what they hand over; the last
// tests prove that TSan would have told.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/seeded_race.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;

// Longer than a word, so that a torn one shows: its words follow from its number.
struct Item {
  std::array<uint64_t, 5> words;

  static Item Of(uint64_t number) {
    Item item{};
    for (size_t i = 0; i < item.words.size(); ++i) {
      item.words[i] = (number + i) * (2 * i + 1);
    }
    return item;
  }
  uint64_t number() const { return words[0]; }
  bool whole() const { return words == Of(number()).words; }
};

using Back = BroadcastRing<Item>;
using Over = OverwritingRing<Item>;

template <class Ring>
Ring MakeRing(size_t min_capacity = 1) {
  absl::StatusOr<Ring> ring = Ring::Create(min_capacity);
  EXPECT_TRUE(ring.ok()) << ring.status();
  return *std::move(ring);
}

template <class Ring>
typename Ring::Reader Join(Ring& ring) {
  absl::StatusOr<typename Ring::Reader> reader = ring.reader();
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

// What a consumer has seen. Counted, as a failed EXPECT for each would drown all.
struct Seen {
  std::optional<uint64_t> next;  // Number that comes next; none: any may.
  uint64_t received = 0;
  uint64_t wrong = 0;

  void Check(std::span<const Item> items, uint64_t skipped = 0) {
    for (const Item& item : items) {
      if (!item.whole()) ++wrong;
      if (next && item.number() != *next + skipped) ++wrong;
      skipped = 0;
      next = item.number() + 1;
      ++received;
    }
  }
};

// Pushes n items or a few more, first, first + 1, ..., in ways that their numbers
// decide. Returns the number that comes next.
uint64_t Send(Back::Writer& writer, uint64_t first, uint64_t n) {
  uint64_t number = first;
  while (number < first + n) {
    const uint64_t before = number;
    if (number % 3 == 0) {
      if (writer.try_push(Item::Of(number))) ++number;
    } else if (number % 3 == 1) {
      std::array<Item, 7> items;
      for (size_t i = 0; i < 7; ++i) items[i] = Item::Of(number + i);
      number += writer.push(items);
    } else {
      const std::span<Item> slots = writer.reserve(5);
      for (size_t i = 0; i < slots.size(); ++i) slots[i] = Item::Of(number + i);
      if (!slots.empty()) writer.commit(4);
      number += slots.empty() ? 0 : 4;
    }
    if (number == before) std::this_thread::yield();
  }
  return number;
}

// Takes some, in a way that `how` decides.
void Take(Back::Reader& reader, Seen& seen, uint64_t how) {
  std::array<Item, 9> items;
  if (how % 3 == 0) {
    if (const std::optional<Item> item = reader.try_pop()) {
      seen.Check(std::span(&*item, 1));
    }
  } else if (how % 3 == 1) {
    const size_t n = reader.pop(items);
    seen.Check(std::span(items).first(n));
  } else {
    const std::span<const Item> shown = reader.peek(how % 4);
    seen.Check(shown);
    reader.consume(shown.size());
  }
}

TEST(BroadcastRingThreads, EachReaderGetsEachItemInOrder) {
  Back ring = MakeRing<Back>();
  const auto items = static_cast<uint64_t>(Scaled(200'000, 10'000'000));
  std::vector<std::thread> threads;
  for (uint64_t which = 0; which < 3; ++which) {
    threads.emplace_back([which, items, reader = Join(ring)]() mutable {
      auto own = std::move(reader);
      Seen seen = {.next = 0};
      for (uint64_t turn = which; seen.received < items; ++turn) {
        const uint64_t before = seen.received;
        Take(own, seen, turn);
        // One of them is slow.
        if (seen.received == before || (which == 2 && turn % 8 == 0)) {
          std::this_thread::yield();
        }
      }
      // Batches of the producer reach beyond.
      EXPECT_EQ(seen.wrong, 0);
    });
  }
  {
    auto writer = ring.writer();
    Send(writer, 0, items);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ring.readers(), 0);
  EXPECT_LE(ring.statistics().high_water, ring.capacity());
}

// Readers that join and leave while it runs miss nothing in between, and hold up nobody
// afterwards.
TEST(BroadcastRingThreads, ReadersComeAndGo) {
  Back ring = MakeRing<Back>();
  std::atomic<int> gone = 0;
  std::atomic<uint64_t> received = 0;
  std::vector<std::thread> threads;
  const auto rounds = static_cast<uint64_t>(Scaled(3'000, 100'000));
  for (uint64_t which = 0; which < 3; ++which) {
    threads.emplace_back([which, rounds, &ring, &gone, &received] {
      uint64_t wrong = 0;
      for (uint64_t round = which; round < rounds; ++round) {
        auto reader = Join(ring);
        Seen seen;
        for (uint64_t turn = 0; turn < round % 50; ++turn) {
          Take(reader, seen, turn);
          if (turn % 8 == which) std::this_thread::yield();
        }
        wrong += seen.wrong;
        received += seen.received;
        // Some leave what they have peeked at.
        (void)reader.peek();
      }
      EXPECT_EQ(wrong, 0);
      ++gone;
    });
  }
  auto writer = ring.writer();
  for (uint64_t next = 0; gone.load() < 3;) next = Send(writer, next, 100);
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(received.load(), rounds);
  EXPECT_EQ(ring.readers(), 0);
  EXPECT_EQ(writer.free(), ring.capacity());
}

// Asked while others work, the ring says nothing that cannot be.
TEST(BroadcastRingThreads, SizesAndStatisticsMayBeAskedAtAnyTime) {
  Back ring = MakeRing<Back>();
  std::atomic<bool> stop = false;
  std::thread asker([&ring, &stop] {
    while (!stop.load()) {
      ASSERT_LE(ring.size(), ring.capacity());
      ASSERT_LE(ring.readers(), 1);
      ASSERT_LE(ring.statistics().high_water, ring.capacity());
      std::this_thread::yield();
    }
  });
  const auto items = static_cast<uint64_t>(Scaled(20'000, 1'000'000));
  std::thread receiver([items, reader = Join(ring)]() mutable {
    auto own = std::move(reader);
    Seen seen = {.next = 0};
    // Another way each turn: one of them waits for more than the end may have.
    for (uint64_t turn = 0; seen.received < items; ++turn) {
      Take(own, seen, turn);
      std::this_thread::yield();
    }
    EXPECT_EQ(seen.wrong, 0);
  });
  auto writer = ring.writer();
  Send(writer, 0, items);
  receiver.join();
  stop.store(true);
  asker.join();
}

// --- The producer does not wait ---

void SendOver(Over::Writer& writer, uint64_t first, uint64_t n) {
  for (uint64_t number = first; number < first + n;) {
    if (number % 2 == 0) {
      writer.push(Item::Of(number));
      ++number;
    } else {
      std::array<Item, 13> items;
      const size_t some = std::min<uint64_t>(items.size(), first + n - number);
      for (size_t i = 0; i < some; ++i) items[i] = Item::Of(number + i);
      writer.push(std::span<const Item>(items).first(some));
      number += some;
    }
    if (number % 64 == 0) std::this_thread::yield();
  }
}

void TakeOver(Over::Reader& reader, Seen& seen, uint64_t how) {
  std::array<Item, 40> items;
  const uint64_t lost = reader.lost();
  size_t n = 0;
  if (how % 2 == 0) {
    n = reader.try_pop(items[0]) ? 1 : 0;
  } else {
    n = reader.pop(std::span(items).first(1 + how % items.size()));
  }
  // What was lost came before what was got; if nothing was got, before the next.
  seen.Check(std::span(items).first(n), reader.lost() - lost);
  if (n == 0 && seen.next) *seen.next += reader.lost() - lost;
}

TEST(OverwritingRingThreads, OverrunReadersGetWholeItemsInOrder) {
  Over ring = MakeRing<Over>();
  const auto items = static_cast<uint64_t>(Scaled(1'000'000, 50'000'000));
  std::vector<std::thread> threads;
  std::atomic<uint64_t> lost = 0;
  for (uint64_t which = 0; which < 3; ++which) {
    threads.emplace_back([which, items, &lost, reader = Join(ring)]() mutable {
      auto own = std::move(reader);
      Seen seen = {.next = 0};
      for (uint64_t turn = which;; ++turn) {
        const bool closed = own.closed();
        const uint64_t before = seen.received;
        TakeOver(own, seen, turn);
        if (seen.received == before) {
          if (closed) break;
          std::this_thread::yield();
        }
        if (which == 2 && turn % 4 == 0) std::this_thread::yield();
      }
      EXPECT_EQ(seen.wrong, 0);
      EXPECT_EQ(seen.received + own.lost(), items);
      lost += own.lost();
    });
  }
  {
    auto writer = ring.writer();
    SendOver(writer, 0, items);
    writer.close();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ring.statistics().pushed, items);
  EXPECT_EQ(ring.statistics().lost, lost.load());
  EXPECT_LE(ring.statistics().high_water, ring.capacity());
}

// The producer at full speed, in a ring of few items: readers are overrun while they
// copy, again and again.
TEST(OverwritingRingThreads, ReadersGoOnBesideAProducerThatNeverRests) {
  Over ring = MakeRing<Over>();
  std::atomic<bool> stop = false;
  std::thread sender([&ring, &stop] {
    auto writer = ring.writer();
    uint64_t number = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      writer.push(Item::Of(number++));
    }
    writer.close();
  });
  const auto enough = static_cast<uint64_t>(Scaled(50'000, 5'000'000));
  std::vector<std::thread> threads;
  for (uint64_t which = 0; which < 2; ++which) {
    threads.emplace_back([which, enough, &ring] {
      auto reader = Join(ring);
      Seen seen;
      for (uint64_t turn = which; seen.received < enough; ++turn) {
        TakeOver(reader, seen, turn);
      }
      EXPECT_EQ(seen.wrong, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  sender.join();
}

TEST(OverwritingRingThreads, ReadersComeAndGo) {
  Over ring = MakeRing<Over>();
  std::atomic<int> gone = 0;
  std::atomic<uint64_t> received = 0;
  std::vector<std::thread> threads;
  const auto rounds = static_cast<uint64_t>(Scaled(3'000, 100'000));
  for (uint64_t which = 0; which < 3; ++which) {
    threads.emplace_back([which, rounds, &ring, &gone, &received] {
      uint64_t wrong = 0;
      for (uint64_t round = which; round < rounds; ++round) {
        auto reader =
            *ring.reader(round % 2 == 0 ? OverwritingRingStart::kNewest
                                        : OverwritingRingStart::kOldest);
        Seen seen;
        for (uint64_t turn = 0; turn < round % 50; ++turn) {
          TakeOver(reader, seen, turn);
          if (turn % 16 == which) std::this_thread::yield();
        }
        wrong += seen.wrong;
        received += seen.received;
      }
      EXPECT_EQ(wrong, 0);
      ++gone;
    });
  }
  auto writer = ring.writer();
  for (uint64_t sent = 0; gone.load() < 3; sent += 100) {
    SendOver(writer, sent, 100);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(received.load(), rounds);
  EXPECT_EQ(ring.readers(), 0);
}

// What the test below runs in a child. The producer writes to an item that it has
// published, and that a reader reads.
TEST(BroadcastRingSeededRace, DISABLED_WriteAfterPublish) {
  Back ring = MakeRing<Back>();
  testing::UnorderedTurn read;
  std::thread receiver([&read, reader = Join(ring)]() mutable {
    auto own = std::move(reader);
    std::span<const Item> items;
    while (items.empty()) items = own.peek();
    EXPECT_LT(items[0].words[1], 3);
    read.End();
  });
  auto writer = ring.writer();
  const std::span<Item> slots = writer.reserve(1);
  ASSERT_EQ(slots.size(), 1);
  slots[0].words[1] = 1;
  writer.commit(1);
  read.Wait();
  slots[0].words[1] = 2;  // The race.
  receiver.join();
}

// A reader reads on in what it has handed back, while the producer writes there.
TEST(BroadcastRingSeededRace, DISABLED_ReadAfterRelease) {
  Back ring = MakeRing<Back>();
  auto reader = Join(ring);
  auto writer = ring.writer();
  while (writer.try_push(Item::Of(0))) {
  }
  const std::span<const Item> items = reader.peek();
  reader.consume(items.size());
  testing::UnorderedTurn written;
  std::thread sender([&written, writer = std::move(writer)]() mutable {
    auto own = std::move(writer);
    while (own.try_push(Item::Of(1))) {
    }
    written.End();
  });
  written.Wait();
  EXPECT_LT(items[0].words[1], 10);  // The race.
  sender.join();
}

TEST(BroadcastRingSeededRace, AreReportedInTheCanonicalBuild) {
#if !defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "needs a build with -fsanitize=thread";
#elif !defined(DOPPEL_CANONICAL)
  GTEST_SKIP() << "TSan does not know aliases; needs the canonical build";
#else
  EXPECT_TRUE(testing::RaceIsReported(
      "BroadcastRingSeededRace.DISABLED_WriteAfterPublish"));
  EXPECT_TRUE(testing::RaceIsReported(
      "BroadcastRingSeededRace.DISABLED_ReadAfterRelease"));
#endif
}

}  // namespace
}  // namespace doppel
