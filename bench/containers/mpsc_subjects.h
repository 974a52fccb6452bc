// SPDX-License-Identifier: Apache-2.0
//
// The queues of many producers that are compared, each behind the same few functions.
//
//   subject(bytes) ─┬─ producer() ─ Push, Send         (each producer's thread)
//                   └─ consumer() ─ PopSome, TakeSome  (partner)
//
//   Push / PopSome      items of 8 bytes: sent one by one, taken and summed
//   Send / TakeSome     messages of up to kMaxMpscMessageBytes
//
// Invariants:
//   1. Each subject is used as its documentation shows it at its best: what has a
//      bulk interface for its consumer is emptied by it.
//   2. A receiver of messages touches each cache line of each (Digest).
//   3. Functions return 0 or false for "not now"; they never wait but for a mutex.
//
// Thread safety: any number of producers, each with its own handle; one consumer.
// Errors: a subject that cannot be made throws std::runtime_error.
//
// Example:
//   DoppelMpsc ring(65536);
//   auto producer = ring.producer();
//   while (!producer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_MPSC_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_MPSC_SUBJECTS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "boost/lockfree/queue.hpp"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/containers/mpsc_ring.h"

namespace doppel::bench {

inline constexpr size_t kMaxMpscMessageBytes = 512;
// What a consumer takes before it reports, at most.
inline constexpr size_t kMpscBatch = 64;

class DoppelMpsc {
 public:
  static constexpr char kName[] = "doppel_mpsc";

  struct Producer {
    MpscRing::Producer ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return Send(std::as_bytes(std::span(&item, 1)));
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Send(std::span<const std::byte> message) {
      return ring.push(message) == RingRoom::kRoom;
    }
  };
  struct Consumer {
    MpscRing::Consumer ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(uint64_t& sum) {
      return ForSome([&sum](std::span<const std::byte> message) {
        uint64_t item = 0;
        std::memcpy(&item, message.data(), sizeof(item));
        sum += item;
      });
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t TakeSome(uint64_t& digest) {
      return ForSome([&digest](std::span<const std::byte> message) {
        digest += Digest(message.data(), message.size());
      });
    }
    template <class Use>
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t ForSome(Use use) {
      size_t n = 0;
      for (; n < kMpscBatch; ++n) {
        const std::optional<std::span<const std::byte>> message = ring.next();
        if (!message) break;
        use(*message);
      }
      ring.release();
      return n;
    }
  };

  explicit DoppelMpsc(size_t bytes) : ring_(Make(bytes)) {}
  Producer producer() { return {ring_.producer()}; }
  Consumer consumer() { return {ring_.consumer()}; }

 private:
  static MpscRing Make(size_t bytes) {
    absl::StatusOr<MpscRing> ring = MpscRing::Create(bytes);
    if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
    return *std::move(ring);
  }

  MpscRing ring_;
};

// Linked nodes, of which a number is made at first and used again: items only.
class BoostQueue {
 public:
  static constexpr char kName[] = "boost_queue";
  using Queue = boost::lockfree::queue<uint64_t>;

  struct Producer {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return queue->bounded_push(item);
    }
  };
  struct Consumer {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(uint64_t& sum) {
      size_t n = 0;
      for (uint64_t item = 0; n < kMpscBatch && queue->pop(item); ++n) {
        sum += item;
      }
      return n;
    }
  };

  explicit BoostQueue(size_t bytes) : queue_(bytes / sizeof(uint64_t)) {}
  Producer producer() { return {&queue_}; }
  Consumer consumer() { return {&queue_}; }

 private:
  Queue queue_;
};

// A std::deque of items under a mutex.
class MutexDeque {
 public:
  static constexpr char kName[] = "mutex_deque";

  struct Producer {
    MutexDeque* self;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      const std::lock_guard lock(self->mutex_);
      if (self->items_.size() == self->capacity_) return false;
      self->items_.push_back(item);
      return true;
    }
  };
  struct Consumer {
    MutexDeque* self;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(uint64_t& sum) {
      size_t n = 0;
      const std::lock_guard lock(self->mutex_);
      for (; n < kMpscBatch && !self->items_.empty(); ++n) {
        sum += self->items_.front();
        self->items_.pop_front();
      }
      return n;
    }
  };

  explicit MutexDeque(size_t bytes) : capacity_(bytes / sizeof(uint64_t)) {}
  Producer producer() { return {this}; }
  Consumer consumer() { return {this}; }

 private:
  std::mutex mutex_;
  std::deque<uint64_t> items_;
  size_t capacity_;
};

// Two vectors: producers append under a mutex, the consumer swaps them, and reads
// without it. The best that a mutex can do.
class MutexVector {
 public:
  static constexpr char kName[] = "mutex_vector";

  struct Producer {
    MutexVector* self;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return self->Append({}, std::as_bytes(std::span(&item, 1)));
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      return self->Append(std::as_bytes(std::span(&length, 1)), message);
    }
  };
  struct Consumer {
    MutexVector* self;
    std::vector<std::byte> bytes = {};
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(uint64_t& sum) {
      Swap();
      for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
        sum += Word(at);
      }
      return bytes.size() / sizeof(uint64_t);
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t TakeSome(uint64_t& digest) {
      Swap();
      size_t n = 0;
      for (size_t at = 0; at < bytes.size(); ++n) {
        const Length length = Word(at);
        at += sizeof(length);
        digest += Digest(bytes.data() + at, length);
        at += length;
      }
      return n;
    }
    uint64_t Word(size_t at) const {
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, sizeof(word));
      return word;
    }
    void Swap() {
      bytes.clear();
      const std::lock_guard lock(self->mutex_);
      std::swap(bytes, self->bytes_);
    }
  };

  explicit MutexVector(size_t bytes) : capacity_(bytes) {
    bytes_.reserve(bytes);
  }
  Producer producer() { return {this}; }
  Consumer consumer() {
    Consumer consumer = {this};
    consumer.bytes.reserve(capacity_);
    return consumer;
  }

 private:
  bool Append(std::span<const std::byte> head,
              std::span<const std::byte> body) {
    const std::lock_guard lock(mutex_);
    if (capacity_ - bytes_.size() < head.size() + body.size()) return false;
    bytes_.insert(bytes_.end(), head.begin(), head.end());
    bytes_.insert(bytes_.end(), body.begin(), body.end());
    return true;
  }

  std::mutex mutex_;
  std::vector<std::byte> bytes_;
  size_t capacity_;
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_MPSC_SUBJECTS_H_
