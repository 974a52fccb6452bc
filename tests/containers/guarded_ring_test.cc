// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/guarded_ring.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/tests/support/checked_build.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hostile_ring.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "doppel/tests/support/waiting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::DiedOf;
using ::doppel::testing::Exited;
using ::doppel::testing::HostileFile;
using ::doppel::testing::IsOk;
using ::doppel::testing::kSleepAtOnce;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Producer = GuardedProducer<uint64_t>;
using Consumer = GuardedConsumer<uint64_t>;

constexpr uint64_t kPage = 4096;

// A ring whose two sides are in this process.
struct Pair {
  Pair() : Pair(1) {}
  explicit Pair(size_t capacity, const GuardedProducerOptions& options = {})
      : producer(Producer::Create(capacity, options)),
        consumer(Consumer::Attach(*producer->Invite())) {
    EXPECT_THAT(consumer, IsOk());
    EXPECT_THAT(producer->Accept(), IsOk());
  }
  absl::StatusOr<Producer> producer;
  absl::StatusOr<Consumer> consumer;
};

TEST(GuardedRing, ItemsPass) {
  Pair pair;
  auto writer = pair.producer->writer();
  auto reader = pair.consumer->reader();
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ(pair.consumer->capacity(), pair.producer->capacity());
  uint64_t expected = 0;
  for (uint64_t i = 0; i < 5 * pair.producer->capacity(); ++i) {
    while (!writer->try_push(i)) {
      const std::span<const uint64_t> items = reader->peek();
      for (const uint64_t item : items) ASSERT_EQ(item, expected++);
      reader->consume(items.size());
    }
  }
  EXPECT_EQ(pair.producer->statistics().popped, expected);
  EXPECT_EQ(pair.consumer->statistics().pushed, 5 * pair.producer->capacity());
}

TEST(GuardedRing, GivesEverythingBack) {
  { Pair first; }
  const LeakCheck before;
  {
    Pair pair(100'000);
    Producer moved = *std::move(pair.producer);
    EXPECT_FALSE(before.Unchanged());
  }
  EXPECT_TRUE(before.Unchanged());
}

TEST(GuardedRing, OnHugePages) {
  constexpr uint64_t kHugeBytes = uint64_t{2} << 20;
  if (testing::FreeHugetlbPages(kHugeBytes) < 4) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  Pair pair(1, {.page_size = PageSize::Huge2MiB()});
  EXPECT_EQ(pair.producer->memory_bytes(), kHugeBytes);
  EXPECT_EQ(pair.consumer->memory_bytes(), kHugeBytes);
  ASSERT_TRUE(pair.producer->writer()->try_push(3));
  EXPECT_EQ(pair.consumer->reader()->try_pop(), 3);
  EXPECT_NE(mmap(nullptr, kHugeBytes, PROT_READ, MAP_SHARED,
                 pair.producer->memfd().fd(), 0),
            MAP_FAILED);
  EXPECT_EQ(mmap(nullptr, kHugeBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                 pair.producer->memfd().fd(), 0),
            MAP_FAILED);
  EXPECT_NE(fallocate(pair.producer->memfd().fd(),
                      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                      static_cast<off_t>(kHugeBytes)),
            0);
}

TEST(GuardedRing, PagesThatThereAreNotAreAnError) {
  // No machine has them beside those of 2 MiB.
  const absl::StatusOr<PageSize> page_size = PageSize::Huge(64 << 10);
  ASSERT_THAT(page_size, IsOk());
  const LeakCheck before;
  EXPECT_FALSE(Producer::Create(1, {.page_size = *page_size}).ok());
  EXPECT_TRUE(before.Unchanged());
}

TEST(GuardedRing, ItsOwnFileHasNoTransparentPages) {
  EXPECT_THAT(
      Producer::Create(1, {.page_size = PageSize::Transparent()}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("BestAvailable")));
  EXPECT_THAT(Producer::Create(1, {.page_size = PageSize::BestAvailable()}),
              IsOk());
}

// Bytes that this process has locked into memory (proc(5)).
uint64_t LockedBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("VmLck:")) continue;
    uint64_t kibibytes = 0;
    std::istringstream(line.substr(6)) >> kibibytes;
    return kibibytes << 10;
  }
  return 0;
}

