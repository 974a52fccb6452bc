// SPDX-License-Identifier: Apache-2.0
//
// Items that can be told apart by their numbers, and queues of such numbers.
//
//   numbers   7 8 9 │ 14 15 │ 16      those between were reserved and abandoned
//   runs     {7, 3}, {14, 2}, {16, 1}
//
// Invariants:
//   1. Items of different numbers differ, unless these are a multiple of a prime apart,
//      which is no ring's lap.
//   2. A thousand items of consecutive numbers cost the model as much as one.
//
// Thread safety: one thread.
// Errors: none.
//
// Example:
//   NumberQueue queue;
//   queue.Push(0, 3);
//   queue.ForEachRun(3, [&](uint64_t at, uint64_t first, uint64_t n) {
//     Require(AreItems(span.data() + at, first, n), "contents");
//   });

#ifndef DOPPEL_TESTS_FUZZ_ITEMS_H_
#define DOPPEL_TESTS_FUZZ_ITEMS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "doppel/tests/fuzz/input.h"

namespace doppel::fuzz {

// 24 bytes: does not divide a page, so that items lie across the wrap.
struct Wide {
  uint64_t number;
  uint64_t inverse;
  uint64_t mixed;
  bool operator==(const Wide&) const = default;
};

template <class T>
inline constexpr uint64_t kPeriod = sizeof(T) == 1 ? 251 : 1021;
// The longest run.
inline constexpr uint64_t kMostItems = 1 << 14;

template <class T>
T MakeItem(uint64_t number) {
  if constexpr (std::is_same_v<T, std::string>) {
    // Some of them on the heap, where ASan sees each that is lost or freed twice.
    return std::string(number % 4 * 6, 'a') + std::to_string(number);
  } else if constexpr (std::is_same_v<T, Wide>) {
    return {number, ~number, number * 0x9e3779b97f4a7c15};
  } else {
    return static_cast<T>(number + 1);
  }
}

// The items by their numbers, from `first` on. Made once: to make each anew would take
// longer than what is tested.
template <class T>
const T* ItemsFrom(uint64_t first) {
  static const auto* const table = [] {
    auto* made = new std::vector<T>;
    for (uint64_t i = 0; i < kPeriod<T> + kMostItems; ++i) {
      made->push_back(MakeItem<T>(i % kPeriod<T>));
    }
    return made;
  }();
  return table->data() + first % kPeriod<T>;
}

template <class T>
T ItemOf(uint64_t number) {
  return *ItemsFrom<T>(number);
}

// Stores the items of numbers `first` to `first + n`.
template <class T>
void StoreItems(T* to, uint64_t first, uint64_t n) {
  std::copy_n(ItemsFrom<T>(first), n, to);
}

template <class T>
bool AreItems(const T* at, uint64_t first, uint64_t n) {
  const T* const expected = ItemsFrom<T>(first);
  if constexpr (std::is_trivially_copyable_v<T>) {
    return n == 0 || std::memcmp(at, expected, n * sizeof(T)) == 0;
  } else {
    return std::equal(at, at + n, expected);
  }
}

// A std::deque of numbers, but of runs of them.
class NumberQueue {
 public:
  uint64_t size() const { return size_; }

  void Push(uint64_t first, uint64_t n) {
    if (n == 0) return;
    runs_.push_back({first, n});
    size_ += n;
  }

  // REQUIRES: n <= size().
  void Pop(uint64_t n) {
    Require(n <= size_, "the model has them");
    size_ -= n;
    while (n > 0) {
      Run& run = runs_[head_];
      const uint64_t some = std::min(n, run.n);
      run.first += some;
      run.n -= some;
      n -= some;
      if (run.n == 0) ++head_;
    }
    if (size_ == 0) Clear();
  }

  void Clear() {
    runs_.clear();  // Keeps its memory: the fuzzer takes growth for a leak.
    head_ = 0;
    size_ = 0;
  }

  // Moves all of `from` to this one's end.
  void Take(NumberQueue& from) {
    from.ForEachRun(from.size(), [this](uint64_t, uint64_t first, uint64_t n) {
      Push(first, n);
    });
    from.Clear();
  }

  // Calls f(index, first, n) for the runs that the `wanted` oldest numbers are.
  template <class F>
  void ForEachRun(uint64_t wanted, F f) const {
    uint64_t at = 0;
    for (size_t i = head_; at < wanted; ++i) {
      const uint64_t n = std::min(wanted - at, runs_[i].n);
      f(at, runs_[i].first, n);
      at += n;
    }
  }

 private:
  struct Run {
    uint64_t first;
    uint64_t n;
  };

  std::vector<Run> runs_;
  size_t head_ = 0;  // The first that is not popped.
  uint64_t size_ = 0;
};

}  // namespace doppel::fuzz

#endif  // DOPPEL_TESTS_FUZZ_ITEMS_H_
