// SPDX-License-Identifier: Apache-2.0
//
// The ways to give each item to several consumers that are compared, each behind the
// same few functions. broadcast_workloads.h has the threads that use them.
//
//   subject(bytes, n) ─┬─ writer()  ─ Push, Fill    (benchmark's thread)
//                      ├─ reader(0) ─ Pop, Drain    (partner)
//                      └─ reader(1) ─ Pop, Drain    (second partner)
//
//   Push / Pop          one item of 8 bytes
//   Fill / Drain        kBatch items of 8 bytes: produced, up to so many summed
//
// Invariants:
//   1. Each subject is used as its documentation shows it at its best.
//   2. Push and Fill end when every consumer's queue has the items; they call wait()
//      when they find no room. Subjects that overwrite never do.
//   3. Pop and Drain return how many items are behind this consumer now: what it got,
//      and what it was overrun by. 0 for "not now".
//
// Thread safety: one thread a handle.
// Errors: a subject that cannot be made throws std::runtime_error.
//
// Example:
//   DoppelBroadcast ring(65536, 2);
//   auto writer = ring.writer();
//   writer.Push(7, [] { Pause(); });

#ifndef DOPPEL_BENCH_CONTAINERS_BROADCAST_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_BROADCAST_SUBJECTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "boost/circular_buffer.hpp"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"

namespace doppel::bench {

template <class Ring>
Ring MakeBroadcast(size_t bytes) {
  absl::StatusOr<Ring> ring = Ring::Create(bytes / sizeof(uint64_t));
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  return *std::move(ring);
}

template <class Ring>
typename Ring::Reader JoinBroadcast(Ring& ring) {
  absl::StatusOr<typename Ring::Reader> reader = ring.reader();
  if (!reader.ok()) throw std::runtime_error(reader.status().ToString());
  return *std::move(reader);
}

class DoppelBroadcast {
 public:
  static constexpr char kName[] = "doppel_broadcast";
  using Ring = BroadcastRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Push(uint64_t item, Wait wait) {
      while (!ring.try_push(item)) wait();
    }
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Fill(uint64_t first, Wait wait) {
      std::span<uint64_t> slots;
      while ((slots = ring.reserve(kBatch)).empty()) wait();
      std::iota(slots.begin(), slots.end(), first);
      ring.commit(kBatch);
    }
  };
  struct Reader {
    Ring::Reader ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Pop(uint64_t& sum) {
      uint64_t item = 0;
      if (!ring.try_pop(item)) return 0;
      sum += item;
      return 1;
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Drain(uint64_t& sum) {
      auto items = ring.peek();
      items = items.first(std::min(items.size(), kBatch));
      sum += Sum(items);
      if (!items.empty()) ring.consume(items.size());
      return items.size();
    }
  };

  DoppelBroadcast(size_t bytes, int /*consumers*/)
      : ring_(MakeBroadcast<Ring>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader(int /*consumer*/) { return {JoinBroadcast(ring_)}; }

 private:
  Ring ring_;
};

class DoppelOverwriting {
 public:
  static constexpr char kName[] = "doppel_overwriting";
  using Ring = OverwritingRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Push(uint64_t item, Wait) {
      ring.push(item);
    }
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Fill(uint64_t first, Wait) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      ring.push(items);
    }
  };
  struct Reader {
    Ring::Reader ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Pop(uint64_t& sum) {
      const uint64_t lost = ring.lost();
      uint64_t item = 0;
      if (!ring.try_pop(item)) return ring.lost() - lost;
      sum += item;
      return ring.lost() - lost + 1;
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Drain(uint64_t& sum) {
      const uint64_t lost = ring.lost();
      std::array<uint64_t, kBatch> items;
      const size_t n = ring.pop(items);
      sum += Sum(std::span(items).first(n));
      return ring.lost() - lost + n;
    }
  };

