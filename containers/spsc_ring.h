// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue from one thread to one other, in memory that is shown twice back
// to back: every run of items is one contiguous span, also where the ring wraps.
//
//   addresses │ guard │ 0 1 2 3 4 5 6 7 │ 0 1 2 3 4 5 6 7 │ guard │
//                               └─ peek() ─┘  one span over the wrap
//
//   Writer (by value, one thread)              Reader (by value, one thread)
//     own position, offset                       own position, offset
//     last seen read_position                    last seen write_position
//          │ stores            loads │               │ stores          loads │
//          ▼                         ▼               ▼                       ▼
//   [write_position]          [read_position]  [read_position]  [write_position]
//          each alone on a line of 128 bytes, on no page that holds items
//
// Invariants:
//   1. Items come out in the order in which they went in, each once.
//   2. Every operation of a handle is wait-free: it loads at most one shared word,
//      stores at most one, and never waits for the other side. (A side at the
//      other's heels pauses before it looks again, a quarter of a microsecond at
//      most: internal/spsc_pacing.h.)
//   3. A push fails only if the ring holds capacity() items, a pop only if it is
//      empty. Neither fails before it has looked at the other side's position, so
//      what was published before the call is seen by it.
//   4. One byte past either end of the memory faults. Every page is there since
//      creation: no operation faults, allocates or calls the kernel.
//   5. What is left is destroyed with the ring.
//
// Handles hold the cursors, so that the compiler keeps them in registers: keep a
// handle in a local variable of the thread that uses it.
//
//   auto writer = ring->writer();              // right: a local of the thread
//   for (...) writer.try_push(item);
//   for (...) ring->writer().try_push(item);   // slow: a handle for each item
//   auto a = ring->writer(), b = ring->writer();  // wrong: one at a time
//
// Line ownership. If the reader only reads, each line of items stays in both caches,
// and each store of the writer's next lap waits until the reader's cache has given
// the line up. If the reader writes a byte to each line that it has consumed, before
// it hands it back, the line is in one cache only, and the writer takes it in one
// transfer. That wins while the ring fits the cache and costs when it does not;
// kAuto turns it on if the memory is not larger than the level-2 cache.
//
// Spans. Items that are trivially copyable are written and read in place, over the
// wrap too: reserve/commit and peek/consume. Other items are built by emplace and
// stay whole in the first view; a span of them ends where it ends, because an object
// that is reached by its alias is another object to whoever holds its address. In
// the canonical build (internal/mirror.h) a span that wraps is a copy in a buffer.
//
// Thread safety: one thread at a time holds the Writer, one at a time the Reader; a
//   handle may be given to another thread by what synchronizes the two. size(),
//   empty() and the constants may be asked from any thread.
// Fork: the ring belongs to the process that made it. A child of fork(2) has the
//   items' pages in common with it, but not the positions, so that it must not take a
//   handle. Destroying the ring there leaves the items alone.
// Errors: Create returns a Status. Operations return false, a count or an empty span.
//   Exceptions come only from T's own constructors and assignments; the item that
//   threw is not in the ring (push) or still in it (pop).
//
// Example:
//   absl::StatusOr<SpscRing<int>> ring = SpscRing<int>::Create(1000);
//   std::thread([writer = ring->writer()]() mutable { writer.try_push(7); }).join();
//   std::optional<int> item = ring->reader().try_pop();

#ifndef DOPPEL_CONTAINERS_SPSC_RING_H_
#define DOPPEL_CONTAINERS_SPSC_RING_H_

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/spsc_protocol.h"
#include "doppel/containers/internal/spsc_shared.h"
#include "doppel/containers/internal/spsc_storage.h"

namespace doppel {

template <class T = std::byte>
class SpscRing {
  static_assert(std::is_object_v<T> && std::is_same_v<T, std::remove_cv_t<T>>);
  static_assert(std::is_nothrow_destructible_v<T>);
  static_assert(alignof(T) <= 4096, "items are aligned within pages");

