// SPDX-License-Identifier: Apache-2.0
//
// A ring whose producer never waits: when it is full, the oldest items give way. One or
// many consumers, each of which sees every item that it takes in time, and learns how
// many it did not. For telemetry, market data, the last events before now.
//
//   addresses │ guard │ 8 9 · 3 4 5 6 7 │ 8 9 · 3 4 5 6 7 │ guard │
//                           ▲ └─── intact ────┘
//                           └ being overwritten: 10
//
//   Writer ── stores [its position] and [oldest] ──▶ each Reader loads them
//
// A reader copies items out, and then looks whether they had begun to be overwritten
// (internal/overwrite_protocol.h). One that was overrun goes on at the oldest item that
// is intact, and adds what it missed to lost(). If it is overrun again before it has
// copied one, it goes on in the middle of what is intact.
//
// Invariants:
//   1. Each reader gets items whole, in the order in which they went in, and none twice.
//   2. What a reader got and what it lost add up to what was pushed since it began, and
//      to nothing else, once it has found the ring empty.
//   3. Pushing is wait-free, and never fails. What readers do makes no difference to it:
//      they store no word that the producer loads.
//   4. At least the newest capacity() - max(1, capacity() / 16) items are intact (a lap,
//      less the slots that the producer takes at a time).
//   5. A reader copies again only if the producer overwrote all that it had copied.
//   6. No operation of a handle but event allocates or faults. None makes a system call while no
//      reader waits, but wait, arm and event.
//   7. One byte past either end of the memory faults.
//
// Items are trivially copyable, and go in and out by relaxed atomic words, since they
// may be overwritten while they are read: there is nothing to read in place. Items of a
// multiple of 8 bytes are the fastest; std::byte the slowest.
//
// A reader looks at a word of the producer's once a call. Take many at a time:
//
//   std::array<Event, 64> events;
//   while (const size_t n = reader.pop(events)) Use(std::span(events).first(n));
//
// A reader can wait, or be told by an event (internal/broadcast_wait.h). The producer
// wakes it with a system call, once for each time that it sleeps.
//
// Thread safety: one thread at a time holds the Writer, one at a time each Reader; a
//   handle may be given to another thread by what synchronizes the two. reader(),
//   readers(), statistics() and the constants may be called from any thread.
// Fork: the ring belongs to the process that made it. A child of fork(2) has the
//   items' pages in common with it, but not the positions, so that it must not use a
//   handle. Destroying ring and handles there leaves the ring alone.
// Errors: Create, reader() and event() return a Status. Operations return false, a
//   count or a RingWait. Nothing throws.
//
// Example:
//   absl::StatusOr<OverwritingRing<int>> ring = OverwritingRing<int>::Create(1000);
//   auto reader = ring->reader();
//   ring->writer().push(7);
//   std::optional<int> seven = reader->try_pop();
//   if (reader->lost() > 0) Report(reader->lost());

#ifndef DOPPEL_CONTAINERS_OVERWRITING_RING_H_
#define DOPPEL_CONTAINERS_OVERWRITING_RING_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/broadcast_storage.h"
#include "doppel/containers/internal/overwrite_reader.h"
#include "doppel/containers/internal/overwrite_writer.h"

namespace doppel {

struct OverwritingRingOptions {
  // Where the items' pages come from. nullptr: Arena::Default().
  std::shared_ptr<Arena> arena = nullptr;
  // How many readers there may be at once, at most 4096.
  uint32_t max_readers = 16;
};

// What happened to a ring since it was made. Numbers are of items.
struct OverwritingRingStatistics {
  uint64_t pushed = 0;
  // How often a reader was overrun, and by how much: of all readers together.
  uint64_t overruns = 0;
  uint64_t lost = 0;
  // The most that a reader had before it when it looked, at most the capacity.
  uint64_t high_water = 0;
};

// Where a reader begins.
enum class OverwritingRingStart : uint8_t {
  kNewest,  // Gets what is pushed from now on.
  kOldest,  // What is intact, too.
};

template <class T = uint64_t>
class OverwritingRing {
  static_assert(std::is_object_v<T> && std::is_same_v<T, std::remove_cv_t<T>>);
  static_assert(std::is_trivially_copyable_v<T>, "see \"Items\" above");

 public:
  using value_type = T;
  using Options = OverwritingRingOptions;
  using Statistics = OverwritingRingStatistics;
  using Start = OverwritingRingStart;
  class Writer;
  class Reader;

  // A ring of at least `min_capacity` items; the memory is rounded up to whole pages of
  // the arena, and capacity() says how many items that holds.
  // Fails as BroadcastRing::Create does.
  static absl::StatusOr<OverwritingRing> Create(size_t min_capacity,
                                                const Options& options = {}) {
    absl::StatusOr<std::unique_ptr<internal::BroadcastStorage>> storage =
        internal::MakeBroadcastStorage(
            {.min_capacity_items = min_capacity, .item_bytes = sizeof(T)},
            internal::OnFull::kOverwrite, options.arena, options.max_readers);
    if (!storage.ok()) return storage.status();
    return OverwritingRing(*std::move(storage));
  }

  // Handles stay valid when the ring is moved. A ring that was moved from may only be
  // destroyed or assigned to.
  OverwritingRing(OverwritingRing&&) noexcept = default;
  OverwritingRing& operator=(OverwritingRing&&) noexcept = default;

  // REQUIRES: no handle lives.
  ~OverwritingRing() = default;

