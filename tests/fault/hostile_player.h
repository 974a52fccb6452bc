// SPDX-License-Identifier: Apache-2.0
//
// A peer that stores anything to any of its words, and who plays against it.
//
//   Liar ── stores ──▶ its words ◀── loads ── handle ◀── Player: one operation a step
//
// Invariants:
//   1. Every word is set to each of the worst values and to random ones; Report fails the
//      test otherwise, or if the handle did nothing.
//   2. A handle that reports DataLoss has a reason to, goes on reporting it, and gives
//      out no more than it knew of.
//
// Thread safety: one thread.
// Errors: failures of the test.
//
// Example:
//   Liar liar(file, file.header().writer, capacity, seed);
//   Player player(*consumer->reader(), liar);
//   player.Play(capacity, capacity, Take, tally);

#ifndef DOPPEL_TESTS_FAULT_HOSTILE_PLAYER_H_
#define DOPPEL_TESTS_FAULT_HOSTILE_PLAYER_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <optional>
#include <random>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/hostile_ring.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline constexpr uint64_t kCapacityBytes = 4096;

// Steps with one pair of files; making them costs as much as thousands of steps.
inline constexpr int kStepsAPair = 4000;

// Of each of the four handles.
inline int64_t Steps() { return Scaled(1'000'000, 100'000'000); }

// A RingSide's words.
inline constexpr size_t kWords = 11;

template <class Store>
void StoreTo(RingSide<>& side, size_t word, Store store) {
  switch (word) {
    case 0:
      return store(side.position);
    case 1:
      return store(side.wish);
    case 2:
      return store(side.wake_by);
    case 3:
      return store(side.fenced);
    case 4:
      return store(side.signal);
    case 5:
      return store(side.closed);
    case 6:
      return store(side.finished);
    case 7:
      return store(side.stalls);
    case 8:
      return store(side.refusals);
    case 9:
      return store(side.link);
    default:
      return store(side.high_water);
  }
}

// What the peer stores: most of the time positions that could be true, so that the ring
// goes on, and else the worst values and random ones.
class Liar {
 public:
  // How often each word was set to each of the worst values, or to a random one.
  using Lies = std::array<std::array<int64_t, 8>, kWords>;

  Liar(HostileFile& file, RingSide<>& words, uint64_t capacity, uint64_t seed)
      : page_(reinterpret_cast<uint64_t*>(&file.header())),
        words_(words),
        capacity_(capacity),
        random_(seed) {}

  // `ceiling` is the furthest position that could be true.
  void Lie(uint64_t ceiling, Lies& lies) {
    const uint64_t what = random_() % 16;
    if (what < kWords && (what != 0 || random_() % 128 == 0)) {
      return LieOf(what, ceiling, lies);
    }
    if (what == kWords && random_() % 128 == 0) return LieAnywhere(ceiling);
    plausible_ = std::min(plausible_ + random_() % (capacity_ / 64), ceiling);
    if (what == kWords + 1) {
      words_.wish.store(2 * plausible_ + 1, std::memory_order_release);
      return;
    }
    if (!forges_) words_.position.store(plausible_, std::memory_order_release);
  }

  // Somebody else stores what could be true.
  void LeavePositions() { forges_ = true; }
  void BeDishonest() { honest_ = false; }

  uint64_t Random() { return random_(); }

  uint64_t position() const {
    return words_.position.load(std::memory_order_relaxed);
  }

  // Whether all positions and headers so far could be true.
  bool honest() const { return honest_; }

 private:
  // The last: a random one.
  uint64_t Value(size_t which, uint64_t ceiling) {
    const std::array<uint64_t, 7> worst = {
        0,          1,          capacity_, capacity_ + 1, uint64_t{1} << 63,
        UINT64_MAX, ceiling + 1};
    return which < worst.size() ? worst[which] : random_();
  }

  void LieOf(size_t word, uint64_t ceiling, Lies& lies) {
    const size_t which = random_() % lies[word].size();
    const uint64_t value = Value(which, ceiling);
    ++lies[word][which];
    if (word == 0) honest_ = false;
    StoreTo(words_, word, [&](auto& at) {
      at.store(static_cast<std::decay_t<decltype(at.load())>>(value),
               std::memory_order_release);
    });
  }

  // Anywhere in the page of the header: the identity too, and what is nobody's.
  void LieAnywhere(uint64_t ceiling) {
    honest_ = false;
    std::atomic_ref<uint64_t>(page_[random_() % (kCapacityBytes / 8)])
        .store(Value(random_() % 8, ceiling), std::memory_order_release);
  }

