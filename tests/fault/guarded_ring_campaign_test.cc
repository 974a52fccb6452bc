// SPDX-License-Identifier: Apache-2.0
//
// Every system call of making, attaching to and accepting over a guarded ring fails in
// turn, with each errno that its manual page lists, and with memory that is locked and
// that is not. Nothing is left; an Accept that failed goes on when it is called again,
// or after another invitation.

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::DropLockPrivilege;
using ::doppel::testing::Exited;
using ::doppel::testing::FailEachCall;
using ::doppel::testing::Fault;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::FaultsFor;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::RunInChild;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::HasSubstr;

using Producer = GuardedProducer<uint64_t>;
using Consumer = GuardedConsumer<uint64_t>;

bool Failed(const absl::Status& outcome) { return !outcome.ok(); }

struct Guarded {
  std::optional<Producer> producer;
  std::optional<Consumer> consumer;
  std::optional<RingInvitation> invitation;
};

// The descriptors of an invitation, which is not used up.
RingInvitation CopyOf(RingInvitation& invitation) {
  const int ring = invitation.ReleaseRing();
  const RingInvitation::Link link = invitation.ReleaseLink();
  invitation = RingInvitation(ring, link, 0);
  return RingInvitation(dup(ring), {.fd = dup(link.fd), .id = link.id}, 0);
}

// The parameter: whether memory is locked.
class GuardedRingCampaign : public ::testing::TestWithParam<bool> {
 protected:
  static absl::StatusOr<Producer> Create() {
    return Producer::Create(1000, {.lock = GetParam()});
  }
  static absl::StatusOr<Consumer> Attach(RingInvitation invitation) {
    return Consumer::Attach(std::move(invitation), {.lock = GetParam()});
  }
  // The consumer's answer has come, so that no time passes.
  static absl::Status Accept(Guarded& state) {
    return state.producer->Accept(absl::Now() + absl::Milliseconds(20));
  }
  static Guarded Attached() {
    Guarded state;
    state.producer = *Create();
    state.consumer = *Attach(*state.producer->Invite());
    return state;
  }
};

INSTANTIATE_TEST_SUITE_P(Memory, GuardedRingCampaign, ::testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Locked" : "NotLocked";
                         });

TEST_P(GuardedRingCampaign, Create) {
  EXPECT_GT(FailEachCall([] { return Guarded(); },
                         [](Guarded& state) {
                           absl::StatusOr<Producer> made = Create();
                           if (made.ok()) state.producer = *std::move(made);
                           return made.status();
                         },
                         Failed,
                         [](Guarded& state, const absl::Status& outcome) {
                           EXPECT_EQ(state.producer.has_value(), outcome.ok());
                         }),
            50);
}

TEST_P(GuardedRingCampaign, Attach) {
  EXPECT_GT(FailEachCall(
                [] {
                  Guarded state;
                  state.producer = *Create();
                  state.invitation = *state.producer->Invite();
                  return state;
                },
                [](Guarded& state) {
                  absl::StatusOr<Consumer> consumer =
                      Attach(CopyOf(*state.invitation));
                  if (consumer.ok()) state.consumer = *std::move(consumer);
                  return consumer.status();
                },
                Failed,
                [](Guarded& state, const absl::Status&) {
                  if (state.consumer.has_value()) return;
                  EXPECT_THAT(Attach(CopyOf(*state.invitation)), IsOk());
                }),
            50);
}

// Whether the answer that has come is not to be lost by the fault: what this process
// lacks may be there again.
bool Lacks(const Fault& fault) {
  const bool maps = fault.call == Call::kDup || fault.call == Call::kMmap ||
                    fault.call == Call::kMlock;
  return maps && (fault.error == ENOMEM || fault.error == EAGAIN ||
                  fault.error == EMFILE || fault.error == ENFILE);
}

