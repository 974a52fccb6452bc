// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue from one thread to many, each of which sees every item, in memory
// that is shown twice back to back: every run of items is one contiguous span, written
// and read in place, also where the ring wraps. The producer waits for the slowest.
//
//   addresses │ guard │ 0 1 2 3 4 5 6 7 │ 0 1 2 3 4 5 6 7 │ guard │
//                           ▲     ▲   └─ free ─┘
//                    Reader ┘     ├ Reader
//                                 └ Writer
//
//   Writer ── stores [its position] ──▶ each Reader loads it
//   Reader ── stores [its position] ──▶ the Writer takes the least of all, plus the
//                                       capacity, when the limit that it knows is used
//                                       up (internal/broadcast_protocol.h)
//
// Consumers join and leave at any time, at most max_readers at once. One that joins
// sees what is published from then on. One that has left holds nobody up. With none,
// the producer never finds the ring full, and what it pushes nobody sees. A consumer
// that stops taking items and does not leave stops the producer: where that must not
// be, use OverwritingRing.
//
// Invariants:
//   1. Each consumer gets every item that was published while it was there, in the
//      order in which they went in, each once.
//   2. No operation of a handle but wait waits, and none but event allocates or faults. (A side at
//      another's heels pauses before it looks again, some microseconds at most:
//      internal/ring_pacing.h.) None makes a system call while nobody waits, but wait,
//      arm and event.
//   3. A push of n items fails only if a consumer has more than capacity() - n that it
//      has not handed back; a pop only if there is nothing for this consumer.
//   4. The producer's cost of a consumer is the load of one line when it looks: about
//      once a lap, and at each push that finds no room. It looks at all max_readers
//      seats, but the lines of free ones stay in its cache.
//   5. One byte past either end of the memory faults.
//
// Items are trivially copyable: many read them, so nobody could be the one who destroys
// them. Consumers write nothing to the lines of items, which all of them read.
//
// Handles hold the cursors, so that the compiler keeps them in registers: keep a
// handle in a local variable of the thread that uses it.
//
//   auto reader = ring->reader();                    // right: joins once
//   while (running) (void)ring->reader()->try_pop(); // wrong: joins anew each time
//
// Either side can wait, or be told by an event (internal/broadcast_wait.h): readers for
// items, the producer for room, which it has too when the slowest reader leaves.
//
//   while (reader->wait() == RingWait::kReady) Use(*reader->try_pop());
//
// Thread safety: one thread at a time holds the Writer, one at a time each Reader; a
//   handle may be given to another thread by what synchronizes the two. reader(),
//   size(), readers(), statistics() and the constants may be called from any thread.
// Fork: the ring belongs to the process that made it. A child of fork(2) has the
//   items' pages in common with it, but not the positions, so that it must not use a
//   handle. Destroying ring and handles there leaves the ring alone.
// Errors: Create, reader() and event() return a Status. Operations return false, a
//   count, an empty span or a RingWait. Nothing throws.
//
// Example:
//   absl::StatusOr<BroadcastRing<int>> ring = BroadcastRing<int>::Create(1000);
//   auto first = ring->reader(), second = ring->reader();
//   ring->writer().try_push(7);
//   std::optional<int> seven = first->try_pop(), again = second->try_pop();

#ifndef DOPPEL_CONTAINERS_BROADCAST_RING_H_
#define DOPPEL_CONTAINERS_BROADCAST_RING_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/broadcast_handle.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel {

struct BroadcastRingOptions {
  // Where the items' pages come from. nullptr: Arena::Default().
  std::shared_ptr<Arena> arena = nullptr;
  // How many readers there may be at once, at most 4096.
  uint32_t max_readers = 16;
};

// What happened to a ring since it was made. Numbers are of items.
struct BroadcastRingStatistics {
  uint64_t pushed = 0;  // Published.
  // Calls that found too little room, and how often that began.
  uint64_t push_refusals = 0;
  uint64_t push_stalls = 0;
  // The same of too few items, of all readers together.
  uint64_t pop_refusals = 0;
  uint64_t pop_stalls = 0;
  // The most that the slowest reader had before it, when somebody looked.
  uint64_t high_water = 0;
};

