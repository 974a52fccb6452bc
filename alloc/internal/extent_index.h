// SPDX-License-Identifier: Apache-2.0
//
// Free runs of a file: best fit, with neighbours joined.
//
//   by offset:  [0,4K) ... [16K,32K) ... [1M,3M)      neighbours of an insertion
//   by size:    4K@0   ... 16K@16K   ... 2M@1M        the smallest that fits
//
// Invariants:
//   1. Runs do not overlap and do not touch: touching runs are one run.
//   2. Both orders hold the same runs.
//   3. No change takes memory: runs are written into what a Stock has in store, and
//      what they stood in goes back there. Only filling a Stock can fail.
//
// Thread safety: none; the arena's mutex guards it and its stock.
// Errors: none. A change costs O(log runs).
//
// Example:
//   ExtentIndex::Stock stock;
//   ExtentIndex free(&stock);
//   if (!stock.Fill(2)) return;
//   free.Insert(0, 1 << 20);
//   std::optional<uint64_t> offset = free.TakeBestFit(4096, 4096);

#ifndef DOPPEL_ALLOC_INTERNAL_EXTENT_INDEX_H_
#define DOPPEL_ALLOC_INTERNAL_EXTENT_INDEX_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <utility>

namespace doppel::internal {

class ExtentIndex {
  using ByOffset = std::map<uint64_t, uint64_t>;
  using BySize = std::set<std::pair<uint64_t, uint64_t>>;

 public:
  struct Run {
    uint64_t offset_bytes;
    uint64_t size_bytes;
  };

  // Room for runs, which several indexes may share.
  class Stock {
   public:
    // How many runs more the indexes can hold.
    size_t size() const { return std::min(by_offset_.size(), by_size_.size()); }

    // Brings size() to `count` at least; false where the heap has no memory.
    bool Fill(size_t count) {
      try {
        while (by_offset_.size() < count) {
          by_offset_.emplace_hint(by_offset_.end(), by_offset_.size(), 0);
        }
        while (by_size_.size() < count) {
          by_size_.emplace_hint(by_size_.end(), by_size_.size(), 0);
        }
      } catch (const std::bad_alloc&) {
        return false;
      }
      return true;
    }

    // Gives what is above `count` back to the heap.
    void ShrinkTo(size_t count) {
      while (by_offset_.size() > count) {
        by_offset_.erase(std::prev(by_offset_.end()));
      }
      while (by_size_.size() > count) {
        by_size_.erase(std::prev(by_size_.end()));
      }
    }

   private:
    friend class ExtentIndex;

    void Put(ByOffset::node_type node) {
      node.key() = by_offset_.size();
      by_offset_.insert(by_offset_.end(), std::move(node));
    }
    void Put(BySize::node_type node) {
      node.value() = {by_size_.size(), 0};
      by_size_.insert(by_size_.end(), std::move(node));
    }

    // Nodes that stand for no run, under the numbers from 0.
    ByOffset by_offset_;
    BySize by_size_;
  };

  // The stock must outlive the index.
  explicit ExtentIndex(Stock* stock) : stock_(*stock) {}
  ExtentIndex(const ExtentIndex&) = delete;
  ExtentIndex& operator=(const ExtentIndex&) = delete;

  uint64_t total_bytes() const { return total_bytes_; }
  size_t runs() const { return by_offset_.size(); }

  // REQUIRES: the run overlaps none that is here; the stock has one.
  void Insert(uint64_t offset_bytes, uint64_t size_bytes) {
    total_bytes_ += size_bytes;
    auto next = by_offset_.lower_bound(offset_bytes);
    if (next != by_offset_.end() && next->first == offset_bytes + size_bytes) {
      size_bytes += next->second;
      next = Erase(next);
    }
    if (next != by_offset_.begin()) {
      const auto previous = std::prev(next);
      if (previous->first + previous->second == offset_bytes) {
        offset_bytes = previous->first;
        size_bytes += previous->second;
        Erase(previous);
      }
    }
    Add(offset_bytes, size_bytes);
  }

