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
//      another's heels pauses before it looks again, a quarter of a microsecond at most:
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
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/broadcast_wait.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"

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
  BroadcastRing& operator=(BroadcastRing&& other) noexcept {
    if (this == &other) return *this;
    if (storage_ != nullptr) storage_->CheckNoHandles();
    storage_ = std::move(other.storage_);
    return *this;
  }

  // REQUIRES: no handle lives. Items that are left are forgotten.
  ~BroadcastRing() {
    if (storage_ != nullptr) storage_->CheckNoHandles();
  }

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
  Writer writer() { return Writer(storage_.get()); }

  // A handle for one more consumer, which gets what is published from now on.
  // ResourceExhausted if there are max_readers(). (In the canonical build,
  // internal/mirror.h, it takes memory, and fails with what the arena reports, too.)
  absl::StatusOr<Reader> reader() {
    absl::StatusOr<std::pair<internal::BroadcastHold, internal::RingEnd>>
        joined = storage_->Join();
    if (!joined.ok()) return joined.status();
    return Reader(std::move(joined->first), joined->second);
  }

 private:
  explicit BroadcastRing(std::unique_ptr<internal::BroadcastStorage> storage)
      : storage_(std::move(storage)) {}

  // On the heap: handles point to it. Null after a move.
  std::unique_ptr<internal::BroadcastStorage> storage_;
};

// The producer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to. What was staged and not published is gone with it.
template <class T>
class BroadcastRing<T>::Writer {
  static constexpr bool kMirrored = internal::Mirror::kMaxViews == 2;

 public:
  Writer(Writer&&) noexcept = default;
  Writer& operator=(Writer&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Writer() = default;

  // Appends one item; false if there is no room. Readers see it at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool try_push(const T& item) {
    if (ABSL_PREDICT_FALSE(cursor_.AvailableFor(1) == 0)) return false;
    std::construct_at(reinterpret_cast<T*>(place_.here()), item);
    if constexpr (kMirrored) {
      cursor_.Stage(1);
      if (place_.EndsLine(sizeof(T)) &&
          cursor_.known() > internal::kAheadBytes / sizeof(T)) {
        internal::FetchToWrite(place_.here() + internal::kAheadBytes,
                               sizeof(T));
      }
    } else {
      Pass(1);
    }
    publish();
    return true;
  }

  // Appends as many of `items` as there is room for, from the front, and says how many.
  // They are published together.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t push(std::span<const T> items) {
    const size_t n =
        std::min<uint64_t>(items.size(), cursor_.AvailableFor(items.size()));
    if (n == 0) return 0;
    CopyIn(reinterpret_cast<const std::byte*>(items.data()), n);
    publish();
    return n;
  }

  // The next n slots, after those that are staged, as one span to write to, or an empty
  // span if fewer than n are free; more than capacity() never are. The span is valid
  // until the next call of stage, commit or reserve. What is not staged is forgotten.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<T> reserve(size_t n) {
    if (ABSL_PREDICT_FALSE(cursor_.AvailableFor(n) < n)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) begin = scratch_;
      in_scratch_ = begin == scratch_;
    }
    return {reinterpret_cast<T*>(begin), n};
  }

  // The first n slots of the last reservation are done; readers see them after the next
  // publish. REQUIRES: n <= what was reserved.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void stage(size_t n) {
    ABSL_HARDENING_ASSERT(n <= cursor_.known());
    if constexpr (!kMirrored) {
      if (std::exchange(in_scratch_, false)) {
        CopyIn(scratch_, n);
        return;
      }
    }
    Pass(n);
  }

  // Hands all that is staged to the readers, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void publish() {
    cursor_.Publish();
    storage_->items.Notify();
  }

  // Stages the first n slots of the last reservation, and publishes.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void commit(size_t n) {
    stage(n);
    publish();
  }

  // Publishes, and waits until n slots are free. Also ends with kDeadlineExceeded.
  // REQUIRES: n <= capacity().
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    publish();
    const internal::BroadcastWaited waited =
        internal::WaitForRoom(cursor_, *storage_, n, options);
    cursor_ = waited.cursor;
    return waited.result;
  }

  // A descriptor for epoll(7) and its like, which the ring owns. It polls as readable
  // once what arm() asked for may have come about. Do not read from it. Fails with what
  // eventfd(2) and membarrier(2) report.
  absl::StatusOr<int> event() { return internal::EventOfWriter(*storage_); }

  // Publishes, and asks that the event becomes readable once n slots may be free. What
  // is so already is the result, and the event may not tell of it; only after kArmed
  // wait for it, and then ask again: each reader that goes on far enough tells it.
  // REQUIRES: event() succeeded; n <= capacity().
  RingWait arm(size_t n = 1) {
    publish();
    const internal::BroadcastWaited armed =
        internal::ArmForRoom(cursor_, *storage_, n);
    cursor_ = armed.cursor;
    return armed.result;
  }

  // Says that nothing more comes, and wakes the readers, which still get the rest. A
  // writer that comes later opens the ring again.
  void close() {
    cursor_.Close();
    storage_->items.Notify();
  }

  // Free slots now; readers may add to them at any time.
  size_t free() {
    cursor_.Look();
    return cursor_.known();
  }

  size_t capacity() const { return cursor_.capacity(); }

 private:
  friend class BroadcastRing;

  explicit Writer(internal::BroadcastStorage* storage)
      : claim_(storage->writer_seat.taken),
        cursor_(&*storage->watch),
        place_(storage->PlaceAt(cursor_.position())),
        storage_(storage),
        scratch_(storage->writer_scratch.data()) {
    cursor_.Open();
  }

  // Goes on by n items, which are written.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Pass(size_t n) {
    place_.Advance(n * sizeof(T));
    cursor_.Stage(n);
  }

  // Copies n items to the next slots. REQUIRES: they are free.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void CopyIn(const std::byte* from, size_t n) {
    place_.ForEachRun(n * sizeof(T), [&](std::byte* to, size_t bytes) {
      std::memcpy(to, from, bytes);
      from += bytes;
    });
    Pass(n);
  }

  internal::RingClaim claim_;  // First: what follows is read under it.
  internal::BroadcastCursor<> cursor_;
  internal::RingPlace place_;  // Where the next item goes.
  internal::BroadcastStorage* storage_;
  std::byte* scratch_;       // Canonical build: for spans that wrap.
  bool in_scratch_ = false;  // Whether the last reservation is in scratch_.
};