template <class T = std::byte>
class BroadcastRing {
  static_assert(std::is_object_v<T> && std::is_same_v<T, std::remove_cv_t<T>>);
  static_assert(std::is_trivially_copyable_v<T>, "see \"Items\" above");
  static_assert(alignof(T) <= 4096, "items are aligned within pages");

 public:
  using value_type = T;
  using Options = BroadcastRingOptions;
  using Statistics = BroadcastRingStatistics;
  class Writer;
  class Reader;

  // A ring of at least `min_capacity` items; the memory is rounded up to whole pages of
  // the arena, and capacity() says how many items that holds.
  // Fails with InvalidArgument for 0 items and for a max_readers of 0 or above 4096,
  // OutOfRange if the size in bytes overflows the address space, ResourceExhausted for
  // more than the machine's memory, and with what the arena and mmap(2) report; nothing
  // is held then.
  static absl::StatusOr<BroadcastRing> Create(size_t min_capacity,
                                              const Options& options = {}) {
    absl::StatusOr<std::unique_ptr<internal::BroadcastStorage>> storage =
        internal::MakeBroadcastStorage(
            {.min_capacity_items = min_capacity, .item_bytes = sizeof(T)},
            internal::OnFull::kRefuse, options.arena, options.max_readers);
    if (!storage.ok()) return storage.status();
    return BroadcastRing(*std::move(storage));
  }

  // Handles stay valid when the ring is moved. A ring that was moved from may only be
  // destroyed or assigned to.
  BroadcastRing(BroadcastRing&&) noexcept = default;
  BroadcastRing& operator=(BroadcastRing&&) noexcept = default;

  // REQUIRES: no handle lives. Items that are left are forgotten.
  ~BroadcastRing() = default;

  size_t capacity() const { return storage_->capacity_items; }
  uint32_t max_readers() const { return storage_->max_readers; }

  // Bytes of memory that hold items; the alias does not count.
  size_t memory_bytes() const { return storage_->mirror.size_bytes(); }

  // Items that the slowest reader has not handed back, 0 without readers: exact while
  // no handle is in use, else a moment's value.
  size_t size() const { return storage_->Size(); }
  bool empty() const { return size() == 0; }

  // Readers now.
  uint32_t readers() const { return storage_->Readers(); }

  // Counters that cost the hot paths nothing: they change when a side finds too little.
  // Each is a moment's value.
  Statistics statistics() const;

  // The producer's handle. REQUIRES: no other Writer of this ring lives.
  Writer writer() { return Writer(*storage_); }

  // A handle for one more consumer, which gets what is published from now on.
  // ResourceExhausted if there are max_readers(). (In the canonical build,
  // internal/mirror.h, it takes memory, and fails with what the arena reports, too.)
  absl::StatusOr<Reader> reader() {
    absl::StatusOr<std::pair<internal::BroadcastHold, internal::RingEnd>>
        joined = storage_->Join();
    if (!joined.ok()) return joined.status();
    return Reader(joined->second, std::move(joined->first));
  }

 private:
  explicit BroadcastRing(std::unique_ptr<internal::BroadcastStorage> storage)
      : storage_(std::move(storage)) {}

  // On the heap: handles point to it. Null after a move.
  std::unique_ptr<internal::BroadcastStorage> storage_;
};

