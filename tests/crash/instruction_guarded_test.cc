// SPDX-License-Identifier: Apache-2.0
//
// One side of a guarded ring is killed at every instruction of every operation. Each
// time: what was published is read once and whole, the survivor learns of the end and
// waits for nobody; a new consumer goes on behind what the dead one had finished; and
// the consumer of a dead producer has all that it published.

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/crash/meeting_place.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/numbered_message.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::ExpectItem;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEachInstruction;
using ::doppel::testing::Killed;
using ::doppel::testing::MeetingPlace;
using ::doppel::testing::Numbered;
using ::doppel::testing::NumberedMessage;
using ::doppel::testing::NumberOf;
using ::doppel::testing::Until;

// None is waited for in vain: a process that ended has hung up.
constexpr absl::Duration kLong = absl::Seconds(60);

constexpr RingWaitOptions kNoTime = {.deadline = absl::InfinitePast(),
                                     .spin = absl::ZeroDuration()};

bool IsEnd(RingWait how) {
  return how == RingWait::kPeerGone || how == RingWait::kClosed;
}

// What items and messages have alike: a number is pushed, and popped.
struct Items {
  using Value = Item;
  using Writer = RingWriter<Item>;
  using Reader = RingReader<Item>;

  static bool Push(Writer& writer, uint64_t number) {
    return writer.try_push(Numbered(number));
  }
  static std::optional<uint64_t> Pop(Reader& reader) {
    const std::optional<Item> item = reader.try_pop();
    if (!item.has_value()) return std::nullopt;
    ExpectItem(*item, item->number);
    return item->number;
  }
  static RingWait WaitForAll(Writer& writer) {
    return writer.wait(writer.capacity(), Until(kLong));
  }
  static RingWait WaitForOne(Reader& reader) {
    return reader.wait(1, Until(kLong));
  }
};

struct Messages {
  using Value = std::byte;
  using Writer = MessageWriter;
  using Reader = MessageReader;

  static bool Push(Writer& writer, uint64_t number) {
    return writer.push(NumberedMessage(number).bytes()) == RingRoom::kRoom;
  }
  static std::optional<uint64_t> Pop(Reader& reader) {
    std::array<std::byte, NumberedMessage::kMostBytes> buffer;
    const std::optional<size_t> bytes = reader.pop(buffer);
    if (!bytes.has_value()) return std::nullopt;
    return NumberOf(std::span(buffer).first(*bytes));
  }
  static RingWait WaitForAll(Writer& writer) {
    return writer.wait(writer.max_message_bytes(), Until(kLong));
  }
  static RingWait WaitForOne(Reader& reader) {
    return reader.wait(Until(kLong));
  }
};

// --- The producer is killed: each child makes a ring, which this process joins. ---

template <class Of>
struct ProducerOperation {
  const char* name;
  std::function<void(typename Of::Writer&)> operate;
  uint64_t hands_over;  // From number 0 on: all of them or none.
};

template <class Of>
void KillProducers(const ProducerOperation<Of>& operation) {
  SCOPED_TRACE(operation.name);
  using Producer = GuardedProducer<typename Of::Value>;
  using Consumer = GuardedConsumer<typename Of::Value>;
  const MeetingPlace place;
  std::optional<Producer> producer;
  std::optional<typename Of::Writer> writer;
  std::optional<Consumer> consumer;
  bool handed_over = false;
  const Killed killed = {
      .prepare =
          [&] {
            producer.emplace(*Producer::Create(1));
            if (!producer->Invite()->Send(place.childs_end()).ok()) _exit(1);
          },
      .meet =
          [&] {
            consumer.emplace(
                *Consumer::Attach(*RingInvitation::Receive(place.this_end())));
          },
      .go_on =
          [&] {
            if (!producer->Accept().ok()) _exit(1);
            writer.emplace(*producer->writer());
          },
      .operate = [&] { operation.operate(*writer); },
      .check =
          [&](int n) {
            SCOPED_TRACE(n);
            typename Of::Reader reader(*consumer->reader());
            const bool ready = Of::WaitForOne(reader) == RingWait::kReady;
            for (uint64_t i = 0; ready && i < operation.hands_over; ++i) {
              EXPECT_EQ(Of::Pop(reader), i);
            }
            EXPECT_EQ(Of::Pop(reader), std::nullopt);
            EXPECT_TRUE(IsEnd(Of::WaitForOne(reader)));
            EXPECT_TRUE(reader.status().ok()) << reader.status();
            EXPECT_TRUE(consumer->peer_gone());
            handed_over = ready;
          }};
  EXPECT_GT(KillAtEachInstruction(killed), 20);
  EXPECT_EQ(handed_over, operation.hands_over > 0)
      << "by the last, which ended";
}

TEST(AtEachInstructionOfAGuardedRing, OfAProducer) {
  const ProducerOperation<Items> operations[] = {
      {"try_push", [](auto& writer) { writer.try_push(Numbered(0)); }, 1},
      {"push",
       [](auto& writer) {
         const Item items[] = {Numbered(0), Numbered(1), Numbered(2)};
         writer.push(items);
       },
       3},
      {"stage and wait",
       [](auto& writer) {
         for (uint64_t i = 0; i < 2; ++i) {
           writer.reserve(1)[0] = Numbered(i);
           writer.stage(1);
         }
         writer.wait(writer.capacity(), kNoTime);
       },
       2},
      {"event and arm",
       [](auto& writer) {
         if (writer.event().ok()) writer.arm(1);
       },
       0},
      {"close", [](auto& writer) { writer.close(); }, 0},
  };
  for (const auto& operation : operations) KillProducers(operation);
}

