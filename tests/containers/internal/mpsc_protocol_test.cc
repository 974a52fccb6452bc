// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/mpsc_protocol.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/ring_layout.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

// An atomic word that keeps a record of how it is used.
class Recorded {
 public:
  uint64_t load(std::memory_order order) const {
    ++loads;
    last_load_order = order;
    const uint64_t loaded = value;
    if (after_load) after_load();
    return loaded;
  }
  void store(uint64_t to, std::memory_order order) {
    ++stores;
    last_store_order = order;
    value = to;
  }
  bool compare_exchange_weak(uint64_t& expected, uint64_t to,
                             std::memory_order order, std::memory_order) {
    ++swaps;
    last_swap_order = order;
    if (value != expected) {
      expected = value;
      return false;
    }
    value = to;
    return true;
  }

  uint64_t value = 0;
  std::function<void()> after_load;  // What others do meanwhile.
  mutable int loads = 0;
  int stores = 0;
  int swaps = 0;
  mutable std::memory_order last_load_order = std::memory_order_seq_cst;
  std::memory_order last_store_order = std::memory_order_seq_cst;
  std::memory_order last_swap_order = std::memory_order_seq_cst;
};

struct RecordedAtomics {
  template <class T>
  using Atomic = Recorded;
};

template <bool kFramesWrap>
using Producer = MpscProducerCursor<kFramesWrap, RecordedAtomics>;
using Consumer = MpscConsumerCursor<RecordedAtomics>;

// The shared words, and a memory of which each word may be a header.
struct Scene {
  explicit Scene(uint64_t capacity_bytes, uint64_t start = 0)
      : capacity(capacity_bytes), words(capacity_bytes / 8) {
    claim.value = start;
    consumer.value = start;
  }

  auto header_at() {
    return
        [this](uint64_t offset) -> Recorded& { return words.at(offset / 8); };
  }
  // Fails if it zeroes outside of the memory.
  auto zero() {
    return [this](uint64_t offset, uint64_t bytes) {
      EXPECT_EQ(offset % 8, 0);
      EXPECT_EQ(bytes % 8, 0);
      EXPECT_GT(bytes, 0);
      for (uint64_t i = 0; i < bytes; i += 8) {
        words.at((offset + i) / 8).value = 0;
      }
    };
  }
  template <bool kFramesWrap>
  std::optional<uint64_t> Claim(Producer<kFramesWrap>& producer,
                                uint64_t frame_bytes) {
    return producer.Claim(frame_bytes, header_at(),
                          [this](uint64_t position, uint64_t used, bool full) {
                            EXPECT_EQ(position, claim.value);
                            ++looks;
                            last_used = used;
                            last_full = full;
                          });
  }
  // The whole frame is written to, header last.
  void Fill(uint64_t offset, uint64_t frame_bytes, MpscHeader header) {
    for (uint64_t i = 8; i < frame_bytes; i += 8) {
      words.at((offset + i) % capacity / 8).value = kMax;
    }
    Producer<true>::Commit(offset, header, header_at());
  }

  uint64_t capacity;
  Recorded claim;
  Recorded consumer;
  std::vector<Recorded> words;
  int looks = 0;
  uint64_t last_used = 0;
  bool last_full = false;
};

template <bool kFramesWrap = true>
Producer<kFramesWrap> MakeProducer(Scene& scene) {
  return {&scene.claim, &scene.consumer, scene.capacity};
}

Consumer MakeConsumer(Scene& scene) {
  return {&scene.consumer, scene.capacity};
}

TEST(MpscFrame, LengthsAreRoundedUp) {
  EXPECT_EQ(FrameBytes(0), 8);
  EXPECT_EQ(FrameBytes(1), 16);
  EXPECT_EQ(FrameBytes(8), 16);
  EXPECT_EQ(FrameBytes(9), 24);
  EXPECT_EQ(FrameBytes(kMaxPayloadBytes), uint64_t{1} << 32);
}