  size_t capacity() const { return storage_->capacity_items; }
  uint32_t max_readers() const { return storage_->max_readers; }

  // Bytes of memory that hold items; the alias does not count.
  size_t memory_bytes() const { return storage_->mirror.size_bytes(); }

  // Readers now.
  uint32_t readers() const { return storage_->Readers(); }

  // Each is a moment's value. Cost the hot paths nothing.
  Statistics statistics() const;

  // The producer's handle. REQUIRES: no other Writer of this ring lives.
  Writer writer() { return Writer(*storage_); }

  // A handle for one more consumer. ResourceExhausted if there are max_readers().
  absl::StatusOr<Reader> reader(Start start = Start::kNewest) {
    const absl::StatusOr<internal::BroadcastSeat*> seat =
        storage_->JoinOverwritten();
    if (!seat.ok()) return seat.status();
    return Reader(*storage_, *seat,
                  start == Start::kNewest ? (*seat)->overwrite_watch->Newest()
                                          : (*seat)->overwrite_watch->Oldest());
  }

 private:
  explicit OverwritingRing(std::unique_ptr<internal::BroadcastStorage> storage)
      : storage_(std::move(storage)) {}

  // On the heap: handles point to it. Null after a move.
  std::unique_ptr<internal::BroadcastStorage> storage_;
};

// The producer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to.
template <class T>
class OverwritingRing<T>::Writer
    : private internal::OverwriteWriter<sizeof(T)> {
  using Base = internal::OverwriteWriter<sizeof(T)>;

 public:
  Writer(Writer&&) noexcept = default;
  Writer& operator=(Writer&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Writer() = default;

  // Appends one item. Readers see it at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void push(const T& item) {
    Base::PushOne(reinterpret_cast<const std::byte*>(&item));
  }

  // Appends all items, in pieces of at most a sixteenth of the capacity, each published
  // at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void push(std::span<const T> items) {
    while (!items.empty()) {
      const size_t n = std::min<uint64_t>(items.size(), Base::lead());
      Base::PushSome(reinterpret_cast<const std::byte*>(items.data()), n);
      items = items.subspan(n);
    }
  }

  // Says that nothing more comes, and wakes the readers, which still get what is intact.
  // A writer that comes later opens the ring again.
  using Base::close;

  using Base::capacity;

 private:
  friend class OverwritingRing;

  explicit Writer(internal::BroadcastStorage& storage) : Base(storage) {}
};

// A consumer's side: moved, not copied. A handle that was moved from may be destroyed
// or assigned to.
template <class T>
class OverwritingRing<T>::Reader
    : private internal::OverwriteReader<sizeof(T)> {
  using Base = internal::OverwriteReader<sizeof(T)>;

 public:
  Reader(Reader&&) noexcept = default;
  Reader& operator=(Reader&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Reader() = default;

  // Copies the oldest item that this reader has neither got nor lost; false, or
  // nullopt, if there is none.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool try_pop(T& item) {
    Bytes bytes;
    if (!Base::PopOne(bytes.data())) return false;
    std::memcpy(static_cast<void*>(&item), bytes.data(), sizeof(T));
    return true;
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<T> try_pop() {
    Bytes bytes;
    if (!Base::PopOne(bytes.data())) return std::nullopt;
    return std::bit_cast<T>(bytes);
  }

  // Copies up to items.size() of them to `items`, and says how many. What is in `items`
  // behind them is anything.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t pop(std::span<T> items) {
    return Base::PopSome(reinterpret_cast<std::byte*>(items.data()),
                         items.size());
  }

  // Waits until n items are there, of which some may be overwritten before they are
  // taken. Also ends with kClosed and kDeadlineExceeded.
  // REQUIRES: n is 1, or at most capacity() - capacity() / 16: more are not always
  // intact.
  using Base::wait;

  // A descriptor for epoll(7) and its like, which the ring owns, and which is this
  // reader's until its end. It polls as readable once what arm() asked for may have come
  // about. Do not read from it. Fails with what eventfd(2) and membarrier(2) report.
  using Base::event;

  // Asks that the event becomes readable once there may be n items, or the producer
  // closes. What is so already is the result, and the event may not tell of it; only
  // after kArmed wait for it, and then ask again: each item tells it.
  // REQUIRES: event() succeeded; n as wait has it.
  using Base::arm;

  // Items that were overwritten before this reader took them.
  using Base::lost;

  // How far this reader is behind the producer now, in items that are intact.
  using Base::size;

  // Whether the producer has closed. The end is closed(), and after that no item.
  using Base::closed;

  using Base::capacity;

 private:
  friend class OverwritingRing;
  using Bytes = std::array<std::byte, sizeof(T)>;

  Reader(const internal::BroadcastStorage& storage,
         internal::BroadcastSeat* seat, uint64_t position)
      : Base(storage, seat, position) {}
};

template <class T>
OverwritingRingStatistics OverwritingRing<T>::statistics() const {
  constexpr auto kOrder = std::memory_order_relaxed;
  Statistics statistics = {.pushed = storage_->writer.position.load(kOrder)};
  for (const internal::BroadcastSeat& seat : storage_->all_seats()) {
    statistics.overruns += seat.counts.overruns.load(kOrder);
    statistics.lost += seat.counts.lost.load(kOrder);
    statistics.high_water =
        std::max(statistics.high_water, seat.side->high_water.load(kOrder));
  }
  return statistics;
}

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_OVERWRITING_RING_H_
