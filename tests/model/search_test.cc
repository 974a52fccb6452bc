// SPDX-License-Identifier: Apache-2.0
//
// What the models rest on: a model of a known fault fails, and one that is sound does
// not.

#include "doppel/tests/model/search.h"
//
#include <array>
#include <cstdint>
#include <string>

#include "doppel/tests/model/broadcast_model.h"
#include "doppel/tests/model/event_model.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/models.h"
#include "doppel/tests/model/mpsc_model.h"
#include "doppel/tests/model/sleep.h"
#include "gtest/gtest.h"

namespace doppel::model {
namespace {

// Two words, each stored by one thread and then loaded by the other.
template <bool kLightInFirst, bool kLightInSecond>
struct StoreThenLoad : Model<StoreThenLoad<kLightInFirst, kLightInSecond>, 2> {
  void thread(unsigned index) {
    words[index].store(1, std::memory_order_relaxed);
    const bool light = index == 0 ? kLightInFirst : kLightInSecond;
    if (light) {
      ModelAtomics::LightFence();
    } else {
      HeavyFence();
    }
    saw[index] = words[1 - index].load(std::memory_order_relaxed);
  }
  void Check() { RL_ASSERT(saw[0] == 1 || saw[1] == 1); }

  std::array<ModelAtomic<int>, 2> words;
  std::array<int, 2> saw = {};
};

TEST(Fences, LightAndHeavyAreOrderedAndTwoLightOnesAreNot) {
  EXPECT_EQ((SearchAll<StoreThenLoad<true, false>>().result),
            Result::kAllTried);
  EXPECT_EQ((SearchAll<StoreThenLoad<false, false>>().result),
            Result::kAllTried);
  const Finding found = SearchAll<StoreThenLoad<true, true>>();
  EXPECT_EQ(found.result, Result::kFault);
  EXPECT_EQ(found.fault, "USER ASSERT FAILED");
}

// A light fence is nothing to a thread that makes no heavy one.
template <bool kRelease>
struct PassOn : Model<PassOn<kRelease>, 2> {
  void thread(unsigned index) {
    if (index == 0) {
      data(RL_INFO) = 1;
      ModelAtomics::LightFence();
      flag.store(
          1, kRelease ? std::memory_order_release : std::memory_order_relaxed);
    } else if (flag.load(std::memory_order_acquire) == 1) {
      RL_ASSERT(data(RL_INFO) == 1);
    }
  }

  ModelAtomic<int> flag{0};
  rl::var<int> data;
};

TEST(Fences, ALightFenceIsNoRelease) {
  EXPECT_EQ(SearchAll<PassOn<true>>().result, Result::kAllTried);
  EXPECT_EQ(SearchAll<PassOn<false>>().fault, "DATA RACE");
}

// Sleeps unless the word has changed, which it does before the wake.
template <bool kChanges>
struct SleepAndWake : Model<SleepAndWake<kChanges>, 2> {
  void thread(unsigned index) {
    if (index == 0) {
      futex.Wait(word, 0);
    } else {
      if (kChanges) word.store(1, std::memory_order_relaxed);
      futex.Wake();
    }
  }