// Both views of the items, its own header and the other's, on each side.
TEST(GuardedRing, EitherSideLocksWhatItMaps) {
  const uint64_t before = LockedBytes();
  absl::StatusOr<Producer> producer = Producer::Create(1, {.lock = true});
  ASSERT_THAT(producer, IsOk());
  const uint64_t views = internal::Mirror::kMaxViews;
  EXPECT_EQ(LockedBytes() - before, (views + 1) * kPage);
  absl::StatusOr<Consumer> consumer =
      Consumer::Attach(*producer->Invite(), {.lock = true});
  ASSERT_THAT(consumer, IsOk());
  EXPECT_EQ(LockedBytes() - before, (2 * views + 3) * kPage);
  ASSERT_THAT(producer->Accept(), IsOk());
  EXPECT_EQ(LockedBytes() - before, (2 * views + 4) * kPage);
  consumer = absl::CancelledError();
  producer = absl::CancelledError();
  EXPECT_EQ(LockedBytes(), before);
}

// Nobody but its maker can write to a file, resize it, or punch holes into it.
TEST(GuardedRing, FilesAreSealed) {
  Pair pair;
  for (const Memfd* memfd :
       {&pair.producer->memfd(), &pair.consumer->memfd()}) {
    const int fd = memfd->fd();
    EXPECT_EQ(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
              MAP_FAILED);
    EXPECT_NE(ftruncate(fd, 0), 0);
    EXPECT_NE(ftruncate(fd, 1 << 20), 0);
    EXPECT_NE(pwrite(fd, "x", 1, 0), 1);
    EXPECT_NE(
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage), 0);
  }
}

TEST(GuardedRing, TheConsumerCannotWriteToItems) {
  Pair pair;
  auto writer = pair.producer->writer();
  auto reader = pair.consumer->reader();
  ASSERT_TRUE(writer->try_push(1));
  const uint64_t* item = reader->peek().data();
  EXPECT_TRUE(DiedOf(testing::RunInChild([&] {
                       (void)std::signal(SIGSEGV, SIG_DFL);
                       *const_cast<volatile uint64_t*>(item) = 2;
                       return 0;
                     }),
                     SIGSEGV));
}

