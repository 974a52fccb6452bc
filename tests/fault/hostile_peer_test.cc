// SPDX-License-Identifier: Apache-2.0
//
// A peer that stores anything to any of its words, at every step, while this side of a
// guarded ring goes on, with items and with messages: every call returns, no span leaves
// the items (the guards and the sanitizers see to it), and once a position or a header
// could not be true the handle says DataLoss and gives out no more than it knew of.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <random>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/hostile_ring.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::HostileFile;
using ::doppel::testing::Scaled;

constexpr uint64_t kCapacityBytes = 4096;

// Steps with one pair of files; making them costs as much as thousands of steps.
constexpr int kStepsAPair = 4000;

// Of each of the four handles.
int64_t Steps() { return Scaled(1'000'000, 100'000'000); }

// A RingSide's words.
constexpr size_t kWords = 10;

template <class Store>
void StoreTo(RingSide<>& side, size_t word, Store store) {
  switch (word) {
    case 0:
      return store(side.position);
    case 1:
      return store(side.wish);
    case 2:
      return store(side.wake_by);
    case 3:
      return store(side.fenced);
    case 4:
      return store(side.signal);
    case 5:
      return store(side.closed);
    case 6:
      return store(side.finished);
    case 7:
      return store(side.stalls);
    case 8:
      return store(side.refusals);
    default:
      return store(side.high_water);
  }
}

// What the peer stores: most of the time positions that could be true, so that the ring
// goes on, and else the worst values and random ones.
class Liar {
 public:
  // How often each word was set to each of the worst values, or to a random one.
  using Lies = std::array<std::array<int64_t, 8>, kWords>;

  Liar(HostileFile& file, RingSide<>& words, uint64_t capacity, uint64_t seed)
      : page_(reinterpret_cast<uint64_t*>(&file.header())),
        words_(words),
        capacity_(capacity),
        random_(seed) {}

  // `ceiling` is the furthest position that could be true.
  void Lie(uint64_t ceiling, Lies& lies) {
    const uint64_t what = random_() % 16;
    if (what < kWords && (what != 0 || random_() % 128 == 0)) {
      return LieOf(what, ceiling, lies);
    }
    if (what == kWords && random_() % 128 == 0) return LieAnywhere(ceiling);
    plausible_ = std::min(plausible_ + random_() % (capacity_ / 64), ceiling);
    if (what == kWords + 1) {
      words_.wish.store(2 * plausible_ + 1, std::memory_order_release);
      return;
    }
    if (!forges_) words_.position.store(plausible_, std::memory_order_release);
  }

  // Somebody else stores what could be true.
  void LeavePositions() { forges_ = true; }
  void BeDishonest() { honest_ = false; }

  uint64_t Random() { return random_(); }

  uint64_t position() const {
    return words_.position.load(std::memory_order_relaxed);
  }

  // Whether all positions and headers so far could be true.
  bool honest() const { return honest_; }

 private:
  // The last: a random one.
  uint64_t Value(size_t which, uint64_t ceiling) {
    const std::array<uint64_t, 7> worst = {
        0,          1,          capacity_, capacity_ + 1, uint64_t{1} << 63,
        UINT64_MAX, ceiling + 1};
    return which < worst.size() ? worst[which] : random_();
  }

  void LieOf(size_t word, uint64_t ceiling, Lies& lies) {
    const size_t which = random_() % lies[word].size();
    const uint64_t value = Value(which, ceiling);
    ++lies[word][which];
    if (word == 0) honest_ = false;
    StoreTo(words_, word, [&](auto& at) {
      at.store(static_cast<std::decay_t<decltype(at.load())>>(value),
               std::memory_order_release);
    });
  }

  // Anywhere in the page of the header: the identity too, and what is nobody's.
  void LieAnywhere(uint64_t ceiling) {
    honest_ = false;
    std::atomic_ref<uint64_t>(page_[random_() % (kCapacityBytes / 8)])
        .store(Value(random_() % 8, ceiling), std::memory_order_release);
  }

  uint64_t* page_;
  RingSide<>& words_;
  uint64_t capacity_;
  std::mt19937_64 random_;
  uint64_t plausible_ = 0;
  bool honest_ = true;
  bool forges_ = false;
};