TEST(MpscFrame, HeadersKeepWhatTheyAreMadeOf) {
  for (const uint64_t payload : {uint64_t{0}, uint64_t{1}, uint64_t{4096},
                                 kMaxPayloadBytes - 1, kMaxPayloadBytes}) {
    for (const uint64_t frame : {FrameBytes(payload), uint64_t{1} << 32}) {
      const MpscHeader message = MpscHeader::Message(payload, frame);
      EXPECT_TRUE(message.committed());
      EXPECT_FALSE(message.skip());
      EXPECT_EQ(message.payload_bytes(), payload);
      EXPECT_EQ(message.frame_bytes(), frame);
      const MpscHeader skip = MpscHeader::Skip(frame);
      EXPECT_TRUE(skip.committed());
      EXPECT_TRUE(skip.skip());
      EXPECT_EQ(skip.frame_bytes(), frame);
    }
  }
  EXPECT_FALSE(MpscHeader().committed());
  EXPECT_FALSE(MpscHeader(0).skip());
}

TEST(MpscShared, EachPositionIsAloneOnItsLine) {
  MpscShared shared;
  const auto line = [](const void* at) {
    return reinterpret_cast<uintptr_t>(at) / kRingLineBytes;
  };
  EXPECT_NE(line(&shared.claim_position), line(&shared.consumer_position));
  EXPECT_NE(line(&shared.claim_position), line(&shared.producers));
  EXPECT_NE(line(&shared.consumer_position), line(&shared.producers));
  EXPECT_NE(line(&shared.consumer_taken), line(&shared.producers));
  EXPECT_NE(line(&shared.consumer_taken), line(&shared.consumer_position));
}

TEST(MpscProtocol, OrdersWhatItHandsOver) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  Consumer consumer = MakeConsumer(scene);
  ASSERT_EQ(scene.Claim(producer, 16), 0);
  EXPECT_EQ(scene.consumer.last_load_order, std::memory_order_acquire);
  EXPECT_EQ(scene.claim.last_load_order, std::memory_order_acquire);
  EXPECT_EQ(scene.claim.last_swap_order, std::memory_order_release);
  EXPECT_EQ(scene.words[0].stores, 0) << "a claim says nothing";
  scene.Fill(0, 16, MpscHeader::Message(8, 16));
  EXPECT_EQ(scene.words[0].last_store_order, std::memory_order_release);
  const MpscHeader header = consumer.Look(scene.header_at());
  EXPECT_EQ(scene.words[0].last_load_order, std::memory_order_acquire);
  EXPECT_EQ(header.payload_bytes(), 8);
  consumer.Pass(header);
  EXPECT_EQ(scene.consumer.stores, 0);
  consumer.HandBack([&](uint64_t offset, uint64_t bytes) {
    EXPECT_EQ(scene.consumer.stores, 0) << "zeroes before it hands back";
    scene.zero()(offset, bytes);
  });
  EXPECT_EQ(scene.consumer.last_store_order, std::memory_order_release);
  EXPECT_EQ(scene.consumer.value, 16);
}

TEST(MpscProtocol, ProducersLookOnlyWhenTheyKnowTooLittle) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  const int claim_loads = scene.claim.loads;
  for (uint64_t i = 0; i < 8; ++i) ASSERT_EQ(scene.Claim(producer, 8), i * 8);
  EXPECT_EQ(scene.consumer.loads, 1);
  EXPECT_EQ(scene.claim.loads, claim_loads + 1);
  EXPECT_EQ(scene.claim.swaps, 8) << "alone, each claim succeeds at once";
  EXPECT_EQ(scene.looks, 1);
  EXPECT_FALSE(scene.last_full);
  EXPECT_EQ(scene.Claim(producer, 8), std::nullopt);
  EXPECT_EQ(scene.looks, 2);
  EXPECT_TRUE(scene.last_full);
  EXPECT_EQ(scene.last_used, 64);
  EXPECT_EQ(scene.claim.value, 64) << "a refused claim claims nothing";
}

