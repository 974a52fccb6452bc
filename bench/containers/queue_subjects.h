// SPDX-License-Identifier: Apache-2.0
//
// Queues in user space as subjects (ring_subjects.h): boost's, moodycamel's, and a ring
// of indices.
//
// Invariants:
//   1. A message's length and its bytes arrive in this order, and together or soon.
//
// Thread safety: one thread a side.
// Errors: none.
//
// Example:
//   BoostItems queue(4096);
//   auto writer = queue.writer();
//   while (!writer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_QUEUE_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_QUEUE_SUBJECTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>

#include "absl/base/attributes.h"
#include "boost/lockfree/spsc_queue.hpp"
#include "doppel/bench/containers/index_ring.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_load.h"
#include "readerwriterqueue/readerwritercircularbuffer.h"
#include "readerwriterqueue/readerwriterqueue.h"

namespace doppel::bench {

class BoostItems {
 public:
  static constexpr char kName[] = "boost_spsc";
  static constexpr bool kBlocks = false;
  using Queue = boost::lockfree::spsc_queue<uint64_t>;

  struct Writer {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return queue->push(item);
    }
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return PushSome(items);
    }
    size_t PushSome(std::span<const uint64_t> items) {
      return queue->push(items.data(), items.size());
    }
  };
  struct Reader {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return queue->pop(item);
    }
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = queue->pop(items.data(), items.size());
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit BoostItems(size_t bytes) : queue_(bytes / sizeof(uint64_t)) {}
  Writer writer() { return {&queue_}; }
  Reader reader() { return {&queue_}; }

 private:
  Queue queue_;
};

class BoostBytes {
 public:
  static constexpr char kName[] = "boost_spsc";
  static constexpr bool kBlocks = false;
  using Queue = boost::lockfree::spsc_queue<std::byte>;

  struct Writer {
    Queue* queue;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      if (queue->write_available() < sizeof(length) + length) return false;
      queue->push(reinterpret_cast<const std::byte*>(&length), sizeof(length));
      queue->push(message.data(), length);
      return true;
    }
    size_t Stream(std::span<const std::byte> bytes) {
      return queue->push(bytes.data(), bytes.size());
    }
  };
  struct Reader : private MessageBuffer {
    explicit Reader(Queue* of) : queue(of) {}
    size_t Receive(uint64_t& digest) {
      if (queue->read_available() < sizeof(Length)) return 0;
      Length length = 0;
      queue->pop(reinterpret_cast<std::byte*>(&length), sizeof(length));
      const std::span<std::byte> message = Room(length);
      while (queue->read_available() < length) Pause();
      queue->pop(message.data(), length);
      digest += Digest(message.data(), length);
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      const std::span<std::byte> room = Room(kStreamBytes);
      const size_t n = queue->pop(room.data(), room.size());
      use(std::span<const std::byte>(room.first(n)));
      return n;
    }
    Queue* queue;
  };

  explicit BoostBytes(size_t bytes) : queue_(bytes) {}
  Writer writer() { return {&queue_}; }
  Reader reader() { return Reader(&queue_); }

 private:
  Queue queue_;
};

// Both of moodycamel's have no interface for several items: batches go one by one.
template <class Queue>
class MoodycamelItemsOf {
 public:
  static constexpr bool kBlocks = false;

  // try_enqueue never allocates: what the constructor made is what there is.
  struct Writer {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return queue->try_enqueue(item);
    }
    size_t Fill(uint64_t first) {
      size_t n = 0;
      while (n < kBatch && queue->try_enqueue(first + n)) ++n;
      return n;
    }
    size_t PushSome(std::span<const uint64_t> items) {
      size_t n = 0;
      while (n < items.size() && queue->try_enqueue(items[n])) ++n;
      return n;
    }
  };
  struct Reader {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return queue->try_dequeue(item);
    }
    size_t Drain(uint64_t& sum) {
      size_t n = 0;
      for (uint64_t item = 0; n < kBatch && queue->try_dequeue(item); ++n) {
        sum += item;
      }
      return n;
    }
  };

  Writer writer() { return {&queue_}; }
  Reader reader() { return {&queue_}; }

 protected:
  explicit MoodycamelItemsOf(size_t items) : queue_(items) {}

 private:
  Queue queue_;
};

// A circle of blocks of 512, each with a slot that stays empty. It never has fewer items
// than it was made for: all its blocks together hold up to a thousand more.
class MoodycamelItems
    : public MoodycamelItemsOf<moodycamel::ReaderWriterQueue<uint64_t>> {
 public:
  static constexpr char kName[] = "moodycamel_spsc";
  // One less: a ring of 8 KiB is a single block then, and not four.
  explicit MoodycamelItems(size_t bytes)
      : MoodycamelItemsOf(bytes / sizeof(uint64_t) - 1) {}
};

// One array and two semaphores, which spin before they sleep; here nobody waits in them.
class MoodycamelCircularItems
    : public MoodycamelItemsOf<
          moodycamel::BlockingReaderWriterCircularBuffer<uint64_t>> {
 public:
  static constexpr char kName[] = "moodycamel_circular";
  explicit MoodycamelCircularItems(size_t bytes)
      : MoodycamelItemsOf(bytes / sizeof(uint64_t)) {}
};

class IndexItems {
 public:
  static constexpr char kName[] = "index_ring";
  static constexpr bool kBlocks = false;
  using Ring = IndexRing<uint64_t>;

  struct Writer {
    Ring* ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return ring->Push(item);
    }
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return ring->PushSome(items);
    }
  };
  struct Reader {
    Ring* ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return ring->Pop(item);
    }
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = ring->PopSome(items);
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit IndexItems(size_t bytes) : ring_(bytes / sizeof(uint64_t)) {}
  Writer writer() { return {&ring_}; }
  Reader reader() { return {&ring_}; }

 private:
  Ring ring_;
};

class IndexBytes {
 public:
  static constexpr char kName[] = "index_ring";
  static constexpr bool kBlocks = false;
  using Ring = IndexRing<std::byte>;

  struct Writer {
    Ring* ring;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      return ring->PushBoth(std::as_bytes(std::span(&length, 1)), message);
    }
    size_t Stream(std::span<const std::byte> bytes) {
      return ring->PushSome(bytes);
    }
  };
  struct Reader : private MessageBuffer {
    explicit Reader(Ring* of) : ring(of) {}
    // Length and message are published together, so both are there or neither.
    size_t Receive(uint64_t& digest) {
      Length length = 0;
      if (ring->PopSome(std::as_writable_bytes(std::span(&length, 1))) == 0) {
        return 0;
      }
      const std::span<std::byte> message = Room(length);
      ring->PopSome(message);
      digest += Digest(message.data(), length);
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      const std::span<std::byte> room = Room(kStreamBytes);
      const size_t n = ring->PopSome(room);
      use(std::span<const std::byte>(room.first(n)));
      return n;
    }
    Ring* ring;
  };

  explicit IndexBytes(size_t bytes) : ring_(bytes) {}
  Writer writer() { return {&ring_}; }
  Reader reader() { return Reader(&ring_); }

 private:
  Ring ring_;
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_QUEUE_SUBJECTS_H_
