// SPDX-License-Identifier: Apache-2.0
//
// One side of a shared ring is killed at every instruction of every operation. Each
// time: what was published is there once and whole, the survivor goes on without a wait
// that hangs, and a new peer goes on where the dead one stopped. (A peer that was killed
// while it published took others down: iceoryx #2193, #2260, #2304. A queue stayed locked
// for ever: Boost.Interprocess #163.)

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/shared_world.h"
#include "doppel/tests/crash/single_step.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::ExpectItem;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEachInstruction;
using ::doppel::testing::Link;
using ::doppel::testing::Numbered;
using ::doppel::testing::SharedWorld;

using Ring = SharedRing<Item>;

class World : public SharedWorld<Item> {
 public:
  explicit World(LineOwnership ownership)
      : SharedWorld<Item>(Link::kNone, ownership) {}
};

// --- The writer is killed. ---

void PushNumbers(RingWriter<Item>& writer, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; ++i) {
    ASSERT_TRUE(writer.try_push(Numbered(i)));
  }
}

// What the survivor and a new writer make of it: everything in order, what the dead
// writer had published and then what the new one pushes.
void CheckReader(World& world, RingReader<Item>& reader, uint64_t& read) {
  const uint64_t pushed = world.pushed();
  {
    Ring next = world.Succeed();
    absl::StatusOr<RingWriter<Item>> writer = next.writer();
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_EQ(world.pushed(), pushed);
    while (writer->free() < 5) {
      ASSERT_TRUE(reader.wait() == RingWait::kReady);
      ExpectItem(*reader.try_pop(), read++);
    }
    PushNumbers(*writer, pushed, pushed + 5);
  }
  const RingWaitOptions soon = {.deadline = absl::Now() + absl::Seconds(60),
                                .spin = absl::ZeroDuration()};
  while (read < pushed + 5) {
    ASSERT_EQ(reader.wait(1, soon), RingWait::kReady);
    ExpectItem(*reader.try_pop(), read++);
  }
  EXPECT_TRUE(reader.status().ok());
  EXPECT_FALSE(reader.try_pop().has_value());
}

struct WriterOperation {
  const char* name;
  std::function<void(RingWriter<Item>&, uint64_t next)> operate;
};

const WriterOperation kWriterOperations[] = {
    {"try_push",
     [](auto& writer, uint64_t next) { writer.try_push(Numbered(next)); }},
    {"push",
     [](auto& writer, uint64_t next) {
       const Item items[] = {Numbered(next), Numbered(next + 1),
                             Numbered(next + 2)};
       writer.push(items);
     }},
    {"commit",
     [](auto& writer, uint64_t next) {
       const std::span<Item> slots = writer.reserve(2);
       slots[0] = Numbered(next);
       slots[1] = Numbered(next + 1);
       writer.commit(2);
     }},
    {"stage",
     [](auto& writer, uint64_t next) {
       for (uint64_t i = 0; i < 2; ++i) {
         writer.reserve(1)[0] = Numbered(next + i);
         writer.stage(1);
       }
       writer.publish();
     }},
    {"close", [](auto& writer, uint64_t) { writer.close(); }},
    {"free", [](auto& writer, uint64_t) { writer.free(); }},
    {"wait",
     [](auto& writer, uint64_t) {
       writer.wait(writer.capacity(), {.deadline = absl::InfinitePast()});
     }},
};

class AtEachInstruction : public ::testing::TestWithParam<LineOwnership> {};

INSTANTIATE_TEST_SUITE_P(LineOwnership, AtEachInstruction,
                         ::testing::Values(LineOwnership::kOn,
                                           LineOwnership::kOff),
                         [](const auto& info) {
                           return info.param == LineOwnership::kOn ? "On"
                                                                   : "Off";
                         });

TEST_P(AtEachInstruction, OfAWriter) {
  for (const WriterOperation& operation : kWriterOperations) {
    SCOPED_TRACE(operation.name);
    World world(GetParam());
    absl::StatusOr<RingReader<Item>> reader = world.ring().reader();
    ASSERT_TRUE(reader.ok());
    uint64_t read = 0;
    uint64_t next = 0;
    std::optional<Ring> ring;
    std::optional<RingWriter<Item>> writer;
    const int instructions = KillAtEachInstruction(
        [&] {
          ring.emplace(world.Attach());
          writer.emplace(*ring->writer());
          next = world.pushed();
        },
        [&] { operation.operate(*writer, next); },
        [&](int n) {
          SCOPED_TRACE(n);
          CheckReader(world, *reader, read);
        });
    EXPECT_GT(instructions, 5);
  }
}

