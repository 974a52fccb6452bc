// SPDX-License-Identifier: Apache-2.0
//
// A ring as the best open-source single-producer, single-consumer queues are made:
// one array, two indices, each beside a cached copy of the other. The peer that
// shows what the mirror, the handles and line ownership add.
//
//   line 0: write_index, cached read_index      (the producer's)
//   line 1: read_index, cached write_index      (the consumer's)
//   array:  size slots, one of them always empty
//
// Invariants:
//   1. read_index == write_index: empty. write_index + 1 == read_index: full.
//   2. What wraps is copied in two pieces.
//
// Thread safety: one producer, one consumer.
// Errors: none; std::bad_alloc at construction.
//
// Example:
//   IndexRing<uint64_t> ring(512);
//   if (ring.Push(7)) ...

#ifndef DOPPEL_BENCH_CONTAINERS_INDEX_RING_H_
#define DOPPEL_BENCH_CONTAINERS_INDEX_RING_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace doppel::bench {

template <class T>
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): lines of their own.
class IndexRing {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit IndexRing(size_t capacity) : slots_(capacity + 1) {}

  bool Push(const T& item) {
    const size_t write = write_index_.load(std::memory_order_relaxed);
    const size_t next = write + 1 == slots_.size() ? 0 : write + 1;
    if (next == cached_read_) {
      cached_read_ = read_index_.load(std::memory_order_acquire);
      if (next == cached_read_) return false;
    }
    slots_[write] = item;
    write_index_.store(next, std::memory_order_release);
    return true;
  }

  bool Pop(T& item) {
    const size_t read = read_index_.load(std::memory_order_relaxed);
    if (read == cached_write_) {
      cached_write_ = write_index_.load(std::memory_order_acquire);
      if (read == cached_write_) return false;
    }
    item = slots_[read];
    const size_t next = read + 1 == slots_.size() ? 0 : read + 1;
    read_index_.store(next, std::memory_order_release);
    return true;
  }

  // All of `head` and then `body`, or nothing; published together.
  bool PushBoth(std::span<const T> head, std::span<const T> body) {
    const size_t wanted = head.size() + body.size();
    const size_t write = write_index_.load(std::memory_order_relaxed);
    if (Free(write, cached_read_) < wanted) {
      cached_read_ = read_index_.load(std::memory_order_acquire);
      if (Free(write, cached_read_) < wanted) return false;
    }
    write_index_.store(CopyIn(CopyIn(write, head), body),
                       std::memory_order_release);
    return true;
  }

  // As many of `items` as there is room for.
  size_t PushSome(std::span<const T> items) {
    const size_t write = write_index_.load(std::memory_order_relaxed);
    if (Free(write, cached_read_) < items.size()) {
      cached_read_ = read_index_.load(std::memory_order_acquire);
    }
    const size_t n = std::min(items.size(), Free(write, cached_read_));
    if (n == 0) return 0;
    write_index_.store(CopyIn(write, items.first(n)),
                       std::memory_order_release);
    return n;
  }

  // As many as there are, at most items.size().
  size_t PopSome(std::span<T> items) {
    const size_t read = read_index_.load(std::memory_order_relaxed);
    if (Held(cached_write_, read) < items.size()) {
      cached_write_ = write_index_.load(std::memory_order_acquire);
    }
    const size_t n = std::min(items.size(), Held(cached_write_, read));
    if (n == 0) return 0;
    const size_t first = std::min(n, slots_.size() - read);
    std::memcpy(items.data(), &slots_[read], first * sizeof(T));
    std::memcpy(items.data() + first, slots_.data(), (n - first) * sizeof(T));
    read_index_.store(Advanced(read, n), std::memory_order_release);
    return n;
  }

 private:
  size_t Held(size_t write, size_t read) const {
    return write >= read ? write - read : write + slots_.size() - read;
  }
  size_t Free(size_t write, size_t read) const {
    return slots_.size() - 1 - Held(write, read);
  }
  size_t Advanced(size_t index, size_t n) const {
    index += n;
    return index >= slots_.size() ? index - slots_.size() : index;
  }
  size_t CopyIn(size_t write, std::span<const T> items) {
    const size_t first = std::min(items.size(), slots_.size() - write);
    std::memcpy(&slots_[write], items.data(), first * sizeof(T));
    std::memcpy(slots_.data(), items.data() + first,
                (items.size() - first) * sizeof(T));
    return Advanced(write, items.size());
  }

  std::vector<T> slots_;  // One more than the capacity.
  alignas(128) std::atomic<size_t> write_index_{0};
  size_t cached_read_ = 0;  // The producer's.
  alignas(128) std::atomic<size_t> read_index_{0};
  size_t cached_write_ = 0;  // The consumer's.
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_INDEX_RING_H_
