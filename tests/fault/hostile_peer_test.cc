// SPDX-License-Identifier: Apache-2.0
//
// A peer that stores anything to any of its words, at every step, while this side of a
// guarded ring goes on: every call returns, no span leaves the items (the guards and the
// sanitizers see to it), and once a position could not be true the handle says DataLoss
// and gives out no more than it knew of.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/fault/hostile_player.h"
#include "doppel/tests/support/hostile_ring.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Accepted;
using ::doppel::testing::HostileFile;
using ::doppel::testing::kCapacityBytes;
using ::doppel::testing::Liar;
using ::doppel::testing::Player;
using ::doppel::testing::Report;
using ::doppel::testing::Steps;
using ::doppel::testing::Tally;
using ::doppel::testing::Use;
using ::doppel::testing::WaitNowAndThen;

constexpr uint64_t kCapacity = kCapacityBytes / 8;

// One random operation; how many items it took.
uint64_t Take(Player<RingReader<uint64_t>>& player) {
  RingReader<uint64_t>& reader = player.handle();
  Liar& liar = player.liar();
  const uint64_t n = liar.Random() % (kCapacity + 2);
  uint64_t item = 0;
  std::array<uint64_t, 16> items = {};
  switch (liar.Random() % 8) {
    case 0:
      return player.Pass(reader.try_pop(item) ? 1 : 0);
    case 1:
      return player.Pass(reader.pop(items));
    case 2: {
      const std::span<const uint64_t> seen = reader.peek(n);
      EXPECT_LE(Use(seen), kCapacity);
      const uint64_t some = seen.empty() ? 0 : liar.Random() % seen.size();
      reader.consume(some);
      return player.Pass(some);
    }
    case 3:
      return player.Pass(reader.front() == nullptr ? 0 : (reader.pop(), 1));
    case 4:
      EXPECT_LE(reader.size(), kCapacity);
      if (liar.position() - player.position() > kCapacity) {
        EXPECT_EQ(reader.status().code(), absl::StatusCode::kDataLoss);
      }
      return 0;
    case 5:
      reader.closed();
      return 0;
    case 6:
      WaitNowAndThen(reader, liar, n % kCapacity);
      return 0;
    default:
      if (reader.peek().empty()) return 0;
      reader.finish(1);
      reader.release();
      return player.Pass(1);
  }
}

// One random operation; how many items it put in.
uint64_t Put(Player<RingWriter<uint64_t>>& player) {
  RingWriter<uint64_t>& writer = player.handle();
  Liar& liar = player.liar();
  const uint64_t n = liar.Random() % (kCapacity + 2);
  const std::array<uint64_t, 16> items = {};
  switch (liar.Random() % 7) {
    case 0:
      return player.Pass(writer.try_push(n) ? 1 : 0);
    case 1:
      return player.Pass(writer.push(items));
    case 2: {
      const std::span<uint64_t> slots = writer.reserve(n);
      if (slots.empty()) return 0;
      slots.front() = slots.back() = n;
      EXPECT_LE(Use(slots), kCapacity);
      writer.commit(slots.size() / 2);
      return player.Pass(slots.size() / 2);
    }
    case 3:
      EXPECT_LE(writer.free(), kCapacity);
      if (player.position() - liar.position() > kCapacity) {
        EXPECT_EQ(writer.status().code(), absl::StatusCode::kDataLoss);
      }
      return 0;
    case 4:
      writer.closed();
      return 0;
    case 5:
      WaitNowAndThen(writer, liar, n % kCapacity);
      return 0;
    default:
      if (writer.reserve(1).empty()) return 0;
      writer.stage(1);
      writer.publish();
      return player.Pass(1);
  }
}

TEST(HostilePeer, AProducerThatLies) {
  Tally tally;
  while (tally.steps < Steps() && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kWriterHere, .capacity_bytes = kCapacityBytes});
    file.Seal();
    auto consumer = GuardedConsumer<uint64_t>::Attach(file.Invite());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    Liar liar(file, file.header().writer, kCapacity,
              static_cast<uint64_t>(tally.pairs));
    Player player(*consumer->reader(), liar);
    player.Play(/*ahead=*/kCapacity, kCapacity, Take, tally);
  }
  Report("producer", "items", tally);
}

TEST(HostilePeer, AConsumerThatLies) {
  Tally tally;
  while (tally.steps < Steps() && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kReaderHere});
    auto producer = Accepted<uint64_t>(file);
    Liar liar(file, file.header().reader, kCapacity,
              static_cast<uint64_t>(tally.pairs));
    Player player(*producer->writer(), liar);
    player.Play(/*ahead=*/0, kCapacity, Put, tally);
  }
  Report("consumer", "items", tally);
}

}  // namespace
}  // namespace doppel