  uint64_t* page_;
  RingSide<>& words_;
  uint64_t capacity_;
  std::mt19937_64 random_;
  uint64_t plausible_ = 0;
  bool honest_ = true;
  bool forges_ = false;
};

struct Tally {
  int64_t steps = 0;
  int64_t items = 0;
  int64_t pairs = 0;
  int64_t poisoned = 0;
  Liar::Lies lies = {};
};

inline void Report(const char* who, const char* what, const Tally& tally) {
  std::cout << tally.steps << " steps against a " << who
            << " that lies: " << tally.items << " " << what << ", "
            << tally.pairs << " rings, " << tally.poisoned
            << " of them poisoned\n";
  EXPECT_GT(tally.items, tally.steps / 20) << "the handle does nothing";
  EXPECT_GT(tally.poisoned, tally.pairs / 10);
  for (size_t word = 0; word < kWords; ++word) {
    for (const int64_t times : tally.lies[word]) EXPECT_GT(times, 0) << word;
  }
}

// Reads the ends of a span, and says how long it is.
template <class T>
uint64_t Use(std::span<T> span) {
  if (span.empty()) return 0;
  const T* ends[] = {&span.front(), &span.back()};
  for (const T* end : ends) (void)*static_cast<const volatile T*>(end);
  return span.size();
}

// A wait now and then: its system calls take longer than all else.
inline RingWaitOptions Patience(Liar& liar) {
  const bool sleeps = liar.Random() % 64 == 0;
  return {.deadline = sleeps ? absl::Now() + absl::Microseconds(20)
                             : absl::InfinitePast(),
          .spin = absl::ZeroDuration()};
}

template <class Handle>
void WaitNowAndThen(Handle& handle, Liar& liar, uint64_t n) {
  if (liar.Random() % 1000 != 0) return;
  if (liar.Random() % 2 == 0) {
    handle.wait(n, Patience(liar));
  } else {
    handle.arm(n);
  }
}

// What is at one end of the ring, and how much it has taken out or put in.
template <class Handle>
class Player {
 public:
  Player(Handle handle, Liar& liar) : handle_(std::move(handle)), liar_(liar) {
    EXPECT_TRUE(handle_.event().ok());
  }

  // `ahead`: how far the peer's position may be ahead of this side's. `capacity`: how
  // much this side may know of.
  template <class Operation>
  void Play(uint64_t ahead, uint64_t capacity, Operation operate,
            Tally& tally) {
    uint64_t after_poison = 0;
    for (int step = 0; step < kStepsAPair; ++step) {
      liar_.Lie(position_ + ahead, tally.lies);
      const bool was_poisoned = poisoned_;
      const uint64_t n = operate(*this);
      CheckPoison();
      tally.items += static_cast<int64_t>(n);
      if (was_poisoned) after_poison += n;
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_LE(after_poison, capacity) << "more than was known of";
    tally.steps += kStepsAPair;
    tally.poisoned += poisoned_ ? 1 : 0;
    ++tally.pairs;
  }

  Handle& handle() { return handle_; }
  Liar& liar() { return liar_; }
  uint64_t position() const { return position_; }
  uint64_t released() const { return released_; }
  void Release() { released_ = position_; }

  // This side goes on by n; n is returned.
  uint64_t Pass(uint64_t n) {
    position_ += n;
    return n;
  }

 private:
  // A status that is not OK once stays what it is.
  void CheckPoison() {
    const absl::Status status = handle_.status();
    if (poisoned_ || !status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    }
    if (!status.ok()) {
      EXPECT_FALSE(liar_.honest()) << status;
      poisoned_ = true;
    }
  }

  Handle handle_;
  Liar& liar_;
  uint64_t position_ = 0;
  uint64_t released_ = 0;  // A reader's that releases late.
  bool poisoned_ = false;
};

// A producer without a consumer yet, and a consumer's file that answers.
template <class T>
std::optional<GuardedProducer<T>> Accepted(HostileFile& file) {
  file.Seal();
  auto producer = GuardedProducer<T>::Create(kCapacityBytes / sizeof(T));
  EXPECT_TRUE(producer.ok()) << producer.status();
  file.Answer(*producer->Invite());
  EXPECT_TRUE(producer->Accept().ok());
  return *std::move(producer);
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_FAULT_HOSTILE_PLAYER_H_
