// SPDX-License-Identifier: Apache-2.0
//
// One side of a shared ring of messages is killed at every instruction of every
// operation. Each time: what one commit hands over is there whole or not at all, however
// many messages it is; the survivor goes on; and a new peer goes on behind it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_options.h"
#include "doppel/tests/crash/numbered_message.h"
#include "doppel/tests/crash/shared_world.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::KillAtEachInstruction;
using ::doppel::testing::Link;
using ::doppel::testing::NumberedMessage;
using ::doppel::testing::NumberOf;
using ::doppel::testing::SharedWorld;

using World = SharedWorld<std::byte>;
using Ring = World::Ring;

constexpr RingWaitOptions kNoTime = {.deadline = absl::InfinitePast(),
                                     .spin = absl::ZeroDuration()};

// --- The writer is killed. ---

struct WriterOperation {
  const char* name;
  // Made in the child before: the messages from the next one on.
  std::function<void(MessageWriter&, std::span<const NumberedMessage>)> operate;
  uint64_t hands_over;  // Messages: all of them or none.
};

void Stage(MessageWriter& writer, const NumberedMessage& message,
           size_t spare_bytes = 0) {
  const MessageReservation room =
      writer.reserve(message.bytes().size() + spare_bytes);
  message.CopyTo(room.payload);
  writer.stage(message.bytes().size());
}

const WriterOperation kWriterOperations[] = {
    {"push",
     [](auto& writer, auto messages) { writer.push(messages[0].bytes()); }, 1},
    {"commit of less than was reserved",
     [](auto& writer, auto messages) {
       Stage(writer, messages[0], 50);
       writer.publish();
     },
     1},
    {"several",
     [](auto& writer, auto messages) {
       for (size_t i = 0; i < 3; ++i) Stage(writer, messages[i]);
       writer.publish();
     },
     3},
    {"abort",
     [](auto& writer, auto messages) {
       Stage(writer, messages[0]);
       messages[2].CopyTo(writer.reserve(messages[2].bytes().size()).payload);
       writer.abort();
       writer.push(messages[1].bytes());
     },
     2},
    {"no room",
     [](auto& writer, auto messages) {
       Stage(writer, messages[0]);
       (void)writer.reserve(writer.max_message_bytes());
       (void)writer.reserve(writer.max_message_bytes() + 1);
     },
     0},
    {"wait",
     [](auto& writer, auto messages) {
       Stage(writer, messages[0]);
       writer.wait(writer.max_message_bytes(), kNoTime);
     },
     1},
    {"close", [](auto& writer, auto) { writer.close(); }, 0},
};

void ReadAll(MessageReader& reader, uint64_t& read) {
  while (const auto message = reader.next()) {
    ASSERT_EQ(NumberOf(*message), read);
    ++read;
  }
  reader.release();
}

TEST(AtEachInstructionOfMessages, OfAWriter) {
  for (const WriterOperation& operation : kWriterOperations) {
    SCOPED_TRACE(operation.name);
    World world(Link::kNone);
    absl::StatusOr<RingReader<>> items = world.ring().reader();
    ASSERT_TRUE(items.ok());
    MessageReader reader(*std::move(items));
    uint64_t read = 0;
    std::optional<Ring> ring;
    std::optional<MessageWriter> writer;
    std::optional<std::array<NumberedMessage, 3>> messages;
    const int instructions = KillAtEachInstruction(
        [&] {
          ring.emplace(world.Attach());
          writer.emplace(*ring->writer());
          messages = {NumberedMessage(read), NumberedMessage(read + 1),
                      NumberedMessage(read + 2)};
        },
        [&] { operation.operate(*writer, *messages); },
        [&](int n) {
          SCOPED_TRACE(n);
          const uint64_t before = read;
          ReadAll(reader, read);
          EXPECT_TRUE(read == before || read == before + operation.hands_over)
              << read - before;
          Ring next = world.Succeed();
          absl::StatusOr<RingWriter<>> its_items = next.writer();
          ASSERT_TRUE(its_items.ok()) << its_items.status();
          MessageWriter its(*std::move(its_items));
          const uint64_t more = read + 2;
          for (uint64_t i = read; i < more; ++i) {
            ASSERT_EQ(its.push(NumberedMessage(i).bytes()), RingRoom::kRoom);
          }
          ASSERT_EQ(reader.wait(testing::Until(absl::Seconds(60))),
                    RingWait::kReady);
          ReadAll(reader, read);
          EXPECT_EQ(read, more);
          EXPECT_TRUE(reader.status().ok()) << reader.status();
        });
    EXPECT_GT(instructions, 30);
  }
}

