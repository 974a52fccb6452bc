// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/ring_protocol.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>

#include "doppel/containers/ring_layout.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

// An atomic word that keeps a record of how it is used.
template <class T>
class Recorded {
 public:
  Recorded(T initial) : value(initial) {}  // NOLINT: as std::atomic does.
  T load(std::memory_order order) const {
    ++loads;
    last_load_order = order;
    return value;
  }
  void store(T to, std::memory_order order) {
    ++stores;
    last_store_order = order;
    value = to;
  }

  T value;
  mutable int loads = 0;
  int stores = 0;
  mutable std::memory_order last_load_order = std::memory_order_seq_cst;
  std::memory_order last_store_order = std::memory_order_seq_cst;
};

struct RecordingAtomics {
  template <class T>
  using Atomic = Recorded<T>;
  static void LightFence() { ++light_fences; }
  static inline int light_fences = 0;
};

TEST(NextToRead, IsTheFurtherOfPositionAndFinished) {
  constexpr uint64_t kCapacity = 8;
  RingSide<> reader;
  const auto next = [&](uint64_t position, uint64_t finished) {
    reader.position = position;
    reader.finished = finished;
    return NextToRead(reader, kCapacity);
  };
  EXPECT_EQ(next(0, 0), 0);
  EXPECT_EQ(next(5, 8), 8) << "finished, and not handed back";
  EXPECT_EQ(next(5, 13), 13) << "the whole ring is";
  EXPECT_EQ(next(9, 2), 9) << "handed back at once";
  EXPECT_EQ(next(1000, 0), 1000);
  EXPECT_EQ(next(~uint64_t{0}, 3), 3) << "past 2^64";
  EXPECT_EQ(next(3, ~uint64_t{0}), 3);
}

// Both sides of a ring of positions.
template <class Atomics = RecordingAtomics>
struct Sides {
  explicit Sides(uint64_t capacity, uint64_t read = 0, uint64_t written = 0)
      : capacity_items(capacity) {
    Set(reader.position, read);
    Set(reader.finished, read);
    Set(writer.position, written);
  }
  RingCursor<Atomics> WriterCursor() {
    return RingCursor<Atomics>(&writer_watch);
  }
  RingCursor<Atomics> ReaderCursor() {
    return RingCursor<Atomics>(&reader_watch);
  }

  // On the heap: ASan's stack does not keep an alignment of 128.
  struct Words {
    RingSide<Atomics> writer;
    RingSide<Atomics> reader;
  };

  uint64_t capacity_items;
  std::unique_ptr<Words> words = std::make_unique<Words>();
  RingSide<Atomics>& writer = words->writer;
  RingSide<Atomics>& reader = words->reader;
  RingWatch<Atomics> writer_watch =
      RingWatch<Atomics>::Writer(&writer, &reader, capacity_items);
  RingWatch<Atomics> reader_watch =
      RingWatch<Atomics>::Reader(&reader, &writer, capacity_items);

 private:
  template <class Word>
  static void Set(Word& word, uint64_t value) {
    word.store(value, std::memory_order_relaxed);
  }
};

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

// Hands `n` items on, where nobody waits.
template <class Cursor>
void Pass(Cursor& cursor, uint64_t n) {
  cursor.Stage(n);
  EXPECT_FALSE(cursor.Publish());
}

TEST(RingProtocol, OrdersWhatItHandsOver) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(1), 8);
  EXPECT_EQ(sides.reader.position.last_load_order, std::memory_order_acquire);
  Pass(writer, 1);
  EXPECT_EQ(sides.writer.position.last_store_order, std::memory_order_release);
  ASSERT_EQ(reader.AvailableFor(1), 1);
  EXPECT_EQ(sides.writer.position.last_load_order, std::memory_order_acquire);
  reader.Finish(1);
  EXPECT_FALSE(reader.Publish());
  EXPECT_EQ(sides.reader.position.last_store_order, std::memory_order_release);
}