  // The offset of `bytes` cut from the smallest run that has them at a multiple of
  // `alignment_bytes` (a power of two). REQUIRES: the stock has one: a cut in the
  // middle of a run leaves two.
  std::optional<uint64_t> TakeBestFit(uint64_t bytes,
                                      uint64_t alignment_bytes) {
    // A run may be large enough and yet hold no aligned place; a few are tried
    // before the search goes on where every run has one.
    auto candidate = by_size_.lower_bound({bytes, 0});
    for (int tries = 0; candidate != by_size_.end(); ++candidate) {
      if (Fits(*candidate, bytes, alignment_bytes)) break;
      if (++tries == kTries) {
        candidate = by_size_.lower_bound({bytes + alignment_bytes, 0});
        break;
      }
    }
    if (candidate == by_size_.end()) return std::nullopt;
    const auto [run_bytes, run_offset] = *candidate;
    const uint64_t offset = AlignUp(run_offset, alignment_bytes);
    Take(by_offset_.find(run_offset), offset, bytes);
    return offset;
  }

  // The start of the run that ends at `end_bytes`, or `end_bytes` if none does.
  uint64_t RunEndingAt(uint64_t end_bytes) const {
    auto run = by_offset_.lower_bound(end_bytes);
    if (run == by_offset_.begin()) return end_bytes;
    --run;
    return run->first + run->second == end_bytes ? run->first : end_bytes;
  }

  // REQUIRES: one run holds all of [offset_bytes, offset_bytes + bytes); the stock
  // has one.
  void TakeAt(uint64_t offset_bytes, uint64_t bytes) {
    Take(std::prev(by_offset_.upper_bound(offset_bytes)), offset_bytes, bytes);
  }

  // Takes from the end of the largest run, `bytes` at most. The stock has one more
  // afterwards if that was all of the run, and as many as before if not.
  std::optional<Run> TakeFromLargest(uint64_t bytes) {
    if (by_size_.empty()) return std::nullopt;
    const auto [run_bytes, run_offset] = *by_size_.rbegin();
    const uint64_t taken_bytes = run_bytes < bytes ? run_bytes : bytes;
    const uint64_t offset = run_offset + run_bytes - taken_bytes;
    Take(by_offset_.find(run_offset), offset, taken_bytes);
    return Run{offset, taken_bytes};
  }

 private:
  static constexpr int kTries = 16;

  static uint64_t AlignUp(uint64_t value, uint64_t alignment_bytes) {
    return (value + alignment_bytes - 1) & ~(alignment_bytes - 1);
  }

  static bool Fits(const std::pair<uint64_t, uint64_t>& run, uint64_t bytes,
                   uint64_t alignment_bytes) {
    const uint64_t skipped = AlignUp(run.second, alignment_bytes) - run.second;
    return run.first >= skipped && run.first - skipped >= bytes;
  }

  void Add(uint64_t offset_bytes, uint64_t size_bytes) {
    ByOffset::node_type place =
        stock_.by_offset_.extract(std::prev(stock_.by_offset_.end()));
    place.key() = offset_bytes;
    place.mapped() = size_bytes;
    by_offset_.insert(std::move(place));
    BySize::node_type rank =
        stock_.by_size_.extract(std::prev(stock_.by_size_.end()));
    rank.value() = {size_bytes, offset_bytes};
    by_size_.insert(std::move(rank));
  }

  ByOffset::iterator Erase(ByOffset::iterator run) {
    const auto next = std::next(run);
    stock_.Put(by_size_.extract({run->second, run->first}));
    stock_.Put(by_offset_.extract(run));
    return next;
  }

  // Cuts [offset, offset + bytes) out of a run.
  void Take(ByOffset::iterator run, uint64_t offset_bytes, uint64_t bytes) {
    const auto [run_offset, run_bytes] = *run;
    Erase(run);
    total_bytes_ -= bytes;
    if (offset_bytes > run_offset) Add(run_offset, offset_bytes - run_offset);
    const uint64_t end = offset_bytes + bytes;
    const uint64_t run_end = run_offset + run_bytes;
    if (run_end > end) Add(end, run_end - end);
  }

  Stock& stock_;
  ByOffset by_offset_;  // Size by offset: finds neighbours.
  BySize by_size_;      // (size, offset): finds the best fit.
  uint64_t total_bytes_ = 0;
};

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_EXTENT_INDEX_H_