// A handle is made, and so the side claimed, in pieces too.
TEST_P(AtEachInstruction, OfAWriterThatAttaches) {
  World world(GetParam());
  absl::StatusOr<RingReader<Item>> reader = world.ring().reader();
  ASSERT_TRUE(reader.ok());
  uint64_t read = 0;
  std::optional<Ring> ring;
  std::optional<RingWriter<Item>> writer;
  KillAtEachInstruction([&] { ring.emplace(world.Attach()); },
                        [&] { writer.emplace(*ring->writer()); },
                        [&](int n) {
                          SCOPED_TRACE(n);
                          CheckReader(world, *reader, read);
                        });
}

// The reader sleeps, and the writer is killed while it wakes it: the new writer does.
TEST_P(AtEachInstruction, OfAWriterThatWakes) {
  World world(GetParam());
  uint64_t read = 0;
  uint64_t next = 0;
  std::optional<Ring> ring;
  std::optional<RingWriter<Item>> writer;
  absl::StatusOr<RingReader<Item>> reader = world.ring().reader();
  ASSERT_TRUE(reader.ok());
  const int instructions = KillAtEachInstruction(
      [&] {
        ring.emplace(world.Attach());
        writer.emplace(*ring->writer());
        next = world.pushed();
        // As if the reader slept.
        world.words().reader.wish.store(2 * (next + 1) + 1);
      },
      [&] { writer->try_push(Numbered(next)); },
      [&](int n) {
        SCOPED_TRACE(n);
        {
          Ring heir = world.Succeed();
          const std::atomic<uint32_t>& signal = world.words().writer.signal;
          const uint32_t before = signal.load();
          absl::StatusOr<RingWriter<Item>> its = heir.writer();
          ASSERT_TRUE(its.ok()) << its.status();
          ASSERT_NE(signal.load(), before) << "the wake that is owed";
          ASSERT_TRUE(its->try_push(Numbered(world.pushed())));
        }
        world.words().reader.wish.store(0);
        CheckReader(world, *reader, read);
      });
  EXPECT_GT(instructions, 20) << "it makes a system call";
}

// --- The reader is killed. ---

struct ReaderOperation {
  const char* name;
  std::function<void(RingReader<Item>&)> operate;
};

const ReaderOperation kReaderOperations[] = {
    {"try_pop",
     [](auto& reader) {
       Item item;
       reader.try_pop(item);
     }},
    {"pop",
     [](auto& reader) {
       Item items[3];
       reader.pop(items);
     }},
    {"consume",
     [](auto& reader) {
       if (reader.peek(4).size() >= 4) reader.consume(4);
     }},
    {"release",
     [](auto& reader) {
       if (reader.peek(2).size() < 2) return;
       reader.finish(1);
       reader.finish(1);
       reader.release();
     }},
    {"close", [](auto& reader) { reader.close(); }},
    {"size", [](auto& reader) { reader.size(); }},
    {"front",
     [](auto& reader) {
       if (reader.front() != nullptr) reader.pop();
     }},
    {"peek_at",
     [](auto& reader) {
       if (reader.known(3) < 3) return;
       ASSERT_EQ(reader.peek_at(1, 2).size(), 2);
       reader.consume(1);
     }},
    {"wait",
     [](auto& reader) {
       reader.wait(reader.capacity(), {.deadline = absl::InfinitePast()});
     }},
};

// The next reader sees whole items in order, from one that the dead reader had not
// finished: at most an operation past what was read before.
void CheckWriter(World& world, RingWriter<Item>& writer, uint64_t& written,
                 uint64_t& read) {
  constexpr uint64_t kMostOfAnOperation = 4;
  {
    Ring next = world.Succeed();
    absl::StatusOr<RingReader<Item>> reader = next.reader();
    ASSERT_TRUE(reader.ok()) << reader.status();
    std::optional<Item> item = reader->try_pop();
    ASSERT_TRUE(item.has_value());
    ASSERT_GE(item->number, read);
    ASSERT_LE(item->number, read + kMostOfAnOperation);
    read = item->number;
    ExpectItem(*item, read++);
    // Whole to the end, which the writer will not have touched.
    const std::span<const Item> rest = reader->peek();
    uint64_t number = read;
    for (const Item& one : rest) ExpectItem(one, number++);
    EXPECT_EQ(number, written);
  }
  EXPECT_TRUE(writer.status().ok());
  while (writer.free() > 3) {
    ASSERT_TRUE(writer.try_push(Numbered(written)));
    ++written;
  }
}

