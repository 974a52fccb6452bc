// SPDX-License-Identifier: Apache-2.0
//
// A peer that stores anything to its words and to the headers of its messages, at every
// step: as hostile_peer_test.cc, with what a message's length could do besides.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/message.h"
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
using ::doppel::testing::Patience;
using ::doppel::testing::Player;
using ::doppel::testing::Report;
using ::doppel::testing::Steps;
using ::doppel::testing::Tally;
using ::doppel::testing::Use;
using ::doppel::testing::WaitNowAndThen;

// Puts frames into the ring, and changes them now and then after that, while the other
// side may have looked at their headers.
class Forger {
 public:
  Forger(HostileFile& file, Liar& liar) : file_(file), liar_(liar) {}

  // `room` is what could be written to.
  void Forge(uint64_t room) {
    const uint64_t payload_bytes = liar_.Random() % 64;
    const uint64_t frame_bytes = MessageFrameBytes(payload_bytes);
    if (liar_.Random() % 256 == 0) {
      liar_.BeDishonest();
      Put(liar_.Random(), liar_.Random() >> liar_.Random() % 64);
    }
    if (frame_bytes > room) return;
    Put(written_, payload_bytes);
    written_ += frame_bytes;
    file_.header().writer.position.store(written_, std::memory_order_release);
  }

  uint64_t written() const { return written_; }

 private:
  // A word that the other side may take for a header.
  void Put(uint64_t position, uint64_t word) {
    auto* const words = reinterpret_cast<uint64_t*>(file_.items());
    std::atomic_ref<uint64_t>(words[position % kCapacityBytes / 8])
        .store(word, std::memory_order_relaxed);
  }

  HostileFile& file_;
  Liar& liar_;
  uint64_t written_ = 0;
};

// One random operation; how many bytes of frames it showed.
uint64_t Read(Player<MessageReader>& player) {
  MessageReader& reader = player.handle();
  Liar& liar = player.liar();
  switch (liar.Random() % 8) {
    case 0: {
      std::array<std::byte, 32> buffer;
      const std::optional<size_t> bytes = reader.pop(buffer);
      if (!bytes.has_value()) return 0;
      EXPECT_LE(*bytes, kCapacityBytes - sizeof(MessageHeader));
      if (*bytes > buffer.size()) return 0;
      const uint64_t n = player.Pass(MessageFrameBytes(*bytes));
      player.Release();
      return n;
    }
    case 1:
    case 2:
    case 3: {
      const auto message = reader.next();
      if (!message.has_value()) return 0;
      EXPECT_LE(Use(*message), kCapacityBytes - sizeof(MessageHeader));
      return player.Pass(MessageFrameBytes(message->size()));
    }
    case 4:
      reader.empty();
      return 0;
    case 5:
      reader.closed();
      return 0;
    case 6:
      if (liar.Random() % 1000 != 0) return 0;
      reader.release();  // Nobody may wait who shows the whole ring.
      player.Release();
      if (liar.Random() % 2 == 0) {
        reader.wait(Patience(liar));
      } else {
        reader.arm();
      }
      return 0;
    default:
      reader.release();
      player.Release();
      return 0;
  }
}

// One random operation; how many messages it put in.
uint64_t Write(Player<MessageWriter>& player) {
  MessageWriter& writer = player.handle();
  Liar& liar = player.liar();
  // Mostly short ones.
  const uint64_t n =
      liar.Random() % (kCapacityBytes + 2) >> (liar.Random() % 8 == 0 ? 0 : 6);
  std::array<std::byte, 64> bytes = {};
  switch (liar.Random() % 7) {
    case 0:
    case 1: {
      const auto payload = std::span(bytes).first(n % bytes.size());
      if (writer.push(payload) != RingRoom::kRoom) return 0;
      player.Pass(MessageFrameBytes(payload.size()));
      return 1;
    }
    case 2:
    case 3: {
      const MessageReservation space = writer.reserve(n);
      EXPECT_EQ(space.room == RingRoom::kTooBig,
                n > kCapacityBytes - sizeof(MessageHeader));
      if (!space) return 0;
      if (n > 0) space.payload.front() = space.payload.back() = std::byte{7};
      EXPECT_EQ(Use(space.payload), n);
      writer.stage(n / 2);
      player.Pass(MessageFrameBytes(n / 2));
      return 1;
    }
    case 4:
      writer.abort();
      return 0;
    case 5:
      WaitNowAndThen(writer, liar,
                     std::min<uint64_t>(n, writer.max_message_bytes()));
      return 0;
    default:
      writer.publish();
      return 0;
  }
}

TEST(HostilePeer, AProducerOfMessagesThatLies) {
  Tally tally;
  while (tally.steps < Steps() && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kWriterHere,
                      .capacity_bytes = kCapacityBytes,
                      .item_bytes = 1});
    file.Seal();
    auto consumer = GuardedConsumer<>::Attach(file.Invite());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    Liar liar(file, file.header().writer, kCapacityBytes,
              static_cast<uint64_t>(tally.pairs));
    liar.LeavePositions();
    Forger forger(file, liar);
    Player player(MessageReader(*consumer->reader()), liar);
    player.Play(
        /*ahead=*/0, kCapacityBytes,
        [&](Player<MessageReader>& reader) {
          const uint64_t in_ring = forger.written() - reader.released();
          forger.Forge(kCapacityBytes - std::min(in_ring, kCapacityBytes));
          return Read(reader);
        },
        tally);
  }
  Report("producer", "bytes of messages", tally);
}

TEST(HostilePeer, AConsumerOfMessagesThatLies) {
  Tally tally;
  while (tally.steps < Steps() && !::testing::Test::HasFailure()) {
    HostileFile file({.sides = kReaderHere, .item_bytes = 1});
    auto producer = Accepted<std::byte>(file);
    Liar liar(file, file.header().reader, kCapacityBytes,
              static_cast<uint64_t>(tally.pairs));
    Player player(MessageWriter(*producer->writer()), liar);
    player.Play(/*ahead=*/0, kCapacityBytes, Write, tally);
  }
  Report("consumer", "messages", tally);
}

}  // namespace
}  // namespace doppel