TEST(RingProtocol, LooksOnlyWhenItKnowsTooLittle) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  sides.reader.position.loads = 0;
  sides.writer.position.loads = 0;
  for (int i = 0; i < 8; ++i) {
    ASSERT_GE(writer.AvailableFor(1), 1);
    Pass(writer, 1);
  }
  EXPECT_EQ(sides.reader.position.loads, 1);
  const int stores = sides.reader.position.stores;
  for (int i = 0; i < 8; ++i) {
    ASSERT_GE(reader.AvailableFor(1), 1);
    reader.Finish(1);
    EXPECT_FALSE(reader.Publish());
  }
  EXPECT_EQ(sides.writer.position.loads, 1);
  EXPECT_EQ(sides.reader.position.stores - stores, 8);
}

TEST(RingProtocol, WhatIsStagedIsNotSeen) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(3), 8);
  writer.Stage(1);
  writer.Stage(2);
  EXPECT_EQ(writer.known(), 5);
  EXPECT_EQ(reader.AvailableFor(1), 0);
  EXPECT_FALSE(writer.Publish());
  EXPECT_EQ(reader.AvailableFor(1), 3);
  reader.Finish(2);
  EXPECT_EQ(writer.AvailableFor(6), 5);
  EXPECT_FALSE(reader.Publish());
  EXPECT_EQ(writer.AvailableFor(6), 7);
}

TEST(RingProtocol, GoesOnWhereTheWordsStand) {
  Sides<> sides(8, /*read=*/1000, /*written=*/1005);
  EXPECT_EQ(sides.WriterCursor().position(), 1005);
  EXPECT_EQ(sides.WriterCursor().known(), 0);
  EXPECT_EQ(sides.ReaderCursor().known(), 0);
  EXPECT_EQ(sides.WriterCursor().AvailableFor(1), 3);
  EXPECT_EQ(sides.ReaderCursor().AvailableFor(1), 5);
  auto writer = sides.WriterCursor();
  ASSERT_EQ(writer.AvailableFor(1), 3);
  writer.Stage(2);  // And ends before it publishes.
  EXPECT_EQ(sides.WriterCursor().position(), 1005);
}

// A reader that dies between the end of its work and the release: who comes after it
// does not see the same items again, whose bytes may have changed.
TEST(RingProtocol, AReaderGoesOnBehindWhatIsFinished) {
  Sides<> sides(8, /*read=*/10, /*written=*/15);
  auto first = sides.ReaderCursor();
  ASSERT_EQ(first.AvailableFor(1), 5);
  first.Finish(2);
  auto second = sides.ReaderCursor();
  EXPECT_EQ(second.position(), 12);
  EXPECT_EQ(second.AvailableFor(1), 3);
  EXPECT_EQ(sides.WriterCursor().AvailableFor(4), 3) << "not handed back";
  EXPECT_FALSE(second.Publish());
  EXPECT_EQ(sides.WriterCursor().AvailableFor(4), 5);
}

TEST(RingProtocol, CountsOnSlowPaths) {
  Sides<> sides(4);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(1), 4);
  Pass(writer, 4);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(writer.AvailableFor(1), 0);
  EXPECT_EQ(sides.writer.refusals.value, 3);
  EXPECT_EQ(sides.writer.stalls.value, 1);
  ASSERT_EQ(reader.AvailableFor(1), 4);
  EXPECT_EQ(sides.reader.high_water.value, 4);
  reader.Finish(4);
  EXPECT_FALSE(reader.Publish());
  EXPECT_EQ(reader.AvailableFor(1), 0);
  ASSERT_EQ(writer.AvailableFor(1), 4);
  Pass(writer, 1);
  EXPECT_EQ(writer.AvailableFor(4), 3);
  EXPECT_EQ(sides.writer.refusals.value, 4);
  EXPECT_EQ(sides.writer.stalls.value, 2);
  EXPECT_EQ(sides.reader.refusals.value, 1);
}

// The two sides agree with counting, at random, over the end of 2^64.
TEST(RingProtocol, AgreesWithCountingAcrossTheWrapOfPositions) {
  for (const uint64_t start : {uint64_t{0}, kMax - 50, kMax}) {
    for (const uint64_t capacity : {1, 2, 7, 64}) {
      Sides<> sides(capacity, start, start);
      auto writer = sides.WriterCursor();
      auto reader = sides.ReaderCursor();
      std::mt19937_64 random(start + capacity);
      uint64_t held = 0;
      for (int step = 0; step < 2000; ++step) {
        const uint64_t wanted = random() % (capacity + 2);
        const bool writes = random() % 2 == 0;
        auto& cursor = writes ? writer : reader;
        const uint64_t there = writes ? capacity - held : held;
        const uint64_t known = cursor.AvailableFor(wanted);
        ASSERT_LE(known, there);
        ASSERT_EQ(known >= wanted, there >= wanted);
        if (known < wanted) continue;
        Pass(cursor, wanted);
        held += writes ? wanted : -wanted;
      }
      EXPECT_FALSE(writer.lied() || reader.lied());
    }
  }
}

