// SPDX-License-Identifier: Apache-2.0
//
// A peer that stores anything to any of its words, at every step, while this side of a
// guarded ring goes on: every call returns, no span leaves the items (the guards and the
// sanitizers see to it), and once a position could not be true the handle says DataLoss
// and gives out nothing more.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <random>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/hostile_ring.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::HostileFile;
using ::doppel::testing::Scaled;

constexpr uint64_t kCapacityBytes = 4096;
constexpr uint64_t kCapacity = kCapacityBytes / 8;
constexpr RingWaitOptions kAtOnce = {.deadline = absl::InfinitePast(),
                                     .spin = absl::ZeroDuration()};

// Steps with one pair of files; making them costs as much as thousands of steps.
constexpr int kStepsAPair = 4000;

// What the peer stores: most of the time positions that could be true, so that the ring
// goes on, and else the worst values and random ones.
class Liar {
 public:
  Liar(RingSide<>* words, uint64_t seed) : words_(words), random_(seed) {}

  // `ceiling` is the furthest position that could be true.
  void Lie(uint64_t ceiling) {
    const uint64_t value = Value(ceiling);
    const auto store = [&](auto& word) {
      word.store(static_cast<std::decay_t<decltype(word.load())>>(value),
                 std::memory_order_release);
    };
    switch (random_() % 10) {
      case 0:
        return store(words_->wish);
      case 1:
        return store(words_->wake_by);
      case 2:
        return store(words_->fenced);
      case 3:
        return store(words_->signal);
      case 4:
        return store(words_->closed);
      case 5:
        return store(words_->finished);
      case 6:
        return store(words_->stalls);
      case 7:
        return store(words_->high_water);
      default:
        return store(words_->position);
    }
  }

  uint64_t Random() { return random_(); }

 private:
  uint64_t Value(uint64_t ceiling) {
    constexpr std::array<uint64_t, 6> kWorst = {
        0, 1, kCapacity, kCapacity + 1, uint64_t{1} << 63, UINT64_MAX};
    if (random_() % 512 == 0) return kWorst[random_() % kWorst.size()];
    if (random_() % 512 == 0) return random_();
    plausible_ = std::min(plausible_ + random_() % 8, ceiling);
    return plausible_;
  }

  RingSide<>* words_;
  std::mt19937_64 random_;
  uint64_t plausible_ = 0;
};

// A status that is not OK once stays what it is.
template <class Handle>
class Poison {
 public:
  // Whether the handle is poisoned.
  bool Check(const Handle& handle) {
    const absl::Status status = handle.status();
    if (poisoned_) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      return true;
    }
    if (status.ok()) return false;
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    poisoned_ = true;
    return true;
  }

 private:
  bool poisoned_ = false;
};

struct Tally {
  int64_t steps = 0;
  int64_t items = 0;
  int64_t pairs = 0;
  int64_t poisoned = 0;
};

void Report(const char* who, const Tally& tally) {
  std::cout << tally.steps << " steps against a " << who
            << " that lies: " << tally.items << " items, " << tally.pairs
            << " rings, " << tally.poisoned << " of them poisoned\n";
  EXPECT_GT(tally.items, tally.steps / 10) << "the handle does nothing";
  EXPECT_GT(tally.poisoned, tally.pairs / 10);
}

uint64_t Use(std::span<const uint64_t> items) {
  EXPECT_LE(items.size(), kCapacity);
  return items.empty() ? 0 : items.front() + items.back();
}