TEST(GuardedRing, EachStepHasItsTime) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  EXPECT_THAT(producer->writer(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("Accept first")));
  EXPECT_THAT(producer->Accept(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("Invite first")));
  absl::StatusOr<RingInvitation> invitation = producer->Invite();
  ASSERT_THAT(invitation, IsOk());
  EXPECT_THAT(producer->Invite(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(producer->Accept(absl::Now() + absl::Milliseconds(5)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  invitation = absl::CancelledError();
  EXPECT_THAT(producer->Accept(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(producer->Accept(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("Invite first")));
}

TEST(GuardedRing, AConsumerLearnsThatTheProducerIsGone) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  absl::StatusOr<RingInvitation> invitation = producer->Invite();
  ASSERT_THAT(invitation, IsOk());
  producer = absl::CancelledError();
  EXPECT_THAT(Consumer::Attach(*std::move(invitation)),
              StatusIs(absl::StatusCode::kUnavailable));
}

// Each consumer begins behind what the one before had finished, whether it had handed it
// back or not; what it had only seen is read again.
TEST(GuardedRing, ConsumersComeOneAfterAnother) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  const uint64_t capacity = producer->capacity();
  uint64_t pushed = 0;
  uint64_t expected = 0;
  for (uint64_t life = 0; life < 20; ++life) {
    absl::StatusOr<RingInvitation> invitation = producer->Invite();
    ASSERT_THAT(invitation, IsOk());
    auto consumer = Consumer::Attach(*std::move(invitation));
    ASSERT_THAT(consumer, IsOk());
    EXPECT_THAT(producer->Invite(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    ASSERT_THAT(producer->Accept(), IsOk());
    {
      auto writer = producer->writer();
      auto reader = consumer->reader();
      ASSERT_THAT(writer, IsOk());
      ASSERT_THAT(reader, IsOk());
      while (writer->try_push(pushed)) ++pushed;
      EXPECT_EQ(pushed - expected, capacity) << life;
      const uint64_t taken = capacity * life / 20;
      for (const uint64_t item : reader->peek(taken).first(taken)) {
        ASSERT_EQ(item, expected++);
      }
      reader->finish(taken);
      if (life % 2 == 0) reader->release();
      reader = absl::CancelledError();
      consumer = absl::CancelledError();
      EXPECT_EQ(writer->wait(capacity), RingWait::kPeerGone);
      EXPECT_THAT(producer->Invite(),
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           HasSubstr("end it first")));
    }
  }
}

// What a consumer finished that came and went before Accept was read again.
TEST(GuardedRingRegression,
     AConsumerThatWasNotAcceptedHasFinishedWhatItFinished) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  {
    auto first = Consumer::Attach(*producer->Invite());
    ASSERT_THAT(first, IsOk());
    ASSERT_THAT(producer->Accept(), IsOk());
    auto writer = producer->writer();
    for (uint64_t i = 0; i < 8; ++i) ASSERT_TRUE(writer->try_push(i));
  }
  {
    auto second = Consumer::Attach(*producer->Invite());
    ASSERT_THAT(second, IsOk());
    auto reader = second->reader();
    for (uint64_t i = 0; i < 5; ++i) ASSERT_EQ(reader->try_pop(), i);
  }
  auto third = Consumer::Attach(*producer->Invite());
  ASSERT_THAT(third, IsOk());
  EXPECT_EQ(third->reader()->try_pop(), 5);
}

TEST(GuardedRing, AForkedChildInvitesNobody) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  EXPECT_TRUE(Exited(testing::RunInChild([&] {
                       const auto refused =
                           absl::StatusCode::kFailedPrecondition;
                       return producer->Invite().status().code() == refused &&
                                      producer->Accept().code() == refused
                                  ? 0
                                  : 1;
                     }),
                     0));
}

// A consumer whose words cannot be true takes no item from the one that comes after.
TEST(GuardedRing, AfterAConsumerThatLiedTheNextBeginsWhereItMay) {
  auto producer = Producer::Create(1);
  ASSERT_THAT(producer, IsOk());
  const uint64_t capacity = producer->capacity();
  for (const uint64_t lie : {uint64_t{1} << 63, ~uint64_t{0}, capacity + 1}) {
    {
      HostileFile file({.sides = kReaderHere});
      file.Seal();
      file.header().reader.finished = lie;
      absl::StatusOr<RingInvitation> invitation = producer->Invite();
      ASSERT_THAT(invitation, IsOk());
      file.Answer(*std::move(invitation));
      ASSERT_THAT(producer->Accept(), IsOk());
      auto writer = producer->writer();
      ASSERT_THAT(writer, IsOk());
      while (writer->try_push(7)) {
      }
    }
    auto consumer = Consumer::Attach(*producer->Invite());
    ASSERT_THAT(consumer, IsOk());
    ASSERT_THAT(producer->Accept(), IsOk());
    EXPECT_EQ(consumer->reader()->size(), capacity);
  }
}

TEST(GuardedRing, ProcessesWakeEachOtherAndNoticeTheEnd) {
  constexpr uint64_t kItems = 20'000;
  std::array<int, 2> sockets = {-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  Child child([&] {
    close(sockets[0]);
    auto producer = Producer::Create(1);
    if (!producer.ok() || !producer->Invite()->Send(sockets[1]).ok()) return 1;
    if (!producer->Accept(absl::Now() + absl::Seconds(60)).ok()) return 2;
    auto writer = producer->writer();
    for (uint64_t i = 0; i < kItems; ++i) {
      while (!writer->try_push(i)) {
        if (writer->wait(1, kSleepAtOnce) != RingWait::kReady) return 3;
      }
    }
    return 0;
  });
  close(sockets[1]);
  absl::StatusOr<RingInvitation> invitation =
      RingInvitation::Receive(sockets[0]);
  ASSERT_THAT(invitation, IsOk());
  auto consumer = Consumer::Attach(*std::move(invitation));
  ASSERT_THAT(consumer, IsOk());
  auto reader = consumer->reader();
  uint64_t expected = 0;
  while (reader->wait(1, kSleepAtOnce) == RingWait::kReady) {
    ASSERT_EQ(reader->try_pop(), expected++);
  }
  EXPECT_EQ(expected, kItems);
  EXPECT_EQ(reader->wait(), RingWait::kPeerGone);
  EXPECT_TRUE(consumer->peer_gone());
  EXPECT_TRUE(Exited(child.Wait(), 0));
  close(sockets[0]);
}

TEST(GuardedRing, MisuseIsRefused) {
  DOPPEL_SKIP_UNCHECKED();
  // In the child, so that the ring is its own.
  EXPECT_DEATH(
      {
        Pair own;
        auto writer = own.producer->writer();
        own.producer = absl::CancelledError();
      },
      "handles end before their ring");
  EXPECT_DEATH(
      {
        Pair own;
        auto reader = own.consumer->reader();
        *own.consumer = *std::move(Pair().consumer);
      },
      "handles end before their ring");
}

}  // namespace
}  // namespace doppel