struct Tally {
  int64_t steps = 0;
  int64_t items = 0;
  int64_t pairs = 0;
  int64_t poisoned = 0;
  Liar::Lies lies = {};
};

void Report(const char* who, const char* what, const Tally& tally) {
  std::cout << tally.steps << " steps against a " << who
            << " that lies: " << tally.items << " " << what << ", "
            << tally.pairs << " rings, " << tally.poisoned
            << " of them poisoned\n";
  EXPECT_GT(tally.items, tally.steps / 20) << "the handle does nothing";
  EXPECT_GT(tally.poisoned, tally.pairs / 10);
  for (size_t word = 0; word < kWords; ++word) {
    for (const int64_t times : tally.lies[word]) EXPECT_GT(times, 0) << word;
  }
}

// Reads the ends of a span, and says how long it is.
template <class T>
uint64_t Use(std::span<T> span) {
  if (span.empty()) return 0;
  const T* ends[] = {&span.front(), &span.back()};
  for (const T* end : ends) (void)*static_cast<const volatile T*>(end);
  return span.size();
}

// A wait now and then: its system calls take longer than all else.
RingWaitOptions Patience(Liar& liar) {
  const bool sleeps = liar.Random() % 64 == 0;
  return {.deadline = sleeps ? absl::Now() + absl::Microseconds(20)
                             : absl::InfinitePast(),
          .spin = absl::ZeroDuration()};
}

template <class Handle>
void WaitNowAndThen(Handle& handle, Liar& liar, uint64_t n) {
  if (liar.Random() % 1000 != 0) return;
  if (liar.Random() % 2 == 0) {
    handle.wait(n, Patience(liar));
  } else {
    handle.arm(n);
  }
}

// What is at one end of the ring, and how much it has taken out or put in.
template <class Handle>
class Player {
 public:
  Player(Handle handle, Liar& liar) : handle_(std::move(handle)), liar_(liar) {
    EXPECT_TRUE(handle_.event().ok());
  }

  // `ahead`: how far the peer's position may be ahead of this side's. `capacity`: how
  // much this side may know of.
  template <class Operation>
  void Play(uint64_t ahead, uint64_t capacity, Operation operate,
            Tally& tally) {
    uint64_t after_poison = 0;
    for (int step = 0; step < kStepsAPair; ++step) {
      liar_.Lie(position_ + ahead, tally.lies);
      const bool was_poisoned = poisoned_;
      const uint64_t n = operate(*this);
      CheckPoison();
      tally.items += static_cast<int64_t>(n);
      if (was_poisoned) after_poison += n;
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_LE(after_poison, capacity) << "more than was known of";
    tally.steps += kStepsAPair;
    tally.poisoned += poisoned_ ? 1 : 0;
    ++tally.pairs;
  }

  Handle& handle() { return handle_; }
  Liar& liar() { return liar_; }
  uint64_t position() const { return position_; }
  uint64_t released() const { return released_; }
  void Release() { released_ = position_; }

  // This side goes on by n; n is returned.
  uint64_t Pass(uint64_t n) {
    position_ += n;
    return n;
  }

 private:
  // A status that is not OK once stays what it is.
  void CheckPoison() {
    const absl::Status status = handle_.status();
    if (poisoned_ || !status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    }
    if (!status.ok()) {
      EXPECT_FALSE(liar_.honest()) << status;
      poisoned_ = true;
    }
  }

  Handle handle_;
  Liar& liar_;
  uint64_t position_ = 0;
  uint64_t released_ = 0;  // A reader's that releases late.
  bool poisoned_ = false;
};

// --- Items. ---

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

// A producer without a consumer yet, and a consumer's file that answers.
template <class T>
std::optional<GuardedProducer<T>> Accepted(HostileFile& file) {
  file.Seal();
  auto producer = GuardedProducer<T>::Create(kCapacityBytes / sizeof(T));
  EXPECT_TRUE(producer.ok()) << producer.status();
  file.Answer(*producer->Invite());
  EXPECT_TRUE(producer->Accept().ok());
  return *std::move(producer);
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

// --- Messages. ---

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