// --- The reader is killed. ---

struct ReaderOperation {
  const char* name;
  std::function<void(MessageReader&, std::span<std::byte> buffer)> operate;
  uint64_t finishes;  // Messages: all of them or none.
};

const ReaderOperation kReaderOperations[] = {
    {"pop", [](auto& reader, auto buffer) { (void)reader.pop(buffer); }, 1},
    {"pop of too long a message",
     [](auto& reader, auto buffer) { (void)reader.pop(buffer.first(1)); }, 0},
    {"next and release",
     [](auto& reader, auto) {
       (void)reader.next();
       reader.release();
     },
     1},
    {"several",
     [](auto& reader, auto) {
       for (int i = 0; i < 3; ++i) (void)reader.next();
       reader.release();
     },
     3},
    {"pop of what was shown",
     [](auto& reader, auto buffer) {
       (void)reader.next();
       (void)reader.pop(buffer);
     },
     2},
    {"next",
     [](auto& reader, auto) {
       (void)reader.next();
       (void)reader.next();
       (void)reader.empty();
     },
     0},
    {"wait", [](auto& reader, auto) { reader.wait(kNoTime); }, 0},
    {"close", [](auto& reader, auto) { reader.close(); }, 0},
};

TEST(AtEachInstructionOfMessages, OfAReader) {
  for (const ReaderOperation& operation : kReaderOperations) {
    SCOPED_TRACE(operation.name);
    // It writes to the bytes of what it has finished.
    World world(Link::kNone, LineOwnership::kOn);
    absl::StatusOr<RingWriter<>> items = world.ring().writer();
    ASSERT_TRUE(items.ok());
    MessageWriter writer(*std::move(items));
    uint64_t written = 0;
    uint64_t read = 0;
    const auto fill = [&] {
      while (writer.push(NumberedMessage(written).bytes()) == RingRoom::kRoom) {
        ++written;
      }
    };
    fill();
    std::optional<Ring> ring;
    std::optional<MessageReader> reader;
    std::array<std::byte, NumberedMessage::kMostBytes> buffer;
    const int instructions = KillAtEachInstruction(
        [&] {
          ring.emplace(world.Attach());
          reader.emplace(*ring->reader());
        },
        [&] { operation.operate(*reader, buffer); },
        [&](int n) {
          SCOPED_TRACE(n);
          {
            Ring next = world.Succeed();
            absl::StatusOr<RingReader<>> its_items = next.reader();
            ASSERT_TRUE(its_items.ok()) << its_items.status();
            MessageReader its(*std::move(its_items));
            const auto first = its.next();
            ASSERT_TRUE(first.has_value()) << its.status();
            const uint64_t number = NumberOf(*first);
            EXPECT_TRUE(number == read || number == read + operation.finishes)
                << "in place of message " << read << ": " << number;
            its.release();
            // Whole to the end, which the writer will not have touched.
            read = number + 1;
            uint64_t shown = read;
            while (const auto message = its.next()) {
              ASSERT_EQ(NumberOf(*message), shown);
              ++shown;
            }
            EXPECT_EQ(shown, written);
            EXPECT_TRUE(its.status().ok()) << its.status();
          }
          fill();
          EXPECT_TRUE(writer.status().ok()) << writer.status();
        });
    EXPECT_GT(instructions, 20);
    EXPECT_GE(written * 3, static_cast<uint64_t>(instructions))
        << "what was read has made room";
  }
}

}  // namespace
}  // namespace doppel
