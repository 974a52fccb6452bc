// SPDX-License-Identifier: Apache-2.0
//
// Guarded rings of items whose peer attacks: files, sizes, places, positions and links
// that are not what an honest peer would send.

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/hostile_ring.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::HostileFile;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Producer = GuardedProducer<uint64_t>;
using Consumer = GuardedConsumer<uint64_t>;

constexpr uint64_t kPage = 4096;

TEST(GuardedRingRegression, AnHonestFileMadeByHandIsTaken) {
  HostileFile file({.sides = kWriterHere, .capacity_bytes = kPage});
  file.Seal();
  auto consumer = Consumer::Attach(file.Invite());
  ASSERT_THAT(consumer, IsOk());
  *reinterpret_cast<uint64_t*>(file.items()) = 5;
  file.header().writer.position = 1;
  EXPECT_EQ(consumer->reader()->try_pop(), 5);
}

// A peer that truncates is a SIGBUS (Hyprland #7518, libqb #465), one that writes after
// the check a double fetch (XSA-155, bhyve SA-24:17): both are excluded by the seals, or
// refused.
TEST(GuardedRingRegression, OtherSealsAreRefused) {
  {
    // What a process makes with its first ring, and keeps.
    HostileFile honest({.sides = kWriterHere, .capacity_bytes = kPage});
    honest.Seal();
    EXPECT_THAT(Producer::Create(1), IsOk());
    EXPECT_THAT(Consumer::Attach(honest.Invite()), IsOk());
  }
  const LeakCheck before;
  for (unsigned seals = 0; seals < 32; ++seals) {
    const auto set = static_cast<Seal>(seals);
    if (set == testing::kGuardedSeals) continue;
    HostileFile producers({.sides = kWriterHere, .capacity_bytes = kPage});
    HostileFile consumers({.sides = kReaderHere});
    // A writable mapping keeps kWrite from being set.
    if ((set & Seal::kWrite) != Seal::kNone) continue;
    producers.Seal(set);
    consumers.Seal(set);
    EXPECT_THAT(Consumer::Attach(producers.Invite()),
                StatusIs(absl::StatusCode::kFailedPrecondition))
        << seals;
    auto producer = Producer::Create(1);
    consumers.Answer(*producer->Invite());
    EXPECT_THAT(producer->Accept(),
                StatusIs(absl::StatusCode::kFailedPrecondition))
        << seals;
    EXPECT_FALSE(producer->writer().ok());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(GuardedRingRegression, SizesThatAreNotExactAreRefused) {
  for (const uint64_t claimed : {uint64_t{0}, kPage / 2, kPage, 3 * kPage,
                                 uint64_t{1} << 40, UINT64_MAX - kPage + 1}) {
    HostileFile file({.sides = kWriterHere, .capacity_bytes = 2 * kPage});
    file.header().identity.capacity_bytes = claimed;
    file.Seal();
    EXPECT_THAT(Consumer::Attach(file.Invite()),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << claimed;
  }
  HostileFile file({.sides = kWriterHere, .capacity_bytes = 4 * kPage});
  file.Seal();
  EXPECT_THAT(
      Consumer::Attach(file.Invite(), {.max_capacity_bytes = 3 * kPage}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("more than the 12288 that are allowed")));
}

// The items would stand on the words.
TEST(GuardedRingRegression, PlacesThatOverlapAreRefused) {
  for (const uint64_t offset : {uint64_t{0}, uint64_t{8}, 2 * kPage}) {
    HostileFile file({.sides = kWriterHere, .capacity_bytes = kPage});
    file.header().identity.items_offset_bytes = offset;
    file.Seal();
    EXPECT_THAT(Consumer::Attach(file.Invite()),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << offset;
  }
}

TEST(GuardedRingRegression, DescriptorsThatAreNoMemoryAreRefused) {
  std::array<int, 2> ends = {-1, -1};
  ASSERT_EQ(pipe(ends.data()), 0);
  EXPECT_FALSE(
      Consumer::Attach(RingInvitation(ends[0], {.fd = ends[1]}, 0)).ok());
  EXPECT_FALSE(Consumer::Attach(RingInvitation(-1, {}, 0)).ok());
}

// A number alone, as from /proc: the producer would be sent nothing.
TEST(GuardedRingRegression, AnInvitationWithoutALinkSaysSo) {
  HostileFile file({.sides = kWriterHere, .capacity_bytes = kPage});
  file.Seal();
  EXPECT_THAT(Consumer::Attach(RingInvitation(dup(file.memfd().fd()), {}, 0)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("without a link")));
}

TEST(GuardedRingRegression, AProducerThatLiesPoisonsTheReader) {
  for (const uint64_t lie :
       {uint64_t{kPage / 8 + 1}, uint64_t{1} << 63, UINT64_MAX}) {
    HostileFile file({.sides = kWriterHere, .capacity_bytes = kPage});
    file.Seal();
    auto consumer = Consumer::Attach(file.Invite());
    ASSERT_THAT(consumer, IsOk());
    auto reader = consumer->reader();
    file.header().writer.position = lie;
    EXPECT_EQ(reader->try_pop(), std::nullopt);
    EXPECT_THAT(reader->status(), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_EQ(reader->wait(1), RingWait::kDataLoss);
    file.header().writer.position = 1;
    EXPECT_EQ(reader->try_pop(), std::nullopt) << "poisoned for good";
    EXPECT_EQ(reader->arm(), RingWait::kDataLoss);
  }
}

// A consumer position that was rewritten gave reservations that overlap (BPF ring buffer,
// CVE-2024-41009).
TEST(GuardedRingRegression, AConsumerThatLiesPoisonsTheWriter) {
  for (const uint64_t lie :
       {uint64_t{1}, uint64_t{1} << 63, UINT64_MAX - kPage}) {
    HostileFile file({.sides = kReaderHere});
    file.Seal();
    auto producer = Producer::Create(1);
    file.Answer(*producer->Invite());
    ASSERT_THAT(producer->Accept(), IsOk());
    auto writer = producer->writer();
    ASSERT_THAT(writer, IsOk());
    file.header().reader.position = lie;
    EXPECT_FALSE(writer->try_push(1));
    EXPECT_THAT(writer->status(), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_EQ(writer->wait(1), RingWait::kDataLoss);
    EXPECT_TRUE(writer->reserve(1).empty());
  }
}

// A peer that rings without end, or not at all, or fills the link: nothing hangs.
TEST(GuardedRingRegression, ALinkThatIsAbusedHangsNobody) {
  HostileFile file({.sides = kWriterHere, .capacity_bytes = kPage});
  file.Seal();
  auto consumer = Consumer::Attach(file.Invite());
  ASSERT_THAT(consumer, IsOk());
  auto reader = consumer->reader();
  const std::array<char, 4096> noise = {};
  while (send(file.link(), noise.data(), noise.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(reader->wait(1, {.deadline = absl::Now() + absl::Milliseconds(20)}),
            RingWait::kDeadlineExceeded);
  file.header().writer.wish = 1;  // And wants to be woken for nothing.
  file.header().writer.wake_by = WakeBy::kEvent;
  file.header().writer.position = kPage / 8;
  for (uint64_t i = 0; i < kPage / 8; ++i) {
    file.header().writer.wish = 2 * i + 3;
    EXPECT_TRUE(reader->try_pop().has_value());
  }
  EXPECT_THAT(reader->status(), IsOk());
}

}  // namespace
}  // namespace doppel