TEST(AtEachInstructionOfAGuardedRing, OfAProducerOfMessages) {
  static const NumberedMessage kMessages[] = {NumberedMessage(0),
                                              NumberedMessage(1)};
  const ProducerOperation<Messages> operations[] = {
      {"push", [](auto& writer) { writer.push(kMessages[0].bytes()); }, 1},
      {"several",
       [](auto& writer) {
         for (const NumberedMessage& message : kMessages) {
           const size_t bytes = message.bytes().size();
           message.CopyTo(writer.reserve(bytes).payload);
           writer.stage(bytes);
         }
         writer.publish();
       },
       2},
  };
  for (const auto& operation : operations) KillProducers(operation);
}

// --- The consumer is killed: each child joins the ring that this process has. ---

template <class Of>
struct ConsumerOperation {
  const char* name;
  std::function<void(typename Of::Reader&)> operate;
  uint64_t finishes;  // All of them or none.
};

template <class Of>
void KillConsumers(const ConsumerOperation<Of>& operation) {
  SCOPED_TRACE(operation.name);
  using Producer = GuardedProducer<typename Of::Value>;
  using Consumer = GuardedConsumer<typename Of::Value>;
  Producer producer = *Producer::Create(1);
  uint64_t written = 0;
  uint64_t read = 0;
  const auto fill = [&](typename Of::Writer& writer) {
    while (Of::Push(writer, written)) ++written;
  };
  std::optional<RingInvitation> invitation = *producer.Invite();
  uint64_t last_finished = 0;
  // The one whose place is taken has finished `finished` or none.
  const auto succeed = [&](uint64_t finished) {
    Consumer consumer =
        *Consumer::Attach(*std::exchange(invitation, std::nullopt));
    ASSERT_TRUE(producer.Accept().ok());
    typename Of::Reader reader(*consumer.reader());
    typename Of::Writer writer(*producer.writer());
    fill(writer);
    std::optional<uint64_t> number = Of::Pop(reader);
    EXPECT_TRUE(number == read || number == read + finished)
        << "in place of " << read << ": " << number.value_or(0);
    last_finished = number.value_or(read) - read;
    for (read += last_finished; number.has_value(); number = Of::Pop(reader)) {
      ASSERT_EQ(*number, read);
      ++read;
    }
    EXPECT_EQ(read, written);
    fill(writer);
  };
  succeed(0);
  invitation = *producer.Invite();
  std::optional<Consumer> consumer;
  std::optional<typename Of::Reader> reader;
  const Killed killed = {
      .prepare =
          [&] {
            consumer.emplace(
                *Consumer::Attach(*std::exchange(invitation, std::nullopt)));
            reader.emplace(*consumer->reader());
          },
      .operate = [&] { operation.operate(*reader); },
      .check =
          [&](int n) {
            SCOPED_TRACE(n);
            invitation.reset();
            const absl::Status accepted = producer.Accept(absl::Now() + kLong);
            ASSERT_TRUE(accepted.ok()) << accepted;
            {
              typename Of::Writer writer(*producer.writer());
              EXPECT_TRUE(IsEnd(Of::WaitForAll(writer)));
              EXPECT_TRUE(writer.status().ok()) << writer.status();
              fill(writer);
            }
            invitation = *producer.Invite();
            succeed(operation.finishes);
            invitation = *producer.Invite();
          }};
  EXPECT_GT(KillAtEachInstruction(killed), 20);
  EXPECT_EQ(last_finished, operation.finishes) << "by the last, which ended";
}

TEST(AtEachInstructionOfAGuardedRing, OfAConsumer) {
  const ConsumerOperation<Items> operations[] = {
      {"try_pop", [](auto& reader) { (void)reader.try_pop(); }, 1},
      {"pop",
       [](auto& reader) {
         Item items[3];
         reader.pop(items);
       },
       3},
      {"consume",
       [](auto& reader) {
         if (reader.peek(4).size() >= 4) reader.consume(4);
       },
       4},
      {"finish",
       [](auto& reader) {
         if (reader.peek(2).size() >= 2) reader.finish(2);
       },
       2},
      {"finish and wait",
       [](auto& reader) {
         if (reader.peek(2).size() >= 2) reader.finish(2);
         reader.wait(reader.capacity(), kNoTime);
       },
       2},
      {"event and arm",
       [](auto& reader) {
         if (reader.event().ok()) reader.arm(1);
       },
       0},
      {"close", [](auto& reader) { reader.close(); }, 0},
  };
  for (const auto& operation : operations) KillConsumers(operation);
}

TEST(AtEachInstructionOfAGuardedRing, OfAConsumerOfMessages) {
  const ConsumerOperation<Messages> operations[] = {
      {"pop",
       [](auto& reader) {
         std::array<std::byte, NumberedMessage::kMostBytes> buffer;
         (void)reader.pop(buffer);
       },
       1},
      {"several",
       [](auto& reader) {
         for (int i = 0; i < 3; ++i) (void)reader.next();
         reader.release();
       },
       3},
      {"next", [](auto& reader) { (void)reader.next(); }, 0},
  };
  for (const auto& operation : operations) KillConsumers(operation);
}

}  // namespace
}  // namespace doppel