  // Whether items may be copied as bytes, and so spans may wrap.
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;
  static constexpr bool kMirrored = kBytes && internal::Mirror::kMaxViews == 2;

 public:
  using value_type = T;
  using Options = SpscRingOptions;
  class Writer;
  class Reader;

  // A ring of at least `min_capacity` items; the memory is rounded up to whole
  // pages of the arena, and capacity() says how many items that holds.
  // Fails with InvalidArgument for 0, OutOfRange if the size in bytes overflows
  // the address space, ResourceExhausted for more than the machine's memory, and
  // with what the arena and mmap(2) report; nothing is held then.
  static absl::StatusOr<SpscRing> Create(size_t min_capacity,
                                         const Options& options = {}) {
    absl::StatusOr<internal::SpscStorage> storage =
        internal::MakeSpscStorage({.min_capacity_items = min_capacity,
                                   .item_bytes = sizeof(T),
                                   .spans_wrap = kBytes},
                                  options);
    if (!storage.ok()) return storage.status();
    return SpscRing(*std::move(storage));
  }

  // Handles stay valid when the ring is moved. A ring that was moved from may
  // only be destroyed or assigned to.
  SpscRing(SpscRing&&) noexcept = default;
  SpscRing& operator=(SpscRing&& other) noexcept {
    if (this != &other) {
      DestroyLeft();
      storage_ = std::move(other.storage_);
    }
    return *this;
  }

  // REQUIRES: no handle lives.
  ~SpscRing() { DestroyLeft(); }

  size_t capacity() const { return storage_.capacity_items; }

  // Bytes of memory that hold items; the alias does not count.
  size_t memory_bytes() const { return storage_.mirror.size_bytes(); }

  // Whether the reader writes to consumed lines: what LineOwnership became.
  bool owns_lines() const { return storage_.owns_lines; }

  // Items in the ring: exact while neither handle is in use, else a moment's value.
  size_t size() const {
    const internal::SpscShared& shared = *storage_.shared;
    // The reader first: its position is never past the writer's later one.
    const uint64_t read = shared.read_position.load(std::memory_order_acquire);
    const uint64_t write =
        shared.write_position.load(std::memory_order_acquire);
    return std::min<uint64_t>(write - read, storage_.capacity_items);
  }

  bool empty() const { return size() == 0; }

  // The producer's handle. REQUIRES: no other Writer of this ring lives.
  Writer writer() { return Writer(storage_); }

  // The consumer's handle. REQUIRES: no other Reader of this ring lives.
  Reader reader() { return Reader(storage_); }

 private:
  explicit SpscRing(internal::SpscStorage storage)
      : storage_(std::move(storage)) {}

  void DestroyLeft() noexcept {
    if (storage_.shared == nullptr) return;
    // In a forked child the items are the parent's, which may have replaced them.
    if (!internal::InOwnerProcess(storage_)) return;
    ABSL_HARDENING_ASSERT(!storage_.shared->writer.taken());
    ABSL_HARDENING_ASSERT(!storage_.shared->reader.taken());
    if constexpr (!std::is_trivially_destructible_v<T>) {
      Reader left = reader();
      left.consume(left.size());
    }
  }

  internal::SpscStorage storage_;  // Empty after a move.
};

// The producer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
template <class T>
class SpscRing<T>::Writer {
 public:
  // Appends one item; false if the ring is full, and then the argument is as it
  // was. The reader sees the item at once.
  bool try_push(const T& item) requires std::copy_constructible<T> {
    return emplace(item);
  }
  bool try_push(T&& item) requires std::move_constructible<T> {
    return emplace(std::move(item));
  }

  // Builds one item in its slot; false if the ring is full.
  template <class... Args>
  requires std::constructible_from<T, Args...>
  bool emplace(Args&&... args) {
    if (ABSL_PREDICT_FALSE(cursor_.FreeFor(1) == 0)) return false;
    std::construct_at(reinterpret_cast<T*>(place_.here()),
                      std::forward<Args>(args)...);
    place_.Advance(sizeof(T));
    cursor_.Publish(1);
    return true;
  }

