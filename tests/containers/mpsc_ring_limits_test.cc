// SPDX-License-Identifier: Apache-2.0
//
// What MpscRing refuses: misuse, and sizes that no ring or message can have.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/tests/containers/mpsc_ring_support.h"
#include "doppel/tests/support/checked_build.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Bytes;
using ::doppel::testing::MakeMpscRing;
using ::doppel::testing::Next;
using ::doppel::testing::Skip;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(MpscRing, ASecondConsumerIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  MpscRing ring = MakeMpscRing();
  auto consumer = ring.consumer();
  EXPECT_DEATH((void)ring.consumer(), "one consumer at a time");
}

TEST(MpscRing, MisuseOfReservationsIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  EXPECT_DEATH(producer.commit(0), "commit without reserve");
  producer.abort();  // Of nothing.
  ASSERT_TRUE(producer.reserve(8));
  EXPECT_DEATH((void)producer.reserve(8), "before reserve");
  EXPECT_DEATH(producer.commit(9), "more than was reserved");
  EXPECT_DEATH(producer.commit(kMax), "more than was reserved");
}

TEST(MpscRing, HandlesThatOutliveTheirRingAreRefused) {
  DOPPEL_SKIP_UNCHECKED();
  EXPECT_DEATH(
      {
        std::optional<MpscRing> ring(MakeMpscRing());
        auto producer = ring->producer();
        ring.reset();
      },
      "Producer outlives");
  EXPECT_DEATH(
      {
        MpscRing ring = MakeMpscRing();
        auto consumer = ring.consumer();
        ring = MakeMpscRing();
      },
      "Consumer outlives");
}

// Bugs that others had.

// A reservation larger than the ring was granted (BPF ring buffer, CVE-2021-3489).
TEST(MpscRingRegression, ReservationLargerThanTheRing) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  const uint64_t longest = producer.max_message_bytes();
  EXPECT_EQ(longest, ring.max_message_bytes());
  for (const uint64_t bytes : {longest + 1, longest + 8, ring.capacity_bytes(),
                               2 * ring.capacity_bytes(), uint64_t{1} << 32,
                               (uint64_t{1} << 32) - 8}) {
    const MessageReservation space = producer.reserve(bytes);
    EXPECT_EQ(space.room, RingRoom::kTooBig) << bytes;
    EXPECT_TRUE(space.payload.empty());
  }
  EXPECT_TRUE(ring.empty()) << "what is too big claims nothing";
  EXPECT_TRUE(producer.reserve(longest));
  // Too big is told apart from full, in a full ring too.
  auto other = ring.producer();
  while (other.push({}) == RingRoom::kRoom) {
  }
  EXPECT_EQ(other.reserve(longest).room, RingRoom::kFull);
  EXPECT_EQ(other.reserve(longest + 1).room, RingRoom::kTooBig);
}

// The length with its header overflowed (BPF ring buffer, CVE-2022-49030).
TEST(MpscRingRegression, SizesThatOverflow) {
  for (const uint64_t bytes : {kMax, kMax - 1, kMax / 2 + 1, kMax / 2}) {
    EXPECT_THAT(MpscRing::Create(bytes),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("overflow")));
  }
  EXPECT_THAT(
      MpscRing::Create(kMax / 32),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("machine has")));
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  for (uint64_t below = 0; below < 40; ++below) {
    EXPECT_EQ(producer.reserve(kMax - below).room, RingRoom::kTooBig);
    EXPECT_EQ(producer.reserve((kMax >> 1) - below).room, RingRoom::kTooBig);
    EXPECT_EQ(producer.reserve((uint64_t{1} << 32) - below).room,
              RingRoom::kTooBig);
  }
  EXPECT_TRUE(ring.empty());
}

TEST(MpscRingRegression, CapacityZero) {
  EXPECT_THAT(MpscRing::Create(0), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("capacity 0")));
}

// The check of the free length ran below zero (HAProxy's ring): at each fill, what is
// free is granted, and 8 bytes more is refused.
TEST(MpscRingRegression, FreeNeverRunsBelowZero) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto other = ring.producer();
  auto consumer = ring.consumer();
  const uint64_t capacity = ring.capacity_bytes();
  for (uint64_t used = 8; used <= capacity; used += 8) {
    // Empty messages, so that the memory's end is met in all ways.
    for (uint64_t i = 0; i < used; i += 8) {
      ASSERT_EQ(producer.push({}), RingRoom::kRoom);
    }
    const uint64_t left = capacity - used;
    if (left < capacity / 2) {
      ASSERT_EQ(other.reserve(left).room, RingRoom::kFull) << used;
      ASSERT_EQ(ring.size_bytes(), used);
    }
    while (consumer.next()) {
    }
    consumer.release();
    ASSERT_TRUE(ring.empty());
  }
}

// The path that wrapped returned the wrong place (Aeron #2015).
TEST(MpscRingRegression, EveryLengthAtEveryPlaceBeforeTheWrap) {
  for (uint64_t before = 8; before <= 48; before += 8) {
    for (uint64_t bytes = 0; bytes <= 48; ++bytes) {
      MpscRing ring = MakeMpscRing();
      Skip(ring, ring.capacity_bytes() - before);
      auto producer = ring.producer();
      auto consumer = ring.consumer();
      const std::string text(bytes, 't');
      ASSERT_EQ(producer.push(Bytes(text)), RingRoom::kRoom);
      ASSERT_EQ(producer.push(Bytes("next")), RingRoom::kRoom);
      ASSERT_EQ(Next(consumer), text);
      ASSERT_EQ(Next(consumer), "next");
      consumer.release();
      ASSERT_TRUE(ring.empty());
      ASSERT_EQ(Next(consumer), "none");
    }
  }
}

// Compilers take the two views for different objects: one thread that writes by one
// and reads by the other must still see what it wrote.
TEST(MpscRingRegression, OneThreadOnBothSidesSeesItsOwnWrites) {
  MpscRing ring = MakeMpscRing();
  auto producer = ring.producer();
  auto consumer = ring.consumer();
  for (uint64_t round = 0; round < 10'000; ++round) {
    const std::array<uint64_t, 5> numbers = {round, round + 1, round + 2,
                                             round + 3, round + 4};
    ASSERT_EQ(producer.push(std::as_bytes(std::span(numbers))),
              RingRoom::kRoom);
    std::array<uint64_t, 5> got{};
    ASSERT_EQ(consumer.pop(std::as_writable_bytes(std::span(got))), 40);
    ASSERT_EQ(got, numbers);
  }
}

}  // namespace
}  // namespace doppel
