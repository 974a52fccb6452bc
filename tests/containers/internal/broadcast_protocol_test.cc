// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/broadcast_protocol.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

// A word that keeps a record of how it is used.
template <class T>
class Recorded {
 public:
  Recorded(T value = {}) : value(value) {}
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

struct RecordedAtomics {
  template <class T>
  using Atomic = Recorded<T>;
  static void LightFence() {}
};

// Fences at which others do what a test wants.
struct Scripted {
  inline static std::function<void()> at_acquire, at_release, at_full;
  inline static int acquires = 0, releases = 0, fulls = 0;
  static void Acquire() { Pass(acquires, at_acquire); }
  static void Release() { Pass(releases, at_release); }
  static void Full() { Pass(fulls, at_full); }
  static void Pass(int& count, const std::function<void()>& script) {
    ++count;
    if (script) script();
  }
  static void Forget() {
    at_acquire = at_release = at_full = nullptr;
    acquires = releases = fulls = 0;
  }
};

using Side = RingSide<RecordedAtomics>;
using Watch = BroadcastWatch<RecordedAtomics, Scripted>;
using Cursor = BroadcastCursor<RecordedAtomics, Scripted>;

class BroadcastProtocol : public ::testing::Test {
 protected:
  static constexpr uint64_t kCapacity = 8;

  BroadcastProtocol() {
    Scripted::Forget();
    for (Side& reader : readers_) LeaveBroadcast(reader);
  }
  ~BroadcastProtocol() override { Scripted::Forget(); }

  void Join(size_t reader) {
    JoinBroadcast<RecordedAtomics, Scripted>(readers_[reader], writer_);
  }
  void Push(Cursor& cursor, uint64_t n) {
    ASSERT_GE(cursor.AvailableFor(n), n);
    cursor.Stage(n);
    cursor.Publish();
  }

  Side writer_;
  std::array<Side, 3> readers_;
  Watch watch_{&writer_, readers_, kCapacity};
};

TEST_F(BroadcastProtocol, OrdersWhatItHandsOver) {
  Cursor cursor(&watch_);
  AnnounceReader(readers_[0], writer_);
  EXPECT_EQ(readers_[0].position.last_store_order, std::memory_order_release);
  const int fences = Scripted::fulls;
  Join(0);
  EXPECT_EQ(Scripted::fulls, fences + 1) << "a release of its second store";
  Push(cursor, 1);
  EXPECT_EQ(writer_.position.last_store_order, std::memory_order_release);
  EXPECT_EQ(readers_[0].position.last_load_order, std::memory_order_acquire);
  LeaveBroadcast(readers_[0]);
  EXPECT_EQ(readers_[0].position.last_store_order, std::memory_order_release);
  EXPECT_EQ(readers_[0].position.value, kNoReader);
}

TEST_F(BroadcastProtocol, TheWriterLooksOnlyWhenItKnowsTooLittle) {
  Cursor cursor(&watch_);
  Join(1);
  const int loads = readers_[1].position.loads;
  for (uint64_t i = 0; i < kCapacity; ++i) Push(cursor, 1);
  EXPECT_EQ(readers_[1].position.loads, loads + 1);
  EXPECT_EQ(Scripted::fulls, 2) << "one for who joined, one for the look";
  EXPECT_EQ(cursor.AvailableFor(1), 0);
  EXPECT_EQ(readers_[1].position.loads, loads + 2);
  EXPECT_EQ(writer_.refusals.value, 1);
  EXPECT_EQ(writer_.stalls.value, 1);
  EXPECT_EQ(writer_.high_water.value, kCapacity);
}

TEST_F(BroadcastProtocol, TheSlowestCounts) {
  Cursor cursor(&watch_);
  Join(0);
  Join(2);
  Push(cursor, 6);
  readers_[0].position.value = 5;
  readers_[2].position.value = 2;
  cursor.Look();
  EXPECT_EQ(cursor.known(), kCapacity - 4);
  LeaveBroadcast(readers_[2]);
  cursor.Look();
  EXPECT_EQ(cursor.known(), kCapacity - 1);
  LeaveBroadcast(readers_[0]);
  cursor.Look();
  EXPECT_EQ(cursor.known(), kCapacity);
}

// What is staged is not published: without readers it takes room all the same.
TEST_F(BroadcastProtocol, WhatIsStagedTakesRoom) {
  Cursor cursor(&watch_);
  ASSERT_GE(cursor.AvailableFor(5), 5);
  cursor.Stage(5);
  EXPECT_EQ(cursor.AvailableFor(4), 3);
  cursor.Publish();
  EXPECT_EQ(cursor.AvailableFor(4), kCapacity);
}

// The writer goes on between the two loads of a reader that joins, up to what it knew
// of: the reader begins where it is then, and nothing before is its own.
TEST_F(BroadcastProtocol, AReaderBeginsNoEarlierThanTheWriterLooked) {
  Cursor cursor(&watch_);
  Push(cursor, 3);
  cursor.Look();  // The limit is 11 without a reader.
  Scripted::at_full = [&] {
    Scripted::at_full = nullptr;
    Push(cursor, kCapacity);
  };
  Join(0);
  EXPECT_EQ(readers_[0].position.value, 11);
  EXPECT_EQ(readers_[0].finished.value, 11);
  EXPECT_EQ(cursor.AvailableFor(1), kCapacity);
}

// A reader that has stored its first position only, and is far behind: what the writer
// knew of is still free, and no more.
TEST_F(BroadcastProtocol, AReaderThatIsJoiningTakesNothingBack) {
  Cursor cursor(&watch_);
  Scripted::at_full = [&] {
    Scripted::at_full = nullptr;
    LeaveBroadcast(readers_[0]);  // As if it had not stored yet.
    for (int i = 0; i < 5; ++i) Push(cursor, 7);
    readers_[0].position.value = 0;
    const uint64_t known = cursor.known();
    cursor.Look();
    EXPECT_EQ(cursor.known(), known);
    EXPECT_LT(cursor.AvailableFor(kCapacity), kCapacity);
  };
  Join(0);
  EXPECT_EQ(readers_[0].position.value, 35);
  EXPECT_EQ(cursor.AvailableFor(kCapacity), kCapacity);
  EXPECT_LE(writer_.high_water.value, kCapacity);
}

// --- Overwriting ---

using OverWatch = OverwriteWriterWatch<RecordedAtomics, Scripted>;
using OverCursor = OverwriteWriterCursor<RecordedAtomics, Scripted>;
using ReaderWatch = OverwriteReaderWatch<RecordedAtomics, Scripted>;
using ReaderCursor = OverwriteReaderCursor<RecordedAtomics, Scripted>;

class OverwriteProtocol : public ::testing::Test {
 protected:
  static constexpr uint64_t kCapacity = 32;
  static constexpr uint64_t kLead = 4;