// At capacity 2, every order in which the two sides can make twelve calls.
TEST(RingProtocol, EveryInterleavingOfCallsKeepsTheOrder) {
  constexpr int kSteps = 12;
  for (unsigned schedule = 0; schedule < 1U << kSteps; ++schedule) {
    Sides<StdAtomics> sides(2);
    auto writer = sides.WriterCursor();
    auto reader = sides.ReaderCursor();
    std::array<int, 2> slots = {-1, -1};
    int pushed = 0;
    int popped = 0;
    for (int step = 0; step < kSteps; ++step) {
      if ((schedule >> step & 1) != 0) {
        const bool fits = pushed - popped < 2;
        ASSERT_EQ(writer.AvailableFor(1) >= 1, fits);
        if (!fits) continue;
        slots[writer.position() % 2] = pushed++;
        Pass(writer, 1);
      } else {
        ASSERT_EQ(reader.AvailableFor(1) >= 1, pushed > popped);
        if (pushed == popped) continue;
        ASSERT_EQ(slots[reader.position() % 2], popped++);
        reader.Finish(1);
        ASSERT_FALSE(reader.Publish());
      }
    }
  }
}

constexpr auto kNoFence = [] {};
using Next = RingCursor<RecordingAtomics>::Next;

TEST(RingProtocol, AWishIsGrantedOnce) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  uint32_t signal = 0;
  ASSERT_EQ(reader.BeforeSleep(3, WakeBy::kFutex, signal, kNoFence),
            Next::kSleep);
  ASSERT_EQ(writer.AvailableFor(8), 8);
  Pass(writer, 1);
  Pass(writer, 1);
  writer.Stage(1);
  EXPECT_TRUE(writer.Publish()) << "three are there";
  Pass(writer, 1);
  ASSERT_EQ(reader.BeforeSleep(3, WakeBy::kFutex, signal, kNoFence),
            Next::kGoOn);
  EXPECT_EQ(reader.known(), 4);
  EXPECT_EQ(sides.reader.wish.value, 0);
  Pass(writer, 1);
}

TEST(RingProtocol, AWriterWaitsForRoom) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(8), 8);
  Pass(writer, 8);
  uint32_t signal = 0;
  ASSERT_EQ(writer.BeforeSleep(2, WakeBy::kFutex, signal, kNoFence),
            Next::kSleep);
  ASSERT_EQ(reader.AvailableFor(1), 8);
  reader.Finish(1);
  EXPECT_FALSE(reader.Publish());
  reader.Finish(1);
  EXPECT_TRUE(reader.Publish());
  EXPECT_EQ(writer.BeforeSleep(2, WakeBy::kFutex, signal, kNoFence),
            Next::kGoOn);
}

// Whoever died after its store and before the wake it owed: the next one makes it up.
TEST(RingProtocol, AnotherHandleGrantsWhatIsOwed) {
  Sides<> sides(8);
  auto reader = sides.ReaderCursor();
  uint32_t signal = 0;
  ASSERT_EQ(reader.BeforeSleep(1, WakeBy::kFutex, signal, kNoFence),
            Next::kSleep);
  sides.writer.position.value = 1;
  auto writer = sides.WriterCursor();
  EXPECT_TRUE(writer.Publish());
  EXPECT_FALSE(writer.Publish());
}

TEST(RingProtocol, TheEndComesAfterWhatWasPublished) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(1), 8);
  Pass(writer, 2);
  writer.Close();
  uint32_t signal = 0;
  EXPECT_TRUE(reader.closed());
  EXPECT_EQ(reader.BeforeSleep(2, WakeBy::kFutex, signal, kNoFence),
            Next::kGoOn);
  EXPECT_EQ(reader.BeforeSleep(3, WakeBy::kFutex, signal, kNoFence),
            Next::kEnd);
  EXPECT_EQ(reader.known(), 2);
  EXPECT_EQ(sides.reader.wish.value, 0);
}