  // Appends as many of `items` as there is room for, from the front, and says how
  // many. They are published together. If a copy throws, the items before it are
  // in the ring.
  size_t push(std::span<const T> items) requires std::copy_constructible<T> {
    const size_t n =
        std::min<uint64_t>(items.size(), cursor_.FreeFor(items.size()));
    if (n == 0) return 0;
    if constexpr (kBytes) {
      CopyIn(reinterpret_cast<const std::byte*>(items.data()), n);
      return n;
    } else {
      size_t built = 0;
      absl::Cleanup publish = [&] { cursor_.Publish(built); };
      for (; built < n; ++built) {
        std::construct_at(reinterpret_cast<T*>(place_.here()), items[built]);
        place_.Advance(sizeof(T));
      }
      return n;
    }
  }

  // The next n slots as one span to write to, or an empty span if fewer than n
  // are free; more than capacity() never are. The span is valid until the next
  // call of commit or reserve. What is not committed is forgotten.
  std::span<T> reserve(size_t n) requires kBytes {
    if (ABSL_PREDICT_FALSE(cursor_.FreeFor(n) < n)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) begin = scratch_;
      in_scratch_ = begin == scratch_;
    }
    return {reinterpret_cast<T*>(begin), n};
  }

  // Publishes the first n slots of the last reservation, all at once.
  // REQUIRES: n <= what was reserved.
  void commit(size_t n) requires kBytes {
    ABSL_HARDENING_ASSERT(n <= cursor_.known_free());
    if constexpr (!kMirrored) {
      if (std::exchange(in_scratch_, false)) {
        CopyIn(scratch_, n);
        return;
      }
    }
    place_.Advance(n * sizeof(T));
    cursor_.Publish(n);
  }

  // Free slots now; the reader may add to them at any time.
  size_t free() {
    cursor_.Look();
    return cursor_.known_free();
  }

  size_t capacity() const { return cursor_.capacity(); }

 private:
  friend class SpscRing;

  explicit Writer(const internal::SpscStorage& storage)
      : place_(storage.shared->writer, storage),
        cursor_(&storage.shared->write_position, &storage.shared->read_position,
                storage.capacity_items, storage.pacing),
        scratch_(storage.writer_scratch.data()) {}

  // Copies n items to the next slots and publishes them. REQUIRES: they are free.
  void CopyIn(const std::byte* from, size_t n) {
    place_.ForEachRun(n * sizeof(T), [&](std::byte* to, size_t bytes) {
      std::memcpy(to, from, bytes);
      from += bytes;
    });
    place_.Advance(n * sizeof(T));
    cursor_.Publish(n);
  }

  internal::SpscPlace place_;  // Where the next item goes.
  internal::SpscWriterCursor<> cursor_;
  std::byte* scratch_;       // Canonical build: for spans that wrap.
  bool in_scratch_ = false;  // Whether the last reservation is in scratch_.
};

// The consumer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
template <class T>
class SpscRing<T>::Reader {
 public:
  // What a span shows: items that are consumed as bytes are not changed.
  using SpanItem = std::conditional_t<kBytes, const T, T>;

  // Moves the oldest item to `item`; false if the ring is empty.
  bool try_pop(T& item) requires std::is_move_assignable_v<T> {
    if (ABSL_PREDICT_FALSE(cursor_.ReadableFor(1) == 0)) return false;
    item = std::move(*Oldest());
    pop();
    return true;
  }

  std::optional<T> try_pop() requires std::move_constructible<T> {
    if (ABSL_PREDICT_FALSE(cursor_.ReadableFor(1) == 0)) return std::nullopt;
    std::optional<T> item(std::move(*Oldest()));
    pop();
    return item;
  }

  // The oldest item, or nullptr if the ring is empty. Valid until it is popped.
  T* front() {
    if (ABSL_PREDICT_FALSE(cursor_.ReadableFor(1) == 0)) return nullptr;
    return Oldest();
  }

