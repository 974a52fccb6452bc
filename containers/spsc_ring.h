// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue from one thread to one other, in memory that is shown twice back
// to back: every run of items is one contiguous span, also where the ring wraps.
//
//   addresses │ guard │ 0 1 2 3 4 5 6 7 │ 0 1 2 3 4 5 6 7 │ guard │
//                               └─ peek() ─┘  one span over the wrap
//
//   Writer (by value, one thread)              Reader (by value, one thread)
//     own position, place                        own position, place
//     limit: reader's position + capacity        limit: writer's position
//          │ stores            loads │               │ stores          loads │
//          ▼                         ▼               ▼                       ▼
//   [writer's position]    [reader's position]  [the same]        [the same]
//          each alone on a line of 128 bytes, on no page that holds items
//
// Invariants:
//   1. Items come out in the order in which they went in, each once.
//   2. Pushing and popping are wait-free, and make no system call unless the other
//      side waits to be woken (ring_writer.h, ring_reader.h).
//   3. A push fails only if the ring holds capacity() items, a pop only if it is
//      empty.
//   4. One byte past either end of the memory faults. Every page is there since
//      creation: no push or pop faults or allocates.
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
// Bytes and messages: SpscRing<> is a ring of bytes; message.h sends messages of any
// length through its handles.
//
// Thread safety: one thread at a time holds the Writer, one at a time the Reader; a
//   handle may be given to another thread by what synchronizes the two. size(),
//   empty(), statistics() and the constants may be asked from any thread.
// Fork: the ring belongs to the process that made it. A child of fork(2) has the
//   items' pages in common with it, but not the positions, so that it must not take a
//   handle. Destroying the ring there leaves the items alone.
// Errors: Create returns a Status. Operations are the handles'.
//
// Example:
//   absl::StatusOr<SpscRing<int>> ring = SpscRing<int>::Create(1000);
//   std::thread([writer = ring->writer()]() mutable { writer.try_push(7); }).join();
//   std::optional<int> item = ring->reader().try_pop();

#ifndef DOPPEL_CONTAINERS_SPSC_RING_H_
#define DOPPEL_CONTAINERS_SPSC_RING_H_

#include <cstddef>
#include <type_traits>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/spsc_storage.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel {

template <class T = std::byte>
class SpscRing {
  static_assert(std::is_object_v<T> && std::is_same_v<T, std::remove_cv_t<T>>);
  static_assert(std::is_nothrow_destructible_v<T>);
  static_assert(alignof(T) <= 4096, "items are aligned within pages");

 public:
  using value_type = T;
  using Options = RingOptions;
  using Writer = RingWriter<T>;
  using Reader = RingReader<T>;

  // A ring of at least `min_capacity` items; the memory is rounded up to whole
  // pages of the arena, and capacity() says how many items that holds.
  // Fails with InvalidArgument for 0, OutOfRange if the size in bytes overflows
  // the address space, ResourceExhausted for more than the machine's memory, and
  // with what the arena and mmap(2) report; nothing is held then.
  static absl::StatusOr<SpscRing> Create(size_t min_capacity,
                                         const Options& options = {}) {
    absl::StatusOr<internal::SpscStorage> storage = internal::MakeSpscStorage(
        {.min_capacity_items = min_capacity,
         .item_bytes = sizeof(T),
         .spans_wrap = std::is_trivially_copyable_v<T>},
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
  size_t size() const { return storage_.Size(); }
  bool empty() const { return size() == 0; }

  // Counters that cost the hot paths nothing: they change when a side finds too
  // little. Each is a moment's value.
  RingStatistics statistics() const { return storage_.Statistics(); }

  // The producer's handle. REQUIRES: no other Writer of this ring lives.
  Writer writer() { return Writer(storage_.WriterEnd()); }

  // The consumer's handle. REQUIRES: no other Reader of this ring lives.
  Reader reader() { return Reader(storage_.ReaderEnd()); }

 private:
  explicit SpscRing(internal::SpscStorage storage)
      : storage_(std::move(storage)) {}

  void DestroyLeft() noexcept {
    if (storage_.shared == nullptr) return;
    // In a forked child the items are the parent's, which may have replaced them.
    if (!storage_.InOwnerProcess()) return;
    storage_.shared->seats.CheckLeft();
    if constexpr (!std::is_trivially_destructible_v<T>) {
      Reader left = reader();
      left.consume(left.size());
    }
  }

  internal::SpscStorage storage_;  // Empty after a move.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_SPSC_RING_H_
