// SPDX-License-Identifier: Apache-2.0
//
// Two processes meet over a shared ring, and one of them is killed before and after each
// system call of it, and at each instruction: who creates and invites, who attaches, who
// takes a side in its turn, who invites a successor, and a broker between its two
// invitations. Each time whoever is left learns of the end, finds what was published
// once and whole, and goes on with one that comes in the dead one's place: the two wake
// each other.
//
// Each instruction: in a long campaign. In a short one, every nth of them, where n stands
// at the end of each test. In both: of a process that had a ring before. What the first
// one finds out about the machine (some hundred thousand instructions) is this process's
// own, and its children know it.

#include <unistd.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/meeting_place.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/waiting.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::ExpectItem;
using ::doppel::testing::IsReadable;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEach;
using ::doppel::testing::Killed;
using ::doppel::testing::MeetingPlace;
using ::doppel::testing::Numbered;
using ::doppel::testing::Scaled;
using ::doppel::testing::StepBy;
using ::doppel::testing::Until;

using Ring = SharedRing<Item>;

// None is waited for in vain: a process that ended has hung up.
constexpr absl::Duration kLong = absl::Seconds(60);

class AtEachStepOfSharedMeeting : public ::testing::TestWithParam<StepBy> {
 protected:
  AtEachStepOfSharedMeeting() {
    Ring ring = *Ring::Create(1);
    Ring peer = *Ring::Attach(*ring.Invite());
    EXPECT_TRUE(ring.writer().ok());
    EXPECT_TRUE(peer.reader().ok());
  }
  // At each system call, or each instruction; in a short campaign, each nth one.
  static void Kill(const Killed& killed, int64_t nth) {
    const int64_t stride =
        GetParam() == StepBy::kSystemCall ? 1 : Scaled(nth, 1);
    EXPECT_GT(KillAtEach(GetParam(), killed, static_cast<int>(stride)), 3);
  }
};

INSTANTIATE_TEST_SUITE_P(Steps, AtEachStepOfSharedMeeting,
                         ::testing::Values(StepBy::kSystemCall,
                                           StepBy::kInstruction),
                         [](const auto& info) {
                           return info.param == StepBy::kSystemCall
                                      ? "SystemCalls"
                                      : "Instructions";
                         });

// All that was published and not finished, numbered by positions. A reader that was killed
// may have finished `at_most` that it did not hand back.
void ExpectWhole(Ring& ring, RingReader<Item>& reader, uint64_t at_most) {
  const std::span<const Item> left = reader.peek();
  uint64_t number = ring.statistics().pushed - left.size();
  EXPECT_GE(number, ring.statistics().popped);
  EXPECT_LE(number, ring.statistics().popped + at_most);
  for (const Item& item : left) ExpectItem(item, number++);
  reader.consume(left.size());
}

uint64_t Fill(RingWriter<Item>& writer, uint64_t number) {
  while (writer.try_push(Numbered(number))) ++number;
  return number;
}

// Each of the two takes its side, asks to be told, and is told by the other.
void ExpectTheyGoOn(Ring& writes, Ring& reads, uint64_t finished_at_most) {
  auto writer = writes.writer();
  auto reader = reads.reader();
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(reader.ok()) << reader.status();
  ExpectWhole(reads, *reader, finished_at_most);
  const absl::StatusOr<int> readers = reader->event();
  const absl::StatusOr<int> writers = writer->event();
  ASSERT_TRUE(readers.ok()) << readers.status();
  ASSERT_TRUE(writers.ok()) << writers.status();

  uint64_t number = writes.statistics().pushed;
  ASSERT_EQ(reader->arm(1), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*readers));
  ASSERT_TRUE(writer->try_push(Numbered(number)));
  EXPECT_TRUE(IsReadable(*readers, kLong));
  ASSERT_EQ(reader->wait(1, Until(kLong)), RingWait::kReady);
  ExpectItem(*reader->try_pop(), number);

  ++number;
  const uint64_t first = number;
  Fill(*writer, number);
  ASSERT_EQ(writer->arm(1), RingWait::kArmed);
  EXPECT_FALSE(IsReadable(*writers));
  ExpectItem(*reader->try_pop(), first);
  EXPECT_TRUE(IsReadable(*writers, kLong));
  ASSERT_EQ(writer->wait(1, Until(kLong)), RingWait::kReady);
}