// One random operation; how many items it took.
uint64_t Take(RingReader<uint64_t>& reader, Liar& liar) {
  const uint64_t n = liar.Random() % (kCapacity + 2);
  uint64_t item = 0;
  std::array<uint64_t, 16> items = {};
  switch (liar.Random() % 8) {
    case 0:
      return reader.try_pop(item) ? 1 : 0;
    case 1:
      return reader.pop(items);
    case 2: {
      const std::span<const uint64_t> seen = reader.peek(n);
      Use(seen);
      const uint64_t some = seen.empty() ? 0 : liar.Random() % seen.size();
      reader.consume(some);
      return some;
    }
    case 3:
      return reader.front() == nullptr ? 0 : (reader.pop(), 1);
    case 4:
      EXPECT_LE(reader.size(), kCapacity);
      return 0;
    case 5:
      reader.closed();
      return 0;
    case 6:
      if (liar.Random() % 1000 == 0) reader.wait(n % kCapacity, kAtOnce);
      return 0;
    default:
      if (reader.peek().empty()) return 0;
      reader.finish(1);
      reader.release();
      return 1;
  }
}

// One random operation; how many items it put in.
uint64_t Put(RingWriter<uint64_t>& writer, Liar& liar) {
  const uint64_t n = liar.Random() % (kCapacity + 2);
  const std::array<uint64_t, 16> items = {};
  switch (liar.Random() % 7) {
    case 0:
      return writer.try_push(n) ? 1 : 0;
    case 1:
      return writer.push(items);
    case 2: {
      const std::span<uint64_t> slots = writer.reserve(n);
      if (slots.empty()) return 0;
      slots.front() = slots.back() = n;
      Use(slots);
      writer.commit(slots.size() / 2);
      return slots.size() / 2;
    }
    case 3:
      EXPECT_LE(writer.free(), kCapacity);
      return 0;
    case 4:
      writer.closed();
      return 0;
    case 5:
      if (liar.Random() % 1000 == 0) writer.wait(n % kCapacity, kAtOnce);
      return 0;
    default:
      if (writer.reserve(1).empty()) return 0;
      writer.stage(1);
      writer.publish();
      return 1;
  }
}

// Steps until the pair's time is over; `position` counts this side's items.
template <class Handle, class Operation>
void Play(Handle& handle, Liar& liar, uint64_t ahead, Operation operate,
          Tally& tally) {
  Poison<Handle> poison;
  bool poisoned = false;
  uint64_t position = 0;
  for (int step = 0; step < kStepsAPair; ++step) {
    liar.Lie(position + ahead);
    const uint64_t n = operate(handle, liar);
    position += n;
    tally.items += static_cast<int64_t>(n);
    poisoned = poison.Check(handle);
    if (::testing::Test::HasFailure()) return;
  }
  if (poisoned) {
    ++tally.poisoned;
    // What was known before may be left; after that there is nothing.
    for (uint64_t i = 0; i < 100 * kCapacity; ++i) operate(handle, liar);
    EXPECT_EQ(operate(handle, liar), 0);
  }
  tally.steps += kStepsAPair;
  ++tally.pairs;
}

TEST(HostilePeer, AProducerThatLies) {
  Tally tally;
  const int64_t steps = Scaled(2'000'000, 100'000'000);
  while (tally.steps < steps && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kWriterHere, .capacity_bytes = kCapacityBytes});
    file.Seal();
    auto consumer = GuardedConsumer<uint64_t>::Attach(file.Invite());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    auto reader = consumer->reader();
    Liar liar(&file.header().writer, static_cast<uint64_t>(tally.pairs));
    Play(*reader, liar, /*ahead=*/kCapacity, Take, tally);
  }
  Report("producer", tally);
}

TEST(HostilePeer, AConsumerThatLies) {
  Tally tally;
  const int64_t steps = Scaled(2'000'000, 100'000'000);
  while (tally.steps < steps && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kReaderHere});
    file.Seal();
    auto producer = GuardedProducer<uint64_t>::Create(kCapacity);
    ASSERT_TRUE(producer.ok()) << producer.status();
    file.Answer(*producer->Invite());
    ASSERT_TRUE(producer->Accept().ok());
    auto writer = producer->writer();
    Liar liar(&file.header().reader, static_cast<uint64_t>(tally.pairs));
    Play(*writer, liar, /*ahead=*/0, Put, tally);
  }
  Report("consumer", tally);
}

}  // namespace
}  // namespace doppel