  ModelAtomic<uint32_t> word{0};
  ModelFutex<2> futex;
};

TEST(Sleep, AWakeThatComesBeforeTheSleepIsLostUnlessTheWordChanges) {
  EXPECT_EQ(SearchAll<SleepAndWake<true>>().result, Result::kAllTried);
  EXPECT_EQ(SearchAll<SleepAndWake<false>>().fault, "DEADLOCK");
  EXPECT_EQ(SearchAtRandom<SleepAndWake<false>>(1'000).fault, "DEADLOCK");
}

// The models would notice who sleeps, or wakes, in another order.
template <EventFault kFault, bool kEvents>
struct Careless {
  static constexpr EventPlan kPlan = {
      .stores = 2, .each = true, .events = kEvents, .fault = kFault};
  static std::string Fault() {
    return SearchAtRandom<EventModel<kPlan>>(10'000).fault;
  }
};

TEST(Event, AStepOutOfItsPlaceLosesAWake) {
  EXPECT_EQ((Careless<EventFault::kNone, false>::Fault()), "");
  EXPECT_EQ((Careless<EventFault::kLooksBefore, false>::Fault()), "DEADLOCK");
  EXPECT_EQ((Careless<EventFault::kDoesNotAdvance, false>::Fault()),
            "DEADLOCK");
  EXPECT_EQ((Careless<EventFault::kEntersLate, false>::Fault()), "DEADLOCK");
  EXPECT_EQ((Careless<EventFault::kNone, true>::Fault()), "");
  EXPECT_EQ((Careless<EventFault::kArmsLate, true>::Fault()), "DEADLOCK");
}

// The models would notice a reader that does not wake the writer when it stands no longer
// where the writer saw it. One that leaves makes up for its joining: so there they stay.
constexpr BroadcastPlan kLoud = {
    .items = 4, .sessions = 2, .read_turns = 1, .waits = true};
constexpr BroadcastPlan kLoudToTheEnd = {
    .items = 4, .read_turns = 0, .waits = true};

template <BroadcastPlan kPlan>
std::string FaultOfTwoReaders() {
  return SearchAtRandom<BroadcastModel<kPlan, 2>>(100'000).fault;
}

TEST(Broadcast, AReaderThatLeavesQuietlyStopsTheWriter) {
  static constexpr BroadcastPlan kQuiet = [] {
    BroadcastPlan plan = kLoud;
    plan.leaves_quietly = true;
    return plan;
  }();
  EXPECT_EQ(FaultOfTwoReaders<kLoud>(), "");
  EXPECT_EQ(FaultOfTwoReaders<kQuiet>(), "DEADLOCK");
}

TEST(Broadcast, AReaderThatJoinsQuietlyStopsTheWriter) {
  static constexpr BroadcastPlan kQuiet = [] {
    BroadcastPlan plan = kLoudToTheEnd;
    plan.joins_quietly = true;
    return plan;
  }();
  EXPECT_EQ(FaultOfTwoReaders<kLoudToTheEnd>(), "");
  EXPECT_EQ(FaultOfTwoReaders<kQuiet>(), "DEADLOCK");
}

// The models would notice a consumer that leaves something behind.
template <uint64_t kForgets>
struct Forgetful {
  static constexpr MpscPlan kTwoFit = {.capacity_words = 5,
                                       .forgets = kForgets};
  static constexpr MpscPlan kOneFits = {.capacity_words = 3,
                                        .forgets = kForgets};
  static constexpr MpscPlan kSkips = {
      .capacity_words = 5, .messages = 3, .skip = 2, .forgets = kForgets};
};

template <MpscPlan kPlan>
Result ResultOf() {
  return SearchAtRandom<MpscModel<kPlan>>(10'000).result;
}

TEST(Mpsc, WhatIsNotZeroedIsTakenForAHeader) {
  EXPECT_EQ(ResultOf<Forgetful<0>::kTwoFit>(), Result::kNoneFound);
  EXPECT_EQ(ResultOf<Forgetful<0>::kOneFits>(), Result::kNoneFound);
  EXPECT_EQ(ResultOf<Forgetful<0>::kSkips>(), Result::kNoneFound);
  EXPECT_EQ(ResultOf<Forgetful<1>::kTwoFit>(), Result::kFault);
  EXPECT_EQ(ResultOf<Forgetful<1>::kOneFits>(), Result::kFault);
  EXPECT_EQ(ResultOf<Forgetful<1>::kSkips>(), Result::kFault);
}

TEST(Search, TriesEveryScheduleOfTwoSharedWordsAndNoMore) {
  // Two operations in each thread, none of them alone on its word, and a load that
  // may be stale: the count is Relacy's, the bounds are what one can count by hand.
  const Finding found = SearchAll<StoreThenLoad<true, false>>();
  EXPECT_GE(found.executions, 6u);
  EXPECT_LE(found.executions, 1'000u);
}

TEST(Search, StopsAtItsLimitAndSaysSo) {
  const Finding found = SpscModels()[0].search_all(kAnyNumber, 50);
  EXPECT_EQ(found.result, Result::kNoneFound);
  EXPECT_EQ(found.executions, 50u);
}

TEST(Search, TellsWhatHappened) {
  const Finding found = SearchAll<PassOn<false>>();
  EXPECT_NE(found.text.find("atomic store"), std::string::npos) << found.text;
}

}  // namespace
}  // namespace doppel::model
