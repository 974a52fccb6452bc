// SPDX-License-Identifier: Apache-2.0
//
// What the model knows of the execution that Relacy is at: who touched which word,
// and what the fences passed on.
//
//   thread 0   store A · load B · store S        S: thread 0's alone, no preemption
//   thread 1   load A  · store B                 A, B: a switch may come before each
//
// Relacy tries a switch of threads before each atomic operation, and the number of
// schedules grows exponentially with them. A word that one thread alone touches needs
// none: whatever the other does commutes with it. Which words these are is not
// written down but found: a word counts as one thread's until another touches it, and
// then the search begins anew. The same holds for light fences where no heavy fence
// is ever made.
//
// The fences are those of membarrier(2), as P1202 puts it: a light fence and a heavy
// one are ordered as two sequentially consistent fences are, and so are two heavy
// ones, but two light ones are not.
//
//   light fence:  takes what heavy fences left          leaves for heavy ones
//   heavy fence:  takes what light and heavy ones left  leaves for both
//
// That is what the kernel gives: membarrier makes every thread that runs execute a
// full fence somewhere between two of its instructions, and a light fence (a fence
// for the compiler) stands between two that must not both fall to one side of it.
// Light fences as fences of C++ would be stronger than the machine, and would hide
// the lack of an acquire or a release elsewhere.
//
// Invariants:
//   1. A search that ends without a fault ran from its first execution to its last
//      with one and the same set of shared words.
//   2. An execution begins with nothing left by any fence.
//
// Thread safety: one thread; Relacy's threads are fibers of it.
// Errors: more than kMaxWords words or kMaxThreads threads end the process.
//
// Example:
//   if (Execution::IsShared(word)) rl::ctx().sched();

#ifndef DOPPEL_TESTS_MODEL_EXECUTION_H_
#define DOPPEL_TESTS_MODEL_EXECUTION_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "doppel/tests/model/relacy.h"

namespace doppel::model {

class Execution {
 public:
  static constexpr size_t kMaxWords = 128;
  static constexpr int kMaxThreads = 8;

  // --- For a search ---

  // Before a search: nothing is known to be shared. The search stops after `limit`
  // executions.
  static void Forget(uint64_t limit) {
    touched_ = {};
    heavy_fences_ = false;
    limit_ = limit;
    Restart();
  }
  static void Restart() {
    count_ = 0;
    began_anew_ = false;
  }
  // Whether the search was ended because more is shared than was known.
  static bool BeganAnew() { return began_anew_; }
  static uint64_t Count() { return count_; }

  // --- For a model ---

  // Before its words are made.
  static void Begin() {
    words_ = 0;
    running_ = false;
    left_by_light_ = {};
    left_by_heavy_ = {};
  }
  // After they are made, before the threads run.
  static void Run() {
    if (++count_ > limit_) rl::ctx().rl_until("the limit", RL_INFO);
    running_ = true;
  }
  // After the threads have ended.
  static void End() { running_ = false; }

  // --- For atomics and fences ---

  static size_t AddWord() {
    if (words_ == kMaxWords) std::abort();
    return words_++;
  }

  // Before an operation on the word: true if a switch of threads may come there.
  static bool IsShared(size_t word) {
    if (!running_) return false;
    const uint32_t others = touched_[word] & ~Self();
    if ((touched_[word] & Self()) == 0) {
      touched_[word] |= Self();
      if (others != 0) BeginAnew();
    }
    return others != 0;
  }

  static void LightFence() {
    rl::context& c = rl::ctx();
    if (heavy_fences_) c.sched();
    Take(left_by_heavy_);
    Leave(left_by_light_);
  }

  static void HeavyFence() {
    rl::context& c = rl::ctx();
    if (!heavy_fences_) {
      heavy_fences_ = true;
      BeginAnew();
    }
    c.sched();
    c.atomic_thread_fence_acquire();
    Take(left_by_light_);
    Take(left_by_heavy_);
    Leave(left_by_light_);
    Leave(left_by_heavy_);
    c.atomic_thread_fence_release();
  }

 private:
  // By thread: up to which of its operations is known.
  using Knowledge = std::array<rl::timestamp_t, kMaxThreads>;

  static uint32_t Self() { return uint32_t{1} << rl::thread_index(); }

  static void BeginAnew() {
    began_anew_ = true;
    rl::ctx().rl_until("more is shared", RL_INFO);
  }

  static void Take(const Knowledge& left) {
    rl::context& c = rl::ctx();
    if (c.get_thread_count() > kMaxThreads) std::abort();
    for (int i = 0; i < c.get_thread_count(); ++i) {
      rl::timestamp_t& known = c.threadx_->acq_rel_order_[i];
      known = std::max(known, left[i]);
    }
  }

  static void Leave(Knowledge& left) {
    rl::context& c = rl::ctx();
    for (int i = 0; i < c.get_thread_count(); ++i) {
      left[i] = std::max(left[i], c.threadx_->acq_rel_order_[i]);
    }
  }

  inline static std::array<uint32_t, kMaxWords> touched_ =
      {};                                    // Threads, as a mask.
  inline static bool heavy_fences_ = false;  // Whether one was ever made.
  inline static bool began_anew_ = false;
  inline static uint64_t limit_ = 0;
  inline static uint64_t count_ = 0;  // Executions of this search.

  inline static size_t words_ =
      0;  // Of this execution, in the order of making.
  inline static bool running_ = false;
  inline static Knowledge left_by_light_ = {};
  inline static Knowledge left_by_heavy_ = {};
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_EXECUTION_H_