enum class Side : uint8_t { kWriter, kReader };

// Who is left and takes this side, or has it, invites one in the place of the dead.
void ExpectGoesOn(Ring& survivor, Side side, uint64_t finished_at_most) {
  absl::StatusOr<RingInvitation> invitation = survivor.Invite();
  ASSERT_TRUE(invitation.ok()) << invitation.status();
  absl::StatusOr<Ring> next = Ring::Attach(*std::move(invitation));
  ASSERT_TRUE(next.ok()) << next.status();
  if (side == Side::kWriter) {
    ExpectTheyGoOn(survivor, *next, finished_at_most);
  } else {
    ExpectTheyGoOn(*next, survivor, finished_at_most);
  }
}

// By turns, so that both are killed at each part of the way.
Side SideOf(int n) { return n % 2 == 0 ? Side::kWriter : Side::kReader; }

// What somebody has whose only peer is dead: all that this one had published, its end,
// and a ring that goes on. Whether there was an item, or room.
bool ExpectSurvives(Ring& survivor, Side side) {
  bool passed = false;
  RingWait how = RingWait::kReady;
  if (side == Side::kReader) {
    auto reader = *survivor.reader();
    while ((how = reader.wait(1, Until(kLong))) == RingWait::kReady) {
      passed = true;
      ExpectWhole(survivor, reader, 0);
    }
  } else {
    auto writer = *survivor.writer();
    while ((how = writer.wait(1, Until(kLong))) == RingWait::kReady) {
      passed = true;
      Fill(writer, survivor.statistics().pushed);
    }
  }
  EXPECT_EQ(how, RingWait::kPeerGone);
  EXPECT_TRUE(survivor.peer_gone());
  ExpectGoesOn(survivor, side, side == Side::kWriter ? 1 : 0);
  return passed;
}

// Passes on one item, of a side that nobody else has.
void PassOne(Ring& ring, Side side) {
  if (side == Side::kWriter) {
    (void)ring.writer()->try_push(Numbered(ring.statistics().pushed));
  } else {
    (void)ring.reader()->try_pop();
  }
}

// A child attaches to a ring of this process and takes a side of it, and passes an item.
class OfAPeer : public AtEachStepOfSharedMeeting {
 protected:
  // Killed after Attach, or within it too.
  static void KillAPeer(Side side, bool within_attach, int64_t nth) {
    Ring ring = *Ring::Create(1);
    const Side survivors =
        side == Side::kWriter ? Side::kReader : Side::kWriter;
    const auto prepare = [&] {
      if (side == Side::kReader) {
        auto writer = *ring.writer();
        Fill(writer, ring.statistics().pushed);
      }
    };
    prepare();
    std::optional<RingInvitation> invitation = *ring.Invite();
    std::optional<Ring> peer;
    const auto attach = [&] {
      peer.emplace(*Ring::Attach(*std::exchange(invitation, std::nullopt)));
    };
    int passed = 0;
    int killed = 0;
    Kill({.prepare =
              [&] {
                if (!within_attach) attach();
              },
          .operate =
              [&] {
                if (within_attach) attach();
                PassOne(*peer, side);
              },
          .check =
              [&](int n) {
                SCOPED_TRACE(n);
                invitation.reset();
                ++killed;
                if (ExpectSurvives(ring, survivors)) ++passed;
                prepare();
                invitation = *ring.Invite();
              }},
         nth);
    EXPECT_GT(passed, 0);
    EXPECT_LT(passed, killed);
  }
};

INSTANTIATE_TEST_SUITE_P(Steps, OfAPeer,
                         ::testing::Values(StepBy::kSystemCall,
                                           StepBy::kInstruction),
                         [](const auto& info) {
                           return info.param == StepBy::kSystemCall
                                      ? "SystemCalls"
                                      : "Instructions";
                         });

TEST_P(OfAPeer, ThatAttachesToWrite) { KillAPeer(Side::kWriter, true, 499); }
TEST_P(OfAPeer, ThatAttachesToRead) { KillAPeer(Side::kReader, true, 499); }
TEST_P(OfAPeer, ThatTakesTheWritersSide) {
  KillAPeer(Side::kWriter, false, 97);
}
TEST_P(OfAPeer, ThatTakesTheReadersSide) {
  KillAPeer(Side::kReader, false, 97);
}