// The producer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to. What was staged and not published is gone with it. Functions are
// RingWriter's, which says more of them.
template <class T>
class BroadcastRing<T>::Writer
    : private RingWriter<T, internal::BroadcastWriterHandle> {
  using Base = RingWriter<T, internal::BroadcastWriterHandle>;

 public:
  Writer(Writer&&) noexcept = default;
  Writer& operator=(Writer&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Writer() = default;

  // Appends one item; false if there is no room. Readers see it at once.
  using Base::try_push;

  // Appends as many of `items` as there is room for, from the front, and says how many.
  // They are published together.
  using Base::push;

  // The next n slots, after those that are staged, as one span to write to, or an empty
  // span if fewer than n are free; more than capacity() never are. The span is valid
  // until the next call of stage, commit or reserve. What is not staged is forgotten.
  using Base::reserve;

  // The first n slots of the last reservation are done; readers see them after the next
  // publish. REQUIRES: n <= what was reserved.
  using Base::stage;

  // Hands all that is staged to the readers, at once.
  using Base::publish;

  // Stages the first n slots of the last reservation, and publishes.
  using Base::commit;

  // Publishes, and waits until n slots are free. Also ends with kDeadlineExceeded.
  // REQUIRES: n <= capacity().
  using Base::wait;

  // A descriptor for epoll(7) and its like, which the ring owns. It polls as readable
  // once what arm() asked for may have come about. Do not read from it. Fails with what
  // eventfd(2) and membarrier(2) report.
  using Base::event;

  // Publishes, and asks that the event becomes readable once n slots may be free. What
  // is so already is the result, and the event may not tell of it; only after kArmed
  // wait for it, and then ask again: each reader that goes on far enough tells it.
  // REQUIRES: event() succeeded; n <= capacity().
  using Base::arm;

  // Says that nothing more comes, and wakes the readers, which still get the rest. A
  // writer that comes later opens the ring again.
  using Base::close;

  // Free slots now; readers may add to them at any time.
  using Base::free;

  using Base::capacity;

 private:
  friend class BroadcastRing;

  explicit Writer(internal::BroadcastStorage& storage) : Base(storage) {}
};

// A consumer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to. Its end is the consumer's leaving. Functions are RingReader's, which
// says more of them, as far as they are right where there are other readers.
template <class T>
class BroadcastRing<T>::Reader
    : private RingReader<T, internal::BroadcastReaderHandle> {
  using Base = RingReader<T, internal::BroadcastReaderHandle>;

 public:
  Reader(Reader&&) noexcept = default;
  Reader& operator=(Reader&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Reader() = default;

  // Copies the oldest item that this reader has not finished; false, or nullopt, if
  // there is none.
  using Base::try_pop;

  // Copies up to items.size() of them to `items`, and says how many.
  size_t pop(std::span<T> items) { return Base::pop(items); }

  // All that this reader knows of, to be read in place, and at least `at_least`; empty
  // if there are fewer. Valid until the next peek, or until they are finished.
  using Base::peek;

  // Is done with the n oldest. REQUIRES: n <= what the last peek showed.
  using Base::finish;

  // Hands what is finished back to the producer.
  using Base::release;

  // Finishes n, and releases.
  using Base::consume;

  // How far this reader is behind the producer now, in items.
  using Base::size;

  // Whether there is nothing for this reader. Looks at the producer's position only if
  // no item is known of.
  using Base::empty;

  // Releases what is finished, and waits until n items are there. Also ends with
  // kClosed and kDeadlineExceeded. REQUIRES: n <= capacity().
  using Base::wait;

  // A descriptor for epoll(7) and its like, which the ring owns, and which is this
  // reader's until it leaves. It polls as readable once what arm() asked for may have
  // come about. Do not read from it. Fails with what eventfd(2) and membarrier(2)
  // report.
  using Base::event;

  // Releases what is finished, and asks that the event becomes readable once there may
  // be n items, or the producer closes. What is so already is the result, and the event
  // may not tell of it; only after kArmed wait for it, and then ask again: each item
  // tells it. REQUIRES: event() succeeded; n <= capacity().
  using Base::arm;

  // Whether the producer has closed. The end is closed(), and after that no item.
  using Base::closed;

  using Base::capacity;

 private:
  friend class BroadcastRing;

  Reader(const internal::RingEnd& end, internal::BroadcastHold hold)
      : Base(end, std::move(hold)) {}
};

template <class T>
BroadcastRingStatistics BroadcastRing<T>::statistics() const {
  constexpr auto kOrder = std::memory_order_relaxed;
  const RingSide<>& writer = storage_->writer;
  Statistics statistics = {.pushed = writer.position.load(kOrder),
                           .push_refusals = writer.refusals.load(kOrder),
                           .push_stalls = writer.stalls.load(kOrder),
                           .high_water = writer.high_water.load(kOrder)};
  for (const RingSide<>& side : storage_->all_sides()) {
    statistics.pop_refusals += side.refusals.load(kOrder);
    statistics.pop_stalls += side.stalls.load(kOrder);
    statistics.high_water =
        std::max(statistics.high_water, side.high_water.load(kOrder));
  }
  return statistics;
}

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_BROADCAST_RING_H_