  // Destroys the oldest item. REQUIRES: front() != nullptr.
  void pop() { consume(1); }

  // Moves up to items.size() of the oldest items to `items`, and says how many.
  // They are released together. If an assignment throws, the items before it are
  // out of the ring, and it and those after it are in it.
  size_t pop(std::span<T> items) requires std::is_move_assignable_v<T> {
    const size_t n =
        std::min<uint64_t>(items.size(), cursor_.ReadableFor(items.size()));
    if (n == 0) return 0;
    if constexpr (kBytes) {
      CopyOut(reinterpret_cast<std::byte*>(items.data()), n);
      consume(n);
    } else {
      size_t taken = 0;
      absl::Cleanup release = [&] { cursor_.Release(taken); };
      for (; taken < n; ++taken) {
        items[taken] = std::move(*Oldest());
        EndItems(1);
      }
    }
    return n;
  }

  // The oldest items as one span: all that this side knows of, and at least
  // `at_least`; empty if fewer are in the ring. The writer's position is looked
  // at only if fewer than `at_least` are known. Items that are not trivially
  // copyable: the span ends where the memory wraps, so it may be shorter than
  // `at_least`, but is empty only if fewer are in the ring. The span is valid
  // until the next call of peek or until its items are consumed.
  std::span<SpanItem> peek(size_t at_least = 1) {
    size_t n = cursor_.ReadableFor(at_least);
    if (ABSL_PREDICT_FALSE(n < at_least || n == 0)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) {
        if constexpr (kBytes) {
          begin = scratch_;
          CopyOut(begin, n);
        } else {
          n = place_.bytes_to_wrap() / sizeof(T);
        }
      }
    }
    return {std::launder(reinterpret_cast<T*>(begin)), n};
  }

  // Destroys the n oldest items and hands their slots back, all at once.
  // REQUIRES: n <= what the last peek showed (or size() said).
  void consume(size_t n) {
    ABSL_HARDENING_ASSERT(n <= cursor_.known_readable());
    EndItems(n);
    cursor_.Release(n);
  }

  // Readable items now; the writer may add to them at any time.
  size_t size() {
    cursor_.Look();
    return cursor_.known_readable();
  }

  size_t capacity() const { return cursor_.capacity(); }

 private:
  friend class SpscRing;

  explicit Reader(const internal::SpscStorage& storage)
      : place_(storage.shared->reader, storage),
        cursor_(&storage.shared->read_position, &storage.shared->write_position,
                storage.capacity_items, storage.pacing),
        scratch_(storage.reader_scratch.data()),
        owns_lines_(storage.owns_lines) {}

  // REQUIRES: there is one.
  T* Oldest() const {
    return std::launder(reinterpret_cast<T*>(place_.here()));
  }

  // Copies the n oldest items out. REQUIRES: they are readable.
  void CopyOut(std::byte* to, size_t n) const {
    place_.ForEachRun(n * sizeof(T), [&](const std::byte* from, size_t bytes) {
      std::memcpy(to, from, bytes);
      to += bytes;
    });
  }

  // Destroys the n oldest items and takes their lines; does not release them.
  void EndItems(size_t n) {
    if constexpr (kBytes) {
      if (owns_lines_) {
        place_.ForEachRun(n * sizeof(T), [](std::byte* begin, size_t bytes) {
          internal::TakeLines(begin, bytes);
        });
      }
      place_.Advance(n * sizeof(T));
    } else {
      for (size_t i = 0; i < n; ++i) {
        std::destroy_at(Oldest());
        // Many destructors write nothing.
        if (owns_lines_) internal::TakeLines(place_.here(), sizeof(T));
        place_.Advance(sizeof(T));
      }
    }
  }

  internal::SpscPlace place_;  // Where the oldest item is.
  internal::SpscReaderCursor<> cursor_;
  std::byte* scratch_;  // Canonical build: for spans that wrap.
  bool owns_lines_;     // A copy: the option is the ring's.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_SPSC_RING_H_