TEST(MpscProtocol, TheConsumerTouchesNoWordOfTheProducers) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  Consumer consumer = MakeConsumer(scene);
  ASSERT_EQ(scene.Claim(producer, 64), 0);
  const int loads = scene.claim.loads;
  EXPECT_FALSE(consumer.Look(scene.header_at()).committed());
  scene.Fill(0, 64, MpscHeader::Skip(64));
  consumer.Pass(consumer.Look(scene.header_at()));
  consumer.HandBack(scene.zero());
  EXPECT_EQ(scene.claim.loads, loads);
}

// A consumer that moves while a producer looks makes it look again: there was no
// moment at which the ring was full.
TEST(MpscProtocol, AFullRingIsFullAtOneMoment) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  ASSERT_EQ(scene.Claim(producer, 64), 0);
  int loads = 0;
  scene.consumer.after_load = [&] {
    if (++loads == 1) scene.consumer.value += 16;
  };
  EXPECT_EQ(scene.Claim(producer, 16), 0);
  EXPECT_EQ(scene.last_used, 48);
  EXPECT_FALSE(scene.last_full);
}

// Between two loads of the consumer's position others may fill what was free, and more
// than that if it moved on: what is seen then is no ring that holds too much.
TEST(MpscProtocol, OthersMayOvertakeALook) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  auto other = MakeProducer(scene);
  ASSERT_EQ(scene.Claim(other, 64), 0);
  int loads = 0;
  scene.consumer.after_load = [&] {
    if (++loads != 1) return;
    scene.consumer.value += 48;
    ASSERT_EQ(scene.Claim(other, 32), 0);
  };
  // 96 were claimed and 48 handed back since: 16 are free.
  EXPECT_EQ(scene.Claim(producer, 24), std::nullopt);
  EXPECT_EQ(scene.last_used, 48);
  EXPECT_EQ(scene.Claim(producer, 16), 32);
}

TEST(MpscProtocol, ClaimsOfOthersArePassed) {
  Scene scene(64);
  auto first = MakeProducer(scene);
  auto second = MakeProducer(scene);
  ASSERT_EQ(scene.Claim(first, 8), 0);
  ASSERT_EQ(scene.Claim(second, 24), 8);
  ASSERT_EQ(scene.Claim(first, 16), 32);
  ASSERT_EQ(scene.Claim(second, 16), 48);
  EXPECT_EQ(scene.Claim(first, 8), std::nullopt);
  EXPECT_EQ(scene.Claim(second, 8), std::nullopt);
}

// A limit that is a lap old: the difference to it is negative, not huge.
TEST(MpscProtocol, AnOldLimitMeansALook) {
  Scene scene(64);
  auto first = MakeProducer(scene);
  auto second = MakeProducer(scene);
  Consumer consumer = MakeConsumer(scene);
  ASSERT_EQ(scene.Claim(first, 8), 0);
  scene.Fill(0, 8, MpscHeader::Message(0, 8));
  for (int i = 1; i < 100; ++i) {
    const std::optional<uint64_t> offset = scene.Claim(second, 8);
    ASSERT_TRUE(offset.has_value());
    scene.Fill(*offset, 8, MpscHeader::Message(0, 8));
    consumer.Pass(consumer.Look(scene.header_at()));
    consumer.HandBack(scene.zero());
  }
  EXPECT_EQ(scene.Claim(first, 56), 100 % 8 * 8);
  EXPECT_EQ(scene.Claim(first, 8), std::nullopt);
}

// The words at the consumer's place after a lap are the headers it has passed.
TEST(MpscProtocol, AWholeLapThatWasPassedIsNotPassedAgain) {
  Scene scene(32);
  auto producer = MakeProducer(scene);
  Consumer consumer = MakeConsumer(scene);
  for (int i = 0; i < 4; ++i) {
    const std::optional<uint64_t> offset = scene.Claim(producer, 8);
    ASSERT_TRUE(offset.has_value());
    scene.Fill(*offset, 8, MpscHeader::Message(0, 8));
  }
  for (int i = 0; i < 4; ++i) {
    const MpscHeader header = consumer.Look(scene.header_at());
    ASSERT_TRUE(header.committed());
    consumer.Pass(header);
  }
  EXPECT_TRUE(MpscHeader(scene.words[0].value).committed());
  EXPECT_FALSE(consumer.Look(scene.header_at()).committed());
  consumer.HandBack(scene.zero());
  EXPECT_FALSE(consumer.Look(scene.header_at()).committed());
}

