// SPDX-License-Identifier: Apache-2.0
//
// One side of a shared ring is killed at every instruction of what it does for those who
// wait: it asks for its event, arms it, wakes the other, closes. The other has
// armed its event. Each time the event tells it; what was handed over is there once and
// whole; and the next two that wait are each told by the other.

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/shared_world.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::ExpectItem;
using ::doppel::testing::IsReadable;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEachInstruction;
using ::doppel::testing::Killed;
using ::doppel::testing::Link;
using ::doppel::testing::Numbered;
using ::doppel::testing::SharedWorld;

using World = SharedWorld<Item>;
using Ring = World::Ring;

// None is waited for in vain: a process that ended has hung up.
constexpr absl::Duration kLong = absl::Seconds(60);

bool IsEnd(RingWait how) {
  return how == RingWait::kPeerGone || how == RingWait::kClosed;
}

void Stage(RingWriter<Item>& writer, uint64_t from, uint64_t n) {
  for (uint64_t i = from; i < from + n; ++i) {
    writer.reserve(1)[0] = Numbered(i);
    writer.stage(1);
  }
}

void PopAll(RingReader<Item>& reader, uint64_t& read) {
  for (std::optional<Item> item; (item = reader.try_pop()).has_value();) {
    ExpectItem(*item, read++);
  }
}

// --- The writer is killed. ---

struct WriterOperation {
  const char* name;
  std::function<void(RingWriter<Item>&, uint64_t next)> operate;
  uint64_t hands_over;  // Items: all of them or none.
};

const WriterOperation kWriterOperations[] = {
    {"event", [](auto& writer, uint64_t) { (void)writer.event(); }, 0},
    {"arm",
     [](auto& writer, uint64_t next) {
       Stage(writer, next, 2);
       writer.arm(writer.capacity());
     },
     2},
    {"arm for what is there",
     [](auto& writer, uint64_t next) {
       Stage(writer, next, 2);
       writer.arm(1);
     },
     2},
    {"push",
     [](auto& writer, uint64_t next) { writer.try_push(Numbered(next)); }, 1},
    {"close", [](auto& writer, uint64_t) { writer.close(); }, 0},
};

// A new writer and the survivor have each other told.
void ReaderAndSuccessor(World& world, RingReader<Item>& reader, int event,
                        uint64_t& read) {
  Ring ring = world.Succeed();
  absl::StatusOr<RingWriter<Item>> writer = ring.writer();
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ(world.words().writer.wish, 0) << "the dead one's";
  const absl::StatusOr<int> its_event = writer->event();
  ASSERT_TRUE(its_event.ok()) << its_event.status();
  ASSERT_EQ(reader.arm(1), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(event));
  ASSERT_TRUE(writer->try_push(Numbered(read)));
  ASSERT_TRUE(IsReadable(event, kLong));
  ASSERT_EQ(reader.arm(1), RingWait::kReady);
  ASSERT_EQ(writer->arm(writer->capacity()), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*its_event));
  PopAll(reader, read);
  ASSERT_TRUE(IsReadable(*its_event, kLong));
  ASSERT_EQ(writer->arm(writer->capacity()), RingWait::kReady);
  ASSERT_EQ(reader.arm(1), RingWait::kArmed);
  writer->close();
  ASSERT_TRUE(IsReadable(event, kLong));
  ASSERT_EQ(reader.arm(1), RingWait::kClosed);
  writer = absl::CancelledError();
  ASSERT_TRUE(ring.writer().ok()) << "opens its side again";
}

TEST(AtEachInstructionOfWaiting, OfAWriter) {
  for (const WriterOperation& operation : kWriterOperations) {
    SCOPED_TRACE(operation.name);
    World world(Link::kSocket);
    absl::StatusOr<RingReader<Item>> reader = world.ring().reader();
    ASSERT_TRUE(reader.ok());
    const absl::StatusOr<int> event = reader->event();
    ASSERT_TRUE(event.ok()) << event.status();
    ASSERT_EQ(reader->arm(1), RingWait::kArmed);
    uint64_t read = 0;
    uint64_t next = 0;
    std::optional<Ring> ring;
    std::optional<RingWriter<Item>> writer;
    const Killed killed = {
        .prepare =
            [&] {
              ring.emplace(world.Attach());
              writer.emplace(*ring->writer());
              next = world.pushed();
            },
        .operate = [&] { operation.operate(*writer, next); },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              world.ChildIsDead();
              ASSERT_TRUE(IsReadable(*event, kLong));
              const uint64_t handed_over = world.pushed() - read;
              EXPECT_TRUE(handed_over == 0 ||
                          handed_over == operation.hands_over)
                  << handed_over;
              if (handed_over > 0) {
                EXPECT_EQ(reader->arm(1), RingWait::kReady);
              }
              PopAll(*reader, read);
              EXPECT_EQ(read, world.pushed());
              EXPECT_TRUE(IsEnd(reader->arm(1)));
              EXPECT_TRUE(IsEnd(reader->wait(1, testing::Until(kLong))));
              ReaderAndSuccessor(world, *reader, *event, read);
              world.Invite();
              ASSERT_EQ(reader->arm(1), RingWait::kArmed);
            }};
    const int instructions = KillAtEachInstruction(killed);
    EXPECT_GT(instructions, 50);
    EXPECT_GE(read * 3, static_cast<uint64_t>(instructions));
  }
}

