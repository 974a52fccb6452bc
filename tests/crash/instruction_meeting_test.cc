// SPDX-License-Identifier: Apache-2.0
//
// Two processes meet over a guarded ring, and one of them is killed before and after
// each system call of it, and at each instruction. Each time the other has an error or a
// ring whose end it learns of, and never waits for the dead; and the producer goes on
// with the next consumer, which finds everything.
//
// Each instruction: in a long campaign. In a short one, every nth of them, where n stands
// at the end of each test. In both: of a process that had a ring before. What the first
// one finds out about the machine (some hundred thousand instructions) is this process's
// own, and its children know it.

#include <unistd.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/crash/meeting_place.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::ExpectItem;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEach;
using ::doppel::testing::Killed;
using ::doppel::testing::MeetingPlace;
using ::doppel::testing::Numbered;
using ::doppel::testing::Scaled;
using ::doppel::testing::StepBy;
using ::doppel::testing::Until;

using Producer = GuardedProducer<Item>;
using Consumer = GuardedConsumer<Item>;

// None is waited for in vain: a process that ended has hung up.
constexpr absl::Duration kLong = absl::Seconds(60);

class AtEachStepOfMeeting : public ::testing::TestWithParam<StepBy> {
 protected:
  AtEachStepOfMeeting() {
    Producer producer = *Producer::Create(1);
    Consumer consumer = *Consumer::Attach(*producer.Invite());
    EXPECT_TRUE(producer.Accept().ok());
  }
  // At each system call, or each instruction; in a short campaign, each nth one.
  static void Kill(const Killed& killed, int64_t nth) {
    const int64_t stride =
        GetParam() == StepBy::kSystemCall ? 1 : Scaled(nth, 1);
    EXPECT_GT(KillAtEach(GetParam(), killed, static_cast<int>(stride)), 3);
  }
};

INSTANTIATE_TEST_SUITE_P(Steps, AtEachStepOfMeeting,
                         ::testing::Values(StepBy::kSystemCall,
                                           StepBy::kInstruction),
                         [](const auto& info) {
                           return info.param == StepBy::kSystemCall
                                      ? "SystemCalls"
                                      : "Instructions";
                         });

// All of the ring to a reader, which finishes nothing.
void ExpectFull(RingReader<Item>& reader) {
  uint64_t number = 0;
  for (const Item& item : reader.peek(reader.capacity())) {
    ExpectItem(item, number++);
  }
  EXPECT_EQ(number, reader.capacity());
}

TEST_P(AtEachStepOfMeeting, OfAConsumerThatAttaches) {
  Producer producer = *Producer::Create(1);
  std::optional<RingInvitation> invitation = *producer.Invite();
  {
    Consumer first =
        *Consumer::Attach(*std::exchange(invitation, std::nullopt));
    ASSERT_TRUE(producer.Accept().ok());
    auto writer = *producer.writer();
    for (uint64_t i = 0; writer.try_push(Numbered(i)); ++i) {
    }
  }
  invitation = *producer.Invite();
  std::optional<Consumer> consumer;
  int accepted = 0;
  int refused = 0;
  Kill({.prepare = [] {},
        .operate =
            [&] {
              consumer.emplace(
                  *Consumer::Attach(*std::exchange(invitation, std::nullopt)));
              (void)consumer->reader();
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              invitation.reset();
              const absl::Status status = producer.Accept(absl::Now() + kLong);
              if (status.ok()) {
                ++accepted;
                auto writer = producer.writer();
                ASSERT_TRUE(writer.ok()) << writer.status();
                EXPECT_EQ(writer->wait(1, Until(kLong)), RingWait::kPeerGone);
                EXPECT_TRUE(producer.peer_gone());
              } else {
                ++refused;
                EXPECT_TRUE(absl::IsUnavailable(status)) << status;
                EXPECT_FALSE(producer.writer().ok());
              }
              {
                Consumer next = *Consumer::Attach(*producer.Invite());
                ASSERT_TRUE(producer.Accept(absl::Now() + kLong).ok());
                auto reader = *next.reader();
                ExpectFull(reader);
              }
              invitation = *producer.Invite();
            }},
       197);
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 0);
}

// What a consumer makes of an invitation whose producer is dead.
void ExpectDead(absl::StatusOr<RingInvitation> invitation) {
  if (!invitation.ok()) return;
  absl::StatusOr<Consumer> consumer = Consumer::Attach(*std::move(invitation));
  if (!consumer.ok()) {
    EXPECT_NE(consumer.status().message(), "");
    return;
  }
  auto reader = *consumer->reader();
  EXPECT_EQ(reader.wait(1, Until(kLong)), RingWait::kPeerGone);
  EXPECT_TRUE(reader.status().ok()) << reader.status();
}

TEST_P(AtEachStepOfMeeting, OfAProducerThatCreatesAndInvites) {
  const MeetingPlace place;
  int invited = 0;
  int not_invited = 0;
  Kill({.prepare = [] {},
        .operate =
            [&] {
              Producer producer = *Producer::Create(1);
              if (!producer.Invite()->Send(place.childs_end()).ok()) _exit(1);
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              absl::StatusOr<RingInvitation> invitation =
                  RingInvitation::Receive(place.this_end());
              ++(invitation.ok() ? invited : not_invited);
              ExpectDead(std::move(invitation));
            }},
       197);
  EXPECT_GT(invited, 0);
  EXPECT_GT(not_invited, 0);
}

// The consumer has attached: it reads what was pushed, and learns of the end.
TEST_P(AtEachStepOfMeeting, OfAProducerThatAccepts) {
  const MeetingPlace place;
  std::optional<Producer> producer;
  std::optional<Consumer> consumer;
  int read = 0;
  int rounds = 0;
  Kill({.prepare =
            [&] {
              producer.emplace(*Producer::Create(1));
              if (!producer->Invite()->Send(place.childs_end()).ok()) _exit(1);
            },
        .meet =
            [&] {
              consumer.emplace(*Consumer::Attach(
                  *RingInvitation::Receive(place.this_end())));
            },
        .go_on = [] {},
        .operate =
            [&] {
              if (!producer->Accept().ok()) _exit(1);
              producer->writer()->try_push(Numbered(0));
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              ++rounds;
              auto reader = *consumer->reader();
              RingWait how = reader.wait(1, Until(kLong));
              if (how == RingWait::kReady) {
                ExpectItem(*reader.try_pop(), 0);
                ++read;
                how = reader.wait(1, Until(kLong));
              }
              EXPECT_EQ(how, RingWait::kPeerGone);
              EXPECT_TRUE(reader.status().ok()) << reader.status();
            }},
       13);
  EXPECT_GT(read, 0);
  EXPECT_LT(read, rounds);
}

}  // namespace
}  // namespace doppel