// A consumer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to. Its end is the consumer's leaving. Functions are RingReader's, which
// says more of them, as far as they are right where there are other readers.
template <class T>
class BroadcastRing<T>::Reader : private internal::BroadcastHold,
                                 private RingReader<T> {
 public:
  Reader(Reader&&) noexcept = default;
  // The ring's own seat is free before the hold of it ends.
  Reader& operator=(Reader&& other) noexcept {
    RingReader<T>::operator=(static_cast<RingReader<T>&&>(other));
    internal::BroadcastHold::operator=(
        static_cast<internal::BroadcastHold&&>(other));
    return *this;
  }
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Reader() = default;

  // Copies the oldest item that this reader has not finished; false, or nullopt, if
  // there is none.
  using RingReader<T>::try_pop;

  // Copies up to items.size() of them to `items`, and says how many.
  size_t pop(std::span<T> items) { return RingReader<T>::pop(items); }

  // All that this reader knows of, to be read in place, and at least `at_least`; empty
  // if there are fewer. Valid until the next peek, or until they are finished.
  using RingReader<T>::peek;

  // Is done with the n oldest. REQUIRES: n <= what the last peek showed.
  using RingReader<T>::finish;

  // Hands what is finished back to the producer.
  using RingReader<T>::release;

  // Finishes n, and releases.
  using RingReader<T>::consume;

  // How far this reader is behind the producer now, in items.
  using RingReader<T>::size;

  // Whether there is nothing for this reader. Looks at the producer's position only if
  // no item is known of.
  using RingReader<T>::empty;

  // Releases what is finished, and waits until n items are there. Also ends with
  // kClosed and kDeadlineExceeded. REQUIRES: n <= capacity().
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    release();
    const internal::RingWaited waited =
        internal::WaitForItems(this->cursor_, this->seat(), n, options);
    this->cursor_ = waited.cursor;
    return waited.result;
  }

  // A descriptor for epoll(7) and its like, which the ring owns, and which is this
  // reader's until it leaves. It polls as readable once what arm() asked for may have
  // come about. Do not read from it. Fails with what eventfd(2) and membarrier(2)
  // report.
  absl::StatusOr<int> event() { return internal::EventOfReader(this->seat()); }

  // Releases what is finished, and asks that the event becomes readable once there may
  // be n items, or the producer closes. What is so already is the result, and the event
  // may not tell of it; only after kArmed wait for it, and then ask again: each item
  // tells it. REQUIRES: event() succeeded; n <= capacity().
  RingWait arm(size_t n = 1) {
    release();
    const internal::RingWaited armed =
        internal::ArmForItems(this->cursor_, this->seat(), n);
    this->cursor_ = armed.cursor;
    return armed.result;
  }

  // Whether the producer has closed. The end is closed(), and after that no item.
  using RingReader<T>::closed;

  using RingReader<T>::capacity;

 private:
  friend class BroadcastRing;

  Reader(internal::BroadcastHold hold, const internal::RingEnd& end)
      : internal::BroadcastHold(std::move(hold)), RingReader<T>(end) {}
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