template <bool kFramesWrap>
void EveryPlaceTakesTheLongestFrame() {
  constexpr uint64_t kCapacity = 72;
  const uint64_t longest = MaxFrameBytes<kFramesWrap>(kCapacity);
  EXPECT_EQ(longest, kFramesWrap ? 72 : 32);
  for (uint64_t start = 0; start < 2 * kCapacity; start += 8) {
    Scene scene(kCapacity, start);
    auto producer = MakeProducer<kFramesWrap>(scene);
    Consumer consumer = MakeConsumer(scene);
    const std::optional<uint64_t> offset = scene.Claim(producer, longest);
    ASSERT_TRUE(offset.has_value()) << start;
    if constexpr (!kFramesWrap) {
      ASSERT_LE(*offset + longest, kCapacity);
    }
    scene.Fill(*offset, longest, MpscHeader::Message(3, longest));
    MpscHeader header = consumer.Look(scene.header_at());
    if (!kFramesWrap && header.skip()) {
      consumer.Pass(header);
      header = consumer.Look(scene.header_at());
    }
    ASSERT_EQ(header.payload_bytes(), 3);
    consumer.Pass(header);
    consumer.HandBack(scene.zero());
    ASSERT_EQ(scene.consumer.value, scene.claim.value);
    for (const Recorded& word : scene.words) ASSERT_EQ(word.value, 0);
  }
}

TEST(MpscProtocol, EveryPlaceTakesTheLongestFrameThatWraps) {
  EveryPlaceTakesTheLongestFrame<true>();
}
TEST(MpscProtocol, EveryPlaceTakesTheLongestFrameThatDoesNot) {
  EveryPlaceTakesTheLongestFrame<false>();
}

// Three producers that commit in any order, and a consumer, at random.
template <bool kFramesWrap>
class Crowd {
 public:
  Crowd(uint64_t capacity, uint64_t seed)
      : scene_(capacity),
        random_(seed),
        producers_{MakeProducer<kFramesWrap>(scene_),
                   MakeProducer<kFramesWrap>(scene_),
                   MakeProducer<kFramesWrap>(scene_)},
        consumer_(MakeConsumer(scene_)) {}

  void Step() {
    const size_t who = random_() % 4;
    if (who == 3) {
      Consume();
    } else if (open_[who]) {
      Frame& frame = *frames_.at(*open_[who]);
      frame.committed = true;
      scene_.Fill(frame.offset, frame.bytes,
                  MpscHeader::Message(frame.number, frame.bytes));
      open_[who].reset();
    } else {
      Claim(who);
    }
    CheckFreeWordsAreZero();
  }

 private:
  struct Frame {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t number = 0;
    bool committed = false;
  };

  void Claim(size_t who) {
    const uint64_t bytes =
        8 * (1 + random_() % (MaxFrameBytes<kFramesWrap>(scene_.capacity) / 8));
    const uint64_t at = scene_.claim.value;
    const uint64_t to_end = scene_.capacity - at % scene_.capacity;
    const uint64_t skip = !kFramesWrap && to_end < bytes ? to_end : 0;
    const bool fits =
        at + skip + bytes <= scene_.consumer.value + scene_.capacity;
    const auto offset = scene_.Claim(producers_[who], bytes);
    ASSERT_EQ(offset.has_value(), fits);
    if (!fits) return;
    ASSERT_EQ(*offset, (at + skip) % scene_.capacity);
    if (skip > 0) frames_.emplace_back();
    frames_.push_back(Frame{*offset, bytes, claims_++, false});
    open_[who] = frames_.size() - 1;
  }