// What was sent is to a ring that is whole; and without what was sent there is none.
TEST_P(AtEachStepOfSharedMeeting, OfACreatorThatInvites) {
  const MeetingPlace place;
  int invited = 0;
  int killed = 0;
  Kill({.prepare = [] {},
        .operate =
            [&] {
              Ring ring = *Ring::Create(1);
              PassOne(ring, Side::kWriter);
              if (!ring.Invite()->Send(place.childs_end()).ok()) _exit(1);
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              ++killed;
              auto invitation = RingInvitation::Receive(place.this_end());
              if (!invitation.ok()) return;
              ++invited;
              absl::StatusOr<Ring> ring = Ring::Attach(*std::move(invitation));
              ASSERT_TRUE(ring.ok()) << ring.status();
              EXPECT_TRUE(ExpectSurvives(*ring, Side::kReader));
            }},
       997);
  EXPECT_GT(invited, 0);
  EXPECT_LT(invited, killed);
}

// The first peer of the child has ended and left it an item. This process, which was that
// peer, has kept the ring's file, and takes the child's invitation if it came to one.
TEST_P(AtEachStepOfSharedMeeting, OfASurvivorThatInvitesASuccessor) {
  const MeetingPlace place;
  std::optional<Ring> ring;
  std::optional<RingInvitation> file;
  int invited = 0;
  int killed = 0;
  Kill({.prepare =
            [&] {
              ring.emplace(*Ring::Create(1));
              (void)ring->reader();
              if (!ring->Invite()->Send(place.childs_end()).ok()) _exit(1);
            },
        .meet =
            [&] {
              Ring first =
                  *Ring::Attach(*RingInvitation::Receive(place.this_end()));
              PassOne(first, Side::kWriter);
              file.emplace(*RingInvitation::WithoutLink(first.memfd().fd()));
            },
        .go_on = [] {},
        .operate =
            [&] {
              if (!ring->Invite()->Send(place.childs_end()).ok()) _exit(1);
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              ++killed;
              auto invitation = RingInvitation::Receive(place.this_end());
              if (invitation.ok()) {
                ++invited;
                file = *std::move(invitation);
                Ring next = *Ring::Attach(*std::exchange(file, std::nullopt));
                EXPECT_TRUE(ExpectSurvives(next, Side::kReader));
              } else {
                Ring next = *Ring::Attach(*std::exchange(file, std::nullopt));
                ExpectGoesOn(next, SideOf(n / 2), 0);
              }
            }},
       97);
  EXPECT_GT(invited, 0);
  EXPECT_LT(invited, killed);
}

// The broker takes no side. It is of no matter once both have come; one that came alone
// learns that nobody will.
TEST_P(AtEachStepOfSharedMeeting, OfABrokerThatInvitesAPair) {
  const MeetingPlace place;
  std::optional<Ring> ring;
  int pairs = 0;
  int alone = 0;
  int none = 0;
  Kill({.prepare = [&] { ring.emplace(*Ring::Create(1)); },
        .operate =
            [&] {
              auto pair = *ring->InvitePair();
              for (RingInvitation& invitation : pair) {
                if (!invitation.Send(place.childs_end()).ok()) _exit(1);
              }
            },
        .check =
            [&](int n) {
              SCOPED_TRACE(n);
              auto first = RingInvitation::Receive(place.this_end());
              auto second = RingInvitation::Receive(place.this_end());
              if (!first.ok()) {
                ++none;
                return;
              }
              Ring survivor = *Ring::Attach(*std::move(first));
              if (second.ok()) {
                ++pairs;
                Ring peer = *Ring::Attach(*std::move(second));
                EXPECT_FALSE(survivor.peer_gone());
                ExpectTheyGoOn(survivor, peer, 0);
              } else {
                ++alone;
              }
              // Alone, or alone again: the peer's object has ended.
              (void)ExpectSurvives(survivor,
                                   second.ok() ? Side::kWriter : SideOf(n / 2));
            }},
       61);
  EXPECT_GT(pairs, 0);
  EXPECT_GT(alone, 0);
  EXPECT_GT(none, 0);
}

}  // namespace
}  // namespace doppel