TEST_P(AtEachInstruction, OfAReader) {
  for (const ReaderOperation& operation : kReaderOperations) {
    SCOPED_TRACE(operation.name);
    World world(GetParam());
    absl::StatusOr<RingWriter<Item>> writer = world.ring().writer();
    ASSERT_TRUE(writer.ok());
    uint64_t written = 0;
    uint64_t read = 0;
    for (; writer->try_push(Numbered(written)); ++written) {
    }
    std::optional<Ring> ring;
    std::optional<RingReader<Item>> reader;
    const int instructions = KillAtEachInstruction(
        [&] {
          ring.emplace(world.Attach());
          reader.emplace(*ring->reader());
        },
        [&] { operation.operate(*reader); },
        [&](int n) {
          SCOPED_TRACE(n);
          CheckWriter(world, *writer, written, read);
        });
    EXPECT_GT(instructions, 5);
  }
}

// The writer sleeps, and the reader is killed while it wakes it: the new reader does.
TEST_P(AtEachInstruction, OfAReaderThatWakes) {
  World world(GetParam());
  absl::StatusOr<RingWriter<Item>> writer = world.ring().writer();
  ASSERT_TRUE(writer.ok());
  uint64_t written = 0;
  uint64_t read = 0;
  for (; writer->try_push(Numbered(written)); ++written) {
  }
  std::optional<Ring> ring;
  std::optional<RingReader<Item>> reader;
  const int instructions = KillAtEachInstruction(
      [&] {
        ring.emplace(world.Attach());
        reader.emplace(*ring->reader());
        // As if the writer slept until one slot more is free.
        world.words().writer.wish.store(2 * (world.popped() + 1) + 1);
      },
      [&] {
        Item item;
        reader->try_pop(item);
      },
      [&](int n) {
        SCOPED_TRACE(n);
        {
          Ring heir = world.Succeed();
          const std::atomic<uint32_t>& signal = world.words().reader.signal;
          const uint32_t before = signal.load();
          absl::StatusOr<RingReader<Item>> its = heir.reader();
          ASSERT_TRUE(its.ok()) << its.status();
          ASSERT_NE(signal.load(), before) << "the wake that is owed";
          const std::optional<Item> item = its->try_pop();
          ASSERT_TRUE(item.has_value());
          read = item->number + 1;
        }
        world.words().writer.wish.store(0);
        CheckWriter(world, *writer, written, read);
      });
  EXPECT_GT(instructions, 20) << "it makes a system call";
}

// The next reader polls only, and finds nothing: what the dead one had finished is handed
// back all the same.
TEST_P(AtEachInstruction, OfAReaderThatEmptiesTheRing) {
  World world(GetParam());
  absl::StatusOr<RingWriter<Item>> writer = world.ring().writer();
  ASSERT_TRUE(writer.ok());
  uint64_t written = 0;
  uint64_t read = 0;
  const auto fill = [&] {
    for (; writer->try_push(Numbered(written)); ++written) {
    }
  };
  fill();
  std::optional<Ring> ring;
  std::optional<RingReader<Item>> reader;
  KillAtEachInstruction(
      [&] {
        ring.emplace(world.Attach());
        reader.emplace(*ring->reader());
      },
      [&] { reader->consume(reader->peek().size()); },
      [&](int n) {
        SCOPED_TRACE(n);
        {
          Ring heir = world.Succeed();
          absl::StatusOr<RingReader<Item>> its = heir.reader();
          ASSERT_TRUE(its.ok()) << its.status();
          while (const std::optional<Item> item = its->try_pop()) {
            ExpectItem(*item, item->number);
            ASSERT_GE(item->number, read);
            read = item->number + 1;
          }
          ASSERT_EQ(writer->free(), writer->capacity());
        }
        read = written;
        fill();
      });
}

TEST_P(AtEachInstruction, OfAReaderThatAttaches) {
  World world(GetParam());
  absl::StatusOr<RingWriter<Item>> writer = world.ring().writer();
  ASSERT_TRUE(writer.ok());
  uint64_t written = 0;
  uint64_t read = 0;
  for (; writer->try_push(Numbered(written)); ++written) {
  }
  std::optional<Ring> ring;
  std::optional<RingReader<Item>> reader;
  KillAtEachInstruction([&] { ring.emplace(world.Attach()); },
                        [&] { reader.emplace(*ring->reader()); },
                        [&](int n) {
                          SCOPED_TRACE(n);
                          CheckWriter(world, *writer, written, read);
                        });
}

}  // namespace
}  // namespace doppel
