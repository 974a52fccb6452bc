// SPDX-License-Identifier: Apache-2.0
//
// A writer that lies: bytes that are no frames, lengths that cannot be true, and
// lengths that change while the reader looks.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::Scaled;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr size_t kHeaderBytes = sizeof(MessageHeader);

SpscRing<> MakeRing() {
  absl::StatusOr<SpscRing<>> ring = SpscRing<>::Create(1);
  EXPECT_THAT(ring, IsOk());
  return *std::move(ring);
}

// A header, and so many bytes after it.
std::vector<std::byte> Raw(MessageHeader header, size_t bytes_after) {
  std::vector<std::byte> raw(kHeaderBytes + bytes_after, std::byte{0x5a});
  std::memcpy(raw.data(), &header, kHeaderBytes);
  return raw;
}

// Publishes bytes without asking whether they are frames.
void Lie(SpscRing<>& ring, std::span<const std::byte> raw) {
  ASSERT_EQ(ring.writer().push(raw), raw.size());
}

void ExpectPoisoned(SpscRing<>& ring, MessageReader& reader) {
  const auto is_poisoned = [&] {
    std::vector<std::byte> buffer(ring.capacity());
    EXPECT_FALSE(reader.next().has_value());
    EXPECT_EQ(reader.pop(buffer), std::nullopt);
    EXPECT_EQ(reader.wait(), RingWait::kDataLoss);
    EXPECT_THAT(reader.status(), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(reader.event(), IsOk());
    EXPECT_EQ(reader.arm(), RingWait::kDataLoss);
  };
  is_poisoned();
  // What comes then is not believed either.
  Lie(ring, Raw({.payload_bytes = 0}, 0));
  is_poisoned();
  MessageReader moved = std::move(reader);
  EXPECT_FALSE(moved.next().has_value());
  EXPECT_THAT(moved.status(), StatusIs(absl::StatusCode::kDataLoss));
}

struct Frame {
  MessageHeader header;
  size_t bytes_after;
};

const std::vector<Frame>& BadFrames() {
  static const auto* frames = new std::vector<Frame>{
      {{.payload_bytes = 0xffff'ffff}, 0},
      {{.payload_bytes = 0xffff'ffff}, 64},
      {{.payload_bytes = 0xffff'fff8}, 8},
      {{.payload_bytes = 0xffff'fff1}, 8},
      {{.payload_bytes = 0x8000'0000}, 64},
      {{.payload_bytes = 0x7fff'ffff}, 64},
      {{.payload_bytes = 1}, 0},
      {{.payload_bytes = 1}, 7},
      {{.payload_bytes = 9}, 8},
      {{.payload_bytes = 65}, 64},
      {{.payload_bytes = 4096}, 64},
      {{.payload_bytes = 4096 - kHeaderBytes}, 64},
      {{.payload_bytes = 0, .reserved = 1}, 0},
      {{.payload_bytes = 8, .reserved = 1}, 8},
      {{.payload_bytes = 8, .reserved = 0x8000'0000}, 8},
  };
  return *frames;
}

TEST(MessageCorrupt, AFrameThatCannotBeTruePoisons) {
  for (const Frame& bad : BadFrames()) {
    SCOPED_TRACE(absl::StrCat("length ", bad.header.payload_bytes, ", ",
                              bad.bytes_after, " after it"));
    SpscRing<> ring = MakeRing();
    MessageReader reader(ring.reader());
    Lie(ring, Raw(bad.header, bad.bytes_after));
    ExpectPoisoned(ring, reader);
  }
}

// What was shown before stays usable, and goes back to the writer.
TEST(MessageCorrupt, WhatCameBeforeTheLieIsShown) {
  for (const Frame& bad : BadFrames()) {
    SpscRing<> ring = MakeRing();
    MessageReader reader(ring.reader());
    for (int i = 0; i < 2; ++i) Lie(ring, Raw({.payload_bytes = 13}, 16));
    Lie(ring, Raw(bad.header, bad.bytes_after));
    const size_t in_ring = ring.size();
    for (int i = 0; i < 2; ++i) {
      const auto message = reader.next();
      ASSERT_TRUE(message.has_value());
      EXPECT_EQ(message->size(), 13);
    }
    EXPECT_THAT(reader.status(), IsOk());
    EXPECT_FALSE(reader.next().has_value());
    EXPECT_THAT(
        reader.status(),
        StatusIs(absl::StatusCode::kDataLoss,
                 HasSubstr(absl::StrCat(bad.header.payload_bytes, " bytes"))));
    reader.release();
    EXPECT_EQ(ring.size(), in_ring - 48);
    ExpectPoisoned(ring, reader);
  }
}

TEST(MessageCorrupt, TheLargestFrameThatMayBeTrueIs) {
  SpscRing<> ring = MakeRing();
  MessageReader reader(ring.reader());
  const auto most = static_cast<uint32_t>(ring.capacity() - kHeaderBytes);
  Lie(ring, Raw({.payload_bytes = most}, most));
  EXPECT_EQ(reader.next()->size(), most);
  reader.release();
  Lie(ring, Raw({.payload_bytes = most + 1}, most));
  EXPECT_FALSE(reader.next().has_value());
  EXPECT_THAT(reader.status(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(MessageCorrupt, APartOfAHeaderPoisons) {
  for (size_t bytes = 1; bytes < kHeaderBytes; ++bytes) {
    for (const bool waits : {false, true}) {
      SpscRing<> ring = MakeRing();
      MessageReader reader(ring.reader());
      Lie(ring, Raw({.payload_bytes = 3}, 8));
      Lie(ring, std::vector<std::byte>(bytes));
      EXPECT_EQ(reader.next()->size(), 3);
      if (waits) {
        EXPECT_EQ(reader.wait(), RingWait::kDataLoss);
      }
      ExpectPoisoned(ring, reader);
    }
  }
}

// The header is published first, and what would make it true later.
TEST(MessageCorrupt, APartOfAFrameIsALieAlsoIfTheRestFollows) {
  SpscRing<> ring = MakeRing();
  MessageReader reader(ring.reader());
  Lie(ring, Raw({.payload_bytes = 16}, 8));
  EXPECT_EQ(reader.wait(), RingWait::kDataLoss);
  Lie(ring, std::vector<std::byte>(8));
  ExpectPoisoned(ring, reader);
}

TEST(MessageCorrupt, ARingOfOtherThingsIsNotRead) {
  SpscRing<> ring = MakeRing();
  for (size_t bytes = 1; bytes < kHeaderBytes; ++bytes) {
    ASSERT_TRUE(ring.writer().try_push(std::byte{0}));
    ASSERT_TRUE(ring.reader().try_pop().has_value());
    MessageReader reader(ring.reader());
    EXPECT_THAT(reader.status(), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_EQ(reader.wait(), RingWait::kDataLoss);
    Lie(ring, Raw({.payload_bytes = 0}, 0));
    EXPECT_FALSE(reader.next().has_value());
  }
}

// A length that the reader has seen is not loaded a second time.
TEST(MessageCorrupt, ALengthIsLoadedOnce) {
  for (const uint32_t later : {0U, 7U, 25U, 4096U, 0xffff'ffffU}) {
    for (const bool by_wait : {false, true}) {
      SpscRing<> ring = MakeRing();
      auto writer = ring.writer();
      MessageReader reader(ring.reader());
      const std::span<std::byte> frame = writer.reserve(32);
      std::ranges::copy(Raw({.payload_bytes = 24}, 24), frame.begin());
      writer.commit(32);
      const auto next = Raw({.payload_bytes = 5}, 8);
      ASSERT_EQ(writer.push(next), next.size());
      if (by_wait) {
        ASSERT_EQ(reader.wait(), RingWait::kReady);
      } else {
        ASSERT_EQ(reader.pop({}), 24);
      }
      std::memcpy(frame.data(), &later, sizeof(later));
      std::vector<std::byte> buffer(24);
      EXPECT_EQ(reader.pop(std::span(buffer).first(23)), 24);
      EXPECT_EQ(reader.wait(), RingWait::kReady);
      EXPECT_EQ(reader.pop(buffer), 24);
      EXPECT_EQ(reader.next()->size(), 5);
      EXPECT_FALSE(reader.next().has_value());
      EXPECT_THAT(reader.status(), IsOk());
    }
  }
}

// Another thread stores lengths of all kinds over the headers while they are read.
// Whatever the reader makes of them stays within what was published.
TEST(MessageCorrupt, LengthsThatChangeUnderTheReader) {
  SpscRing<> ring = MakeRing();
  const size_t published = ring.capacity() - 64;
  auto writer = ring.writer();
  const std::span<std::byte> bytes = writer.reserve(published);
  ASSERT_EQ(bytes.size(), published);
  std::ranges::fill(bytes, std::byte{0});
  writer.commit(published);
  std::atomic<bool> stop{false};
  std::thread liar([&] {
    std::mt19937_64 random(1);
    while (!stop.load(std::memory_order_relaxed)) {
      const size_t word = random() % (published / 8);
      const uint64_t kind = random() % 64;
      const uint64_t value = kind == 0   ? random()
                             : kind == 1 ? random() % (2 * published)
                             : kind < 8  ? published - 8 * word - 8
                                         : random() % 64;
      std::atomic_ref<uint64_t>(reinterpret_cast<uint64_t*>(bytes.data())[word])
          .store(value, std::memory_order_relaxed);
    }
  });
  const int64_t rounds = Scaled(5'000, 1'000'000);
  int64_t poisoned = 0;
  for (int64_t round = 0; round < rounds || poisoned == 0; ++round) {
    MessageReader reader(ring.reader());
    size_t shown = 0;
    const std::byte* begin = nullptr;
    while (const auto message = reader.next()) {
      if (begin == nullptr) begin = message->data() - kHeaderBytes;
      ASSERT_EQ(message->data(), begin + shown + kHeaderBytes);
      shown += MessageFrameBytes(message->size());
      ASSERT_LE(shown, published);
    }
    poisoned += reader.status().ok() ? 0 : 1;
    ASSERT_TRUE(!reader.status().ok() || shown == published);
    // Nothing was released: the next handle is shown the same bytes.
  }
  stop.store(true, std::memory_order_relaxed);
  liar.join();
  EXPECT_GT(poisoned, 0);
}

// What a parser that knows no ring makes of the bytes: the payloads, and whether they
// end in a lie.
std::pair<std::vector<std::span<const std::byte>>, bool> Parse(
    std::span<const std::byte> bytes) {
  std::vector<std::span<const std::byte>> payloads;
  while (!bytes.empty()) {
    if (bytes.size() < kHeaderBytes) return {payloads, true};
    MessageHeader header;
    std::memcpy(&header, bytes.data(), kHeaderBytes);
    const uint64_t frame = MessageFrameBytes(header.payload_bytes);
    if (header.reserved != 0 || frame > bytes.size()) return {payloads, true};
    payloads.push_back(bytes.subspan(kHeaderBytes, header.payload_bytes));
    bytes = bytes.subspan(frame);
  }
  return {payloads, false};
}

TEST(MessageCorrupt, RandomBytesAreReadAsTheLayoutSays) {
  const int64_t runs = Scaled(2'000, 500'000);
  SpscRing<> ring = MakeRing();
  int64_t lies = 0;
  for (int64_t seed = 0; seed < runs; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    std::vector<uint64_t> words(random() % 60);
    for (uint64_t& word : words) {
      word = random() % 32 == 0 ? random() : random() % 24;
    }
    std::span<const std::byte> raw = std::as_bytes(std::span(words));
    if (random() % 4 == 0) raw = raw.first(raw.size() - raw.size() % 7);
    Lie(ring, raw);
    const auto [payloads, lie] = Parse(raw);
    {
      MessageReader reader(ring.reader());
      for (const std::span<const std::byte> payload : payloads) {
        const auto message = reader.next();
        ASSERT_TRUE(message.has_value());
        ASSERT_TRUE(std::ranges::equal(*message, payload));
        if (random() % 4 == 0) reader.release();
      }
      ASSERT_FALSE(reader.next().has_value());
      ASSERT_EQ(reader.status().ok(), !lie);
      lies += lie ? 1 : 0;
      reader.release();
    }
    // To a multiple of 8 again, so that all is wrapped some time.
    auto writer = ring.writer();
    auto reader = ring.reader();
    const size_t pad = (8 - raw.size() % 8) % 8;
    ASSERT_EQ(writer.push(std::vector<std::byte>(pad)), pad);
    reader.consume(reader.size());
  }
  EXPECT_GT(lies, runs / 10);
  EXPECT_LT(lies, runs);
}

}  // namespace
}  // namespace doppel