  OverwriteProtocol() { Scripted::Forget(); }
  ~OverwriteProtocol() override { Scripted::Forget(); }

  void Push(uint64_t n) {
    for (; n > 0; --n) {
      writer_.MakeRoom(1);
      writer_.Publish(1);
    }
  }

  Side side_;
  OverwriteWords<RecordedAtomics> words_;
  OverWatch watch_{&side_, &words_, kCapacity, kLead};
  OverCursor writer_{&watch_};
  Side reader_side_;
  OverwriteCounts<RecordedAtomics> counts_;
  ReaderWatch reader_watch_{&reader_side_, &counts_, &side_, &words_,
                            kCapacity};
  ReaderCursor reader_{&reader_watch_, 0};
};

TEST_F(OverwriteProtocol, OrdersWhatItHandsOver) {
  Push(1);
  EXPECT_EQ(side_.position.last_store_order, std::memory_order_release);
  EXPECT_EQ(reader_.AvailableFor(1), 1);
  EXPECT_EQ(side_.position.last_load_order, std::memory_order_acquire);
  Scripted::at_acquire = [&] {
    EXPECT_EQ(words_.oldest.loads, 1) << "by the writer's handle";
  };
  EXPECT_EQ(reader_.Confirm(1, 0), 0);
  EXPECT_EQ(Scripted::acquires, 1);
  EXPECT_EQ(reader_.position(), 1);
}

// The oldest is out of what is intact before the fence, and so before its slot is
// stored to; so many at a time.
TEST_F(OverwriteProtocol, TheWriterTakesALeadAtATime) {
  Scripted::at_release = [&] {
    EXPECT_EQ(words_.oldest.value, side_.position.value + kLead - kCapacity);
  };
  Push(kCapacity);
  EXPECT_EQ(words_.oldest.stores, 0);
  for (uint64_t i = 0; i < 3 * kLead; ++i) {
    writer_.MakeRoom(1);
    ASSERT_GE(words_.oldest.value + kCapacity, side_.position.value + 1);
    ASSERT_LE(words_.oldest.value, side_.position.value - kCapacity + kLead);
    writer_.Publish(1);
  }
  EXPECT_EQ(words_.oldest.stores, 3);
  EXPECT_EQ(Scripted::releases, 3);
  EXPECT_EQ(reader_side_.position.stores, 0) << "readers are not asked";
}

TEST_F(OverwriteProtocol, AnotherWriterKnowsHowFarItMayGo) {
  Push(kCapacity + 1);
  OverCursor next(&watch_);
  const int stores = words_.oldest.stores;
  for (uint64_t i = 0; i < kLead - 1; ++i) {
    next.MakeRoom(1);
    next.Publish(1);
  }
  EXPECT_EQ(words_.oldest.stores, stores);
  next.MakeRoom(1);
  EXPECT_EQ(words_.oldest.stores, stores + 1);
}

TEST_F(OverwriteProtocol, WhatWasSpoiledWhileItWasCopiedIsLost) {
  Push(10);
  ASSERT_EQ(reader_.AvailableFor(10), 10);
  Push(kCapacity - 10 + kLead);  // While items 0 to 9 are copied.
  EXPECT_EQ(reader_.Confirm(10, 0), kLead);
  EXPECT_EQ(reader_.position(), 10);
  EXPECT_EQ(reader_.lost(), kLead);
  EXPECT_EQ(counts_.lost.value, kLead);
  EXPECT_EQ(counts_.overruns.value, 1);
  ASSERT_EQ(reader_.AvailableFor(kCapacity), kCapacity - 10 + kLead);
  EXPECT_EQ(reader_.Confirm(1, 0), 0);
}

TEST_F(OverwriteProtocol, WhoWasOverrunGoesOnAtTheOldest) {
  Push(10);
  ASSERT_EQ(reader_.AvailableFor(10), 10);
  Push(100);
  const uint64_t oldest = words_.oldest.value;
  EXPECT_EQ(reader_.Confirm(3, 0), 3);
  EXPECT_EQ(reader_.position(), oldest);
  EXPECT_EQ(reader_.lost(), oldest);
  EXPECT_EQ(reader_.known(), 110 - oldest);
  EXPECT_EQ(reader_.Confirm(1, 0), 0);
}

// Again before it got anything: the oldest is gone before it can be copied.
TEST_F(OverwriteProtocol, WhoIsOverrunAgainGoesToTheMiddle) {
  Push(10);
  ASSERT_EQ(reader_.AvailableFor(1), 10);
  Push(100);
  ASSERT_EQ(reader_.Confirm(1, 0), 1);
  Push(100);
  ASSERT_EQ(reader_.Confirm(1, 1), 1);
  const uint64_t oldest = words_.oldest.value;
  EXPECT_EQ(reader_.position(), oldest + (210 - oldest) / 2);
  EXPECT_EQ(reader_.lost(), reader_.position());
  EXPECT_EQ(counts_.overruns.value, 2);
}

TEST_F(OverwriteProtocol, WhoIsBehindByMoreThanTheRingIsMovedByALook) {
  Push(1000);
  EXPECT_EQ(reader_.AvailableFor(1), 1000 - words_.oldest.value);
  EXPECT_EQ(reader_.position(), words_.oldest.value);
  EXPECT_LE(reader_.known(), kCapacity);
  EXPECT_EQ(reader_side_.high_water.value, kCapacity);
  Push(kLead);
  EXPECT_EQ(reader_.Intact(), 1000 - words_.oldest.value);
}

// A load of the writer's position may return what is older than `oldest` implies.
TEST_F(OverwriteProtocol, AStalePositionIsNoneThatGoesBack) {
  Push(100);
  side_.position.value = 50;
  words_.oldest.value = 90;
  ASSERT_EQ(reader_.AvailableFor(1), 0);
  EXPECT_EQ(reader_.position(), 90);
  EXPECT_EQ(reader_.lost(), 90);
  EXPECT_EQ(reader_.AvailableFor(1), 0);
  EXPECT_EQ(reader_.Intact(), 0);
  side_.position.value = 100;
  EXPECT_EQ(reader_.AvailableFor(1), 10);
}

TEST(BroadcastStorage, EachPositionIsAloneOnItsLine) {
  const auto storage = MakeBroadcastStorage(
      {.min_capacity_items = 1, .item_bytes = 8}, OnFull::kRefuse, nullptr, 2);
  ASSERT_TRUE(storage.ok());
  const BroadcastStorage& words = **storage;
  const auto line = [](const void* at) {
    return reinterpret_cast<uintptr_t>(at) / kRingLineBytes;
  };
  EXPECT_NE(line(&words.sides[0].position), line(&words.sides[1].position));
  EXPECT_NE(line(&words.writer.position), line(&words.writer.wish));
  EXPECT_NE(line(&words.overwrite_words.oldest), line(&words.writer.position));
  EXPECT_NE(line(&words.overwrite_words.oldest), line(&words.writer_seat));
  EXPECT_NE(line(&words.overwrite_words.oldest), line(&words.watch));
  EXPECT_NE(line(&words.seats[0].taken), line(&words.seats[1].taken));
  EXPECT_NE(line(&words.max_readers), line(&words.writer.position));
}

}  // namespace
}  // namespace doppel::internal