  void Consume() {
    if (random_() % 2 == 0) {
      consumer_.HandBack(scene_.zero());
      ASSERT_EQ(consumer_.passed_bytes(), 0);
      return;
    }
    const MpscHeader header = consumer_.Look(scene_.header_at());
    if (next_ == frames_.size()) {
      ASSERT_FALSE(header.committed());
      return;
    }
    const std::optional<Frame>& frame = frames_[next_];
    if (frame) {
      ASSERT_EQ(header.committed(), frame->committed);
      if (!header.committed()) return;
      ASSERT_EQ(header.payload_bytes(), frame->number);
      ASSERT_EQ(header.frame_bytes(), frame->bytes);
    }
    ASSERT_EQ(header.skip(), !frame.has_value());
    consumer_.Pass(header);
    ++next_;
  }

  void CheckFreeWordsAreZero() {
    const uint64_t end = scene_.consumer.value + scene_.capacity;
    ASSERT_LE(scene_.claim.value, end);
    for (uint64_t at = scene_.claim.value; at < end; at += 8) {
      ASSERT_EQ(scene_.words[at % scene_.capacity / 8].value, 0);
    }
  }

  Scene scene_;
  std::mt19937_64 random_;
  std::array<Producer<kFramesWrap>, 3> producers_;
  Consumer consumer_;
  std::deque<std::optional<Frame>> frames_;  // nullopt: to skip, at the end.
  std::array<std::optional<size_t>, 3> open_;
  size_t next_ = 0;  // Of frames_, for the consumer.
  uint64_t claims_ = 0;
};

template <bool kFramesWrap>
void RunCrowds() {
  for (const uint64_t capacity : {16, 24, 64, 200}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      Crowd<kFramesWrap> crowd(capacity, seed);
      for (int step = 0; step < 1000; ++step) {
        crowd.Step();
        if (::testing::Test::HasFatalFailure()) {
          FAIL() << capacity << " bytes, seed " << seed << ", step " << step;
        }
      }
    }
  }
}

TEST(MpscProtocol, ACrowdAgreesWithAListOfFramesThatWrap) { RunCrowds<true>(); }
TEST(MpscProtocol, ACrowdAgreesWithAListOfFramesThatDoNot) {
  RunCrowds<false>();
}

// Bugs that others had.

// A consumer position that was rewritten gave reservations that overlap (BPF ring
// buffer, CVE-2024-41009): a position that cannot be true frees nothing.
TEST(MpscProtocolRegression, RewrittenPositionsGrantNoMoreThanTheRing) {
  for (const uint64_t lie : {uint64_t{808}, uint64_t{872}, kMax - 7, kMax - 63,
                             uint64_t{1} << 63, uint64_t{0}, uint64_t{728}}) {
    Scene scene(64, 800);
    auto producer = MakeProducer(scene);
    scene.consumer.value = lie;
    EXPECT_EQ(scene.Claim(producer, 8), std::nullopt) << lie;
    EXPECT_EQ(scene.claim.value, 800);
  }
}

// A shared word that is loaded twice may change in between (XSA-155, bhyve SA-24:17):
// a header is loaded once, and what it said is what is passed.
TEST(MpscProtocolRegression, OneLoadAHeader) {
  Scene scene(64);
  auto producer = MakeProducer(scene);
  Consumer consumer = MakeConsumer(scene);
  ASSERT_EQ(scene.Claim(producer, 24), 0);
  scene.Fill(0, 24, MpscHeader::Message(9, 24));
  scene.words[0].after_load = [&] { scene.words[0].value = kMax; };
  const MpscHeader header = consumer.Look(scene.header_at());
  consumer.Pass(header);
  EXPECT_EQ(scene.words[0].loads, 1);
  EXPECT_EQ(consumer.passed_bytes(), 24);
  EXPECT_EQ(consumer.offset_bytes(), 24);
}

}  // namespace
}  // namespace doppel::internal