// What an Accept keeps that failed is no leak: so not FailEachCall.
TEST_P(GuardedRingCampaign, AcceptGoesOn) {
  std::vector<Fault> faults;
  {
    Guarded state = Attached();
    CallCounter counter;
    ASSERT_THAT(Accept(state), IsOk());
    EXPECT_EQ(counter.count(Call::kMlock), GetParam() ? 1 : 0);
    faults = FaultsFor(counter);
  }
  int gone_on = 0;
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.ToString());
    const LeakCheck before;
    {
      Guarded state = Attached();
      absl::Status first;
      {
        const FaultPlan plan(fault);
        first = Accept(state);
        EXPECT_TRUE(plan.fired());
      }
      EXPECT_EQ(state.producer->writer().ok(), first.ok());
      if (fault.interrupts()) {
        EXPECT_THAT(first, IsOk());
      }
      const absl::Status again = Accept(state);
      if (!first.ok() && again.ok()) ++gone_on;
      if (!again.ok()) {
        EXPECT_FALSE(Lacks(fault)) << again;
        EXPECT_THAT(again, StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("Invite first")));
        state.consumer = *Attach(*state.producer->Invite());
        ASSERT_THAT(Accept(state), IsOk());
      }
      ASSERT_TRUE(state.producer->writer()->try_push(7));
      EXPECT_EQ(state.consumer->reader()->try_pop(), 7);
    }
    EXPECT_TRUE(before.Unchanged());
    if (HasFailure()) break;
  }
  EXPECT_GT(gone_on, 3);
}

// Each lock of those that `operate` asks for is an error if it fails, and says so.
template <class Prepare, class Operate>
void FailEachLock(int locks, Prepare prepare, Operate operate) {
  for (int nth = 1; nth <= locks; ++nth) {
    auto state = prepare();
    const FaultPlan plan({.call = Call::kMlock, .nth = nth, .error = ENOMEM});
    EXPECT_THAT(operate(state), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("mlock2")))
        << nth;
    EXPECT_TRUE(plan.fired()) << nth;
  }
}

TEST(GuardedRingLimits, NoLockIsTakenForGranted) {
  const auto attached = [] {
    Guarded state;
    state.producer = *Producer::Create(1, {.lock = true});
    state.invitation = *state.producer->Invite();
    return state;
  };
  // Their own words, the items; of a consumer, the other's words too.
  FailEachLock(
      2, [] { return 0; },
      [](int) { return Producer::Create(1, {.lock = true}).status(); });
  FailEachLock(3, attached, [](Guarded& state) {
    return Consumer::Attach(CopyOf(*state.invitation), {.lock = true}).status();
  });
  FailEachLock(
      1,
      [&] {
        Guarded state = attached();
        state.consumer = *Consumer::Attach(CopyOf(*state.invitation));
        return state;
      },
      [](Guarded& state) {
        return state.producer->Accept(absl::Now() + absl::Milliseconds(20));
      });
}

// Without the privilege, of a limit that admits less than is mapped. `operate` makes
// the ring or a side of it, with lock or without.
template <class Operate>
void ExpectLimited(Operate operate) {
  EXPECT_TRUE(
      Exited(RunInChild([&] {
               const ScopedRlimit limit(RLIMIT_MEMLOCK, 4096);
               if (!DropLockPrivilege()) return 1;
               const LeakCheck before;
               const absl::Status locked = operate(true);
               if (!absl::IsResourceExhausted(locked)) return 2;
               if (!absl::StrContains(locked.message(), "RLIMIT_MEMLOCK"))
                 return 3;
               if (!before.Unchanged()) return 4;
               return operate(false).ok() ? 0 : 5;
             }),
             0));
}

TEST(GuardedRingLimits, LockedMemoryOfTheProducer) {
  ExpectLimited(
      [](bool lock) { return Producer::Create(1, {.lock = lock}).status(); });
}

TEST(GuardedRingLimits, LockedMemoryOfTheConsumer) {
  Producer producer = *Producer::Create(1);
  RingInvitation invitation = *producer.Invite();
  ExpectLimited([&](bool lock) {
    return Consumer::Attach(CopyOf(invitation), {.lock = lock}).status();
  });
}

}  // namespace
}  // namespace doppel