  DoppelOverwriting(size_t bytes, int /*consumers*/)
      : ring_(MakeBroadcast<Ring>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader(int /*consumer*/) { return {JoinBroadcast(ring_)}; }
  // Of all consumers together.
  uint64_t lost() const { return ring_.statistics().lost; }

 private:
  Ring ring_;
};

// A queue for each consumer, filled in turn.
template <class Items>
class QueueEach {
 public:
  struct Writer {
    QueueEach* self;
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Push(uint64_t item, Wait wait) {
      for (const auto& queue : self->queues_) {
        while (!queue->writer().Push(item)) wait();
      }
    }
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Fill(uint64_t first, Wait wait) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      for (const auto& queue : self->queues_) {
        auto writer = queue->writer();
        size_t done = writer.PushSome(items);
        while (done < kBatch) {
          wait();
          done += writer.PushSome(std::span(items).subspan(done));
        }
      }
    }
  };
  struct Reader {
    typename Items::Reader queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Pop(uint64_t& sum) {
      uint64_t item = 0;
      if (!queue.Pop(item)) return 0;
      sum += item;
      return 1;
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Drain(uint64_t& sum) {
      return queue.Drain(sum);
    }
  };

  QueueEach(size_t bytes, int consumers) {
    for (int i = 0; i < consumers; ++i) {
      queues_.push_back(std::make_unique<Items>(bytes));
    }
  }
  Writer writer() { return {this}; }
  Reader reader(int consumer) {
    return {queues_[static_cast<size_t>(consumer)]->reader()};
  }

 private:
  std::vector<std::unique_ptr<Items>> queues_;
};

class BoostEach : public QueueEach<BoostItems> {
 public:
  static constexpr char kName[] = "boost_spsc_each";
  using QueueEach::QueueEach;
};

class MoodycamelEach : public QueueEach<MoodycamelItems> {
 public:
  static constexpr char kName[] = "moodycamel_spsc_each";
  using QueueEach::QueueEach;
};

// A container under a mutex for each consumer. kOverwrites: boost's circular buffer,
// which overwrites its oldest; else a std::deque.
template <bool kOverwrites>
class MutexEach {
  using Items =
      std::conditional_t<kOverwrites, boost::circular_buffer<uint64_t>,
                         std::deque<uint64_t>>;
  struct Queue {
    std::mutex mutex;
    Items items;
    uint64_t overwritten = 0;  // Since the consumer looked.
    uint64_t lost = 0;
  };

 public:
  static constexpr const char* kName =
      kOverwrites ? "mutex_circular_each" : "mutex_deque_each";

  struct Writer {
    MutexEach* self;
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Push(uint64_t item, Wait wait) {
      for (const auto& queue : self->queues_) {
        while (self->Append(*queue, item, 1) == 0) wait();
      }
    }
    template <class Wait>
    ABSL_ATTRIBUTE_ALWAYS_INLINE void Fill(uint64_t first, Wait wait) {
      for (const auto& queue : self->queues_) {
        size_t done = self->Append(*queue, first, kBatch);
        while (done < kBatch) {
          wait();
          done += self->Append(*queue, first + done, kBatch - done);
        }
      }
    }
  };
  struct Reader {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Pop(uint64_t& sum) {
      return Take(sum, 1);
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Drain(uint64_t& sum) {
      return Take(sum, kBatch);
    }
    size_t Take(uint64_t& sum, size_t most) {
      const std::lock_guard lock(queue->mutex);
      size_t n = std::exchange(queue->overwritten, 0);
      for (size_t i = 0; i < most && !queue->items.empty(); ++i, ++n) {
        sum += queue->items.front();
        queue->items.pop_front();
      }
      return n;
    }
  };

  MutexEach(size_t bytes, int consumers) : capacity_(bytes / sizeof(uint64_t)) {
    for (int i = 0; i < consumers; ++i) {
      queues_.push_back(std::make_unique<Queue>());
      if constexpr (kOverwrites) queues_.back()->items.set_capacity(capacity_);
    }
  }
  Writer writer() { return {this}; }
  Reader reader(int consumer) {
    return {queues_[static_cast<size_t>(consumer)].get()};
  }
  uint64_t lost() const requires kOverwrites {
    uint64_t lost = 0;
    for (const auto& queue : queues_) lost += queue->lost;
    return lost;
  }

 private:
  size_t Append(Queue& queue, uint64_t first, size_t n) {
    const std::lock_guard lock(queue.mutex);
    for (size_t i = 0; i < n; ++i) {
      if (queue.items.size() == capacity_) {
        if (!kOverwrites) return i;
        ++queue.overwritten;
        ++queue.lost;
      }
      queue.items.push_back(first + i);
    }
    return n;
  }

  size_t capacity_;
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_BROADCAST_SUBJECTS_H_