// --- The reader is killed. ---

struct ReaderOperation {
  const char* name;
  std::function<void(RingReader<Item>&)> operate;
  uint64_t finishes;  // Items: all of them or fewer.
};

void Finish(RingReader<Item>& reader, uint64_t n) {
  if (reader.peek(n).size() < n) return;
  for (uint64_t i = 0; i < n; ++i) reader.finish(1);
}

const ReaderOperation kReaderOperations[] = {
    {"event", [](auto& reader) { (void)reader.event(); }, 0},
    {"arm",
     [](auto& reader) {
       Finish(reader, 2);
       reader.arm(reader.capacity());
     },
     2},
    {"arm for what is there",
     [](auto& reader) {
       Finish(reader, 2);
       reader.arm(1);
     },
     2},
    {"pop",
     [](auto& reader) {
       Item item;
       reader.try_pop(item);
     },
     1},
    {"close", [](auto& reader) { reader.close(); }, 0},
};

// A new reader, of what the dead one had not finished, and the survivor.
void WriterAndSuccessor(World& world, RingWriter<Item>& writer, int event,
                        uint64_t& written, uint64_t read, uint64_t finishes) {
  Ring ring = world.Succeed();
  absl::StatusOr<RingReader<Item>> reader = ring.reader();
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(world.words().reader.wish, 0) << "the dead one's";
  const absl::StatusOr<int> its_event = reader->event();
  ASSERT_TRUE(its_event.ok()) << its_event.status();
  ASSERT_EQ(writer.arm(writer.capacity()), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(event));
  const std::optional<Item> first = reader->try_pop();
  ASSERT_TRUE(first.has_value());
  EXPECT_GE(first->number, read);
  EXPECT_LE(first->number, read + finishes);
  read = first->number;
  ExpectItem(*first, read++);
  PopAll(*reader, read);
  EXPECT_EQ(read, written);
  ASSERT_TRUE(IsReadable(event, kLong));
  ASSERT_EQ(writer.arm(writer.capacity()), RingWait::kReady);
  ASSERT_EQ(reader->arm(1), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*its_event));
  ASSERT_TRUE(writer.try_push(Numbered(written)));
  ++written;
  ASSERT_TRUE(IsReadable(*its_event, kLong));
  ASSERT_EQ(reader->arm(1), RingWait::kReady);
  ASSERT_EQ(writer.arm(writer.capacity()), RingWait::kArmed);
  reader->close();
  ASSERT_TRUE(IsReadable(event, kLong));
  ASSERT_EQ(writer.arm(writer.capacity()), RingWait::kClosed);
  reader = absl::CancelledError();
  ASSERT_TRUE(ring.reader().ok()) << "opens its side again";
}

TEST(AtEachInstructionOfWaiting, OfAReader) {
  constexpr uint64_t kItems = 5;
  for (const ReaderOperation& operation : kReaderOperations) {
    SCOPED_TRACE(operation.name);
    World world(Link::kSocket);
    absl::StatusOr<RingWriter<Item>> writer = world.ring().writer();
    ASSERT_TRUE(writer.ok());
    const absl::StatusOr<int> event = writer->event();
    ASSERT_TRUE(event.ok()) << event.status();
    const uint64_t capacity = writer->capacity();
    uint64_t written = 0;
    const auto fill = [&] {
      while (capacity - writer->free() < kItems) {
        ASSERT_TRUE(writer->try_push(Numbered(written)));
        ++written;
      }
      ASSERT_EQ(writer->arm(capacity), RingWait::kArmed);
    };
    fill();
    std::optional<Ring> ring;
    std::optional<RingReader<Item>> reader;
    const Killed killed = {
        .prepare =
            [&] {
              ring.emplace(world.Attach());
              reader.emplace(*ring->reader());
            },
        .operate = [&] { operation.operate(*reader); },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              world.ChildIsDead();
              ASSERT_TRUE(IsReadable(*event, kLong));
              EXPECT_TRUE(IsEnd(writer->arm(capacity)));
              EXPECT_TRUE(IsEnd(writer->wait(capacity, testing::Until(kLong))));
              WriterAndSuccessor(world, *writer, *event, written,
                                 written - kItems, operation.finishes);
              world.Invite();
              fill();
            }};
    const int instructions = KillAtEachInstruction(killed);
    EXPECT_GT(instructions, 50);
  }
}

}  // namespace
}  // namespace doppel