TEST(RingProtocol, ASignalThatChangesKeepsFromSleeping) {
  Sides<> sides(8);
  auto reader = sides.ReaderCursor();
  uint32_t before = 0;
  ASSERT_EQ(reader.BeforeSleep(1, WakeBy::kFutex, before, kNoFence),
            Next::kSleep);
  sides.writer_watch.ChangeSignal();
  EXPECT_NE(sides.writer.signal.value, before);
}

// Wish, heavy fence, look; store, light fence, wish: see "Why waiting needs fences".
TEST(RingProtocol, TheFencesStandBetweenStoreAndLoad) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  sides.writer.position.loads = 0;
  uint32_t signal = 0;
  reader.BeforeSleep(1, WakeBy::kFutex, signal, [&] {
    EXPECT_EQ(sides.reader.wish.value, 3);
    EXPECT_EQ(sides.writer.position.loads, 0);
  });
  EXPECT_EQ(sides.writer.position.loads, 1);
  const int fences = RecordingAtomics::light_fences;
  ASSERT_EQ(writer.AvailableFor(1), 8);
  writer.Stage(1);
  EXPECT_TRUE(writer.Publish());
  EXPECT_EQ(RecordingAtomics::light_fences, fences + 1);
}

// Bugs that others had.

// A consumer position that was rewritten gave reservations that overlap (BPF ring
// buffer, CVE-2024-41009): a position that cannot be true frees nothing, and whoever
// told it once is not believed again.
TEST(RingProtocolRegression, RewrittenPositionsGrantNoMoreThanTheRing) {
  constexpr uint64_t kCapacity = 8;
  for (const uint64_t lie : {uint64_t{101}, uint64_t{109}, kMax, kMax - 8,
                             uint64_t{1} << 63, uint64_t{0}, uint64_t{91}}) {
    Sides<> sides(kCapacity, 100, 100);
    auto writer = sides.WriterCursor();
    sides.reader.position.value = lie;
    EXPECT_EQ(writer.AvailableFor(1), 0) << lie;
    EXPECT_TRUE(writer.lied()) << lie;
    sides.reader.position.value = 100;
    EXPECT_EQ(writer.AvailableFor(1), 0) << lie;
  }
  for (const uint64_t lie : {uint64_t{99}, uint64_t{109}, kMax, uint64_t{0}}) {
    Sides<> sides(kCapacity, 100, 100);
    auto reader = sides.ReaderCursor();
    sides.writer.position.value = lie;
    EXPECT_EQ(reader.AvailableFor(1), 0) << lie;
    EXPECT_TRUE(reader.lied()) << lie;
    uint32_t signal = 0;
    EXPECT_EQ(reader.BeforeSleep(1, WakeBy::kFutex, signal, kNoFence),
              Next::kEnd);
  }
}

// What was known before the lie was true, and stays usable; a position that goes back
// within the ring is a lie as well.
TEST(RingProtocolRegression, APositionThatGoesBackIsNotBelieved) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  ASSERT_EQ(writer.AvailableFor(1), 8);
  Pass(writer, 5);
  ASSERT_EQ(reader.AvailableFor(1), 5);
  sides.writer.position.value = 3;
  EXPECT_EQ(reader.AvailableFor(6), 5);
  EXPECT_TRUE(reader.lied());
  reader.Finish(5);
  EXPECT_FALSE(reader.Publish());
  EXPECT_EQ(reader.known(), 0);
}

// A shared word that is loaded twice may change in between (XSA-155, bhyve SA-24:17).
TEST(RingProtocolRegression, OneLoadADecision) {
  Sides<> sides(8);
  auto writer = sides.WriterCursor();
  auto reader = sides.ReaderCursor();
  sides.reader.position.loads = 0;
  sides.writer.position.loads = 0;
  EXPECT_EQ(writer.AvailableFor(100), 8);
  EXPECT_EQ(sides.reader.position.loads, 1);
  EXPECT_EQ(sides.writer.position.loads, 0);
  EXPECT_EQ(reader.AvailableFor(100), 0);
  EXPECT_EQ(sides.writer.position.loads, 1);
  EXPECT_EQ(sides.reader.position.loads, 1);
}

}  // namespace
}  // namespace doppel
