// SPDX-License-Identifier: Apache-2.0
//
// moodycamel's ConcurrentQueue as subjects of many producers (mpsc_subjects.h): items,
// and messages in two ways that its users have, a std::vector each or a block of the
// largest size.
//
//   producer 0 ─ token ─▶ sub-queue ─┐
//                                    ├─ token ─▶ consumer, 64 at a time
//   producer 1 ─ token ─▶ sub-queue ─┘
//
// Invariants:
//   1. Every producer has a token and so a sub-queue of its own, and the consumer takes
//      in bulk: what the queue's documentation calls fastest.
//   2. The queue is as large as the ring. It has no bound of its own; what its
//      documentation offers is one for each sub-queue, when it is compiled, which costs
//      nothing between blocks of 32. (try_enqueue on blocks made at first bounds only the
//      sum, and a producer keeps each block that it got: the other might never get any.)
//   3. Blocks have the size that they have by default, as the users' have.
//
// Thread safety: any number of producers, each with its own handle; one consumer.
// Errors: another size than the one compiled in throws std::runtime_error.
//
// Example:
//   MoodycamelMpsc<65536, 2> queue(65536);
//   auto producer = queue.producer();
//   while (!producer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_MOODYCAMEL_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_MOODYCAMEL_SUBJECTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "boost/container/static_vector.hpp"
#include "concurrentqueue/concurrentqueue.h"
#include "doppel/bench/containers/mpsc_subjects.h"
#include "doppel/bench/containers/ring_load.h"

namespace doppel::bench {

template <size_t kMost>
struct BoundedSubqueues : moodycamel::ConcurrentQueueDefaultTraits {
  static constexpr size_t MAX_SUBQUEUE_SIZE = kMost;
};

// A queue of up to kMost elements for each producer, and its handles.
template <class Element, size_t kMost>
class MoodycamelOf {
 public:
  using Queue = moodycamel::ConcurrentQueue<Element, BoundedSubqueues<kMost>>;

  struct Producer {
    Queue* queue;
    moodycamel::ProducerToken token;
    Element unsent = {};  // Of Send, while there is no room.
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return queue->enqueue(token, item);
    }
    // What finds no room is not moved from: it is made once, however often it is tried.
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Send(std::span<const std::byte> message) {
      if (unsent.empty()) unsent.assign(message.begin(), message.end());
      if (!queue->enqueue(token, std::move(unsent))) return false;
      unsent.clear();
      return true;
    }
  };
  struct Consumer {
    Queue* queue;
    moodycamel::ConsumerToken token;
    std::array<Element, kMpscBatch> taken = {};
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t PopSome(uint64_t& sum) {
      const size_t n = Take();
      sum += Sum(std::span(taken).first(n));
      return n;
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t TakeSome(uint64_t& digest) {
      const size_t n = Take();
      for (const Element& message : std::span(taken).first(n)) {
        digest += Digest(message.data(), message.size());
      }
      return n;
    }
    size_t Take() {
      return queue->try_dequeue_bulk(token, taken.begin(), taken.size());
    }
  };

  Producer producer() { return {&queue_, moodycamel::ProducerToken(queue_)}; }
  Consumer consumer() { return {&queue_, moodycamel::ConsumerToken(queue_)}; }

 protected:
  MoodycamelOf(size_t bytes, size_t compiled_bytes) {
    if (bytes != compiled_bytes) {
      throw std::runtime_error("the queue's size is compiled in");
    }
  }

 private:
  Queue queue_;
};

template <size_t kBytes, size_t kProducers>
class MoodycamelMpsc
    : public MoodycamelOf<uint64_t, kBytes / kProducers / sizeof(uint64_t)> {
 public:
  static constexpr char kName[] = "moodycamel_mpmc";
  explicit MoodycamelMpsc(size_t bytes)
      : MoodycamelMpsc::MoodycamelOf(bytes, kBytes) {}
};

// What a message of medium length needs: the vector, its bytes, and malloc's word.
inline constexpr size_t kVectorMessageBytes =
    sizeof(std::vector<std::byte>) + kMaxMpscMessageBytes / 2 + sizeof(size_t);

template <size_t kBytes, size_t kProducers>
class MoodycamelVectors
    : public MoodycamelOf<std::vector<std::byte>,
                          kBytes / kProducers / kVectorMessageBytes> {
 public:
  static constexpr char kName[] = "moodycamel_vectors";
  explicit MoodycamelVectors(size_t bytes)
      : MoodycamelVectors::MoodycamelOf(bytes, kBytes) {}
};

// Copies what there is, not what there is room for, and allocates nothing.
using MessageBlock =
    boost::container::static_vector<std::byte, kMaxMpscMessageBytes>;

template <size_t kBytes, size_t kProducers>
class MoodycamelBlocks
    : public MoodycamelOf<MessageBlock,
                          kBytes / kProducers / sizeof(MessageBlock)> {
 public:
  static constexpr char kName[] = "moodycamel_blocks";
  explicit MoodycamelBlocks(size_t bytes)
      : MoodycamelBlocks::MoodycamelOf(bytes, kBytes) {}
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_MOODYCAMEL_SUBJECTS_H_
