// SPDX-License-Identifier: Apache-2.0
//
// The consumer's handle of a ring: what a thread holds that takes items out.
//
//   peek()     → span of all items that are there ─ read in place ─┐
//   finish(2)    two of them are done, and not yet handed back     │ or at once:
//   release()    the writer may use all slots that are finished    ┘ consume(n), try_pop
//
// Waiting for items, the event and closing are RingHandle's (internal/ring_handle.h).
//
// Invariants:
//   1. Items come out in the order in which they went in, each once.
//   2. Every operation but wait is wait-free, as the writer's are (ring_writer.h).
//   3. An operation finds too few items only after it has looked at the writer's
//      position: what was published before the call is seen by it.
//   4. No operation makes a system call unless the writer waits to be woken; wait, arm,
//      event and close do.
//   5. What is finished is gone, released or not: a later handle goes on behind it.
//
// Keep a handle in a local variable of the thread that uses it (ring_writer.h).
//
// Spans. Items that are trivially copyable are read in place, over the wrap too. Other
// items stay whole in the first view; a span of them ends where it ends, because an
// object that is reached by its alias is another object to whoever holds its address.
// In the canonical build (internal/mirror.h) a span that wraps is a copy in a buffer.
//
// Thread safety: as the writer's.
// Errors: operations return false, a count, an empty span or a RingWait. Exceptions
//   come only from T's own assignments; an item that threw is still in the ring.
//   status() is DataLoss once the writer's words could not be true (a peer that lies,
//   shared_ring.h); the items known until then can be taken, and no others follow.
//
// Example:
//   RingReader<int> reader = ring.reader();
//   while (reader.wait() == RingWait::kReady) {
//     std::span<const int> items = reader.peek();
//     Use(items);
//     reader.consume(items.size());
//   }

#ifndef DOPPEL_CONTAINERS_RING_READER_H_
#define DOPPEL_CONTAINERS_RING_READER_H_

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

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/cleanup/cleanup.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_handle.h"
#include "doppel/containers/internal/ring_place.h"

namespace doppel {

// Moved, not copied. A handle that was moved from may be destroyed or assigned to.
// `Handle` is what waits for items and hands slots back, as RingWriter's.
template <class T = std::byte, class Handle = internal::RingHandle>
class RingReader : public Handle {
  // Whether items may be copied as bytes, and so spans may wrap.
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;
  static constexpr bool kMirrored = kBytes && internal::Mirror::kMaxViews == 2;

 public:
  // What a span shows: items that are consumed as bytes are not changed.
  using SpanItem = std::conditional_t<kBytes, const T, T>;

  // Rings make handles, with whatever else theirs hold.
  // REQUIRES: no other of this side lives.
  template <class... Holds>
  ABSL_ATTRIBUTE_ALWAYS_INLINE explicit RingReader(const internal::RingEnd& end,
                                                   Holds&&... holds)
      : Handle(end, std::forward<Holds>(holds)...),
        owns_lines_(end.owns_lines) {}
  RingReader(RingReader&&) noexcept = default;
  RingReader& operator=(RingReader&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~RingReader() = default;

  // Moves the oldest item to `item`; false if the ring is empty.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool try_pop(
      T& item) requires std::is_move_assignable_v<T> {
    if (ABSL_PREDICT_FALSE(!HasOne())) return false;
    item = std::move(*Oldest());
    PopOldest();
    return true;
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<T> try_pop() requires
      std::move_constructible<T> {
    if (ABSL_PREDICT_FALSE(!HasOne())) return std::nullopt;
    std::optional<T> item(std::move(*Oldest()));
    PopOldest();
    return item;
  }

  // The oldest item, or nullptr if the ring is empty. Valid until it is popped.
  ABSL_ATTRIBUTE_ALWAYS_INLINE SpanItem* front() {
    if (ABSL_PREDICT_FALSE(!HasOne())) return nullptr;
    return Oldest();
  }

  // Destroys the oldest item. REQUIRES: front() != nullptr.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void pop() { consume(1); }

  // Moves up to items.size() of the oldest items to `items`, and says how many.
  // They are released together. If an assignment throws, the items before it are
  // out of the ring, and it and those after it are in it.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t
  pop(std::span<T> items) requires std::is_move_assignable_v<T> {
    const size_t n =
        std::min<uint64_t>(items.size(), cursor_.AvailableFor(items.size()));
    if (n == 0) return 0;
    if constexpr (kBytes) {
      CopyOut(reinterpret_cast<std::byte*>(items.data()), n);
      consume(n);
    } else {
      const absl::Cleanup releaser = [&] { release(); };
      for (T& item : items.first(n)) {
        item = std::move(*Oldest());
        finish(1);
      }
    }
    return n;
  }

  // The oldest items that are not finished, as one span: all that this side knows of,
  // and at least `at_least`; empty if fewer are in the ring. The writer's position is
  // looked at only if fewer than `at_least` are known. Items that are not trivially
  // copyable: the span ends where the memory wraps, so it may be shorter than
  // `at_least`, but is empty only if fewer are in the ring. The span is valid until
  // the next call of peek or until its items are finished.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<SpanItem> peek(size_t at_least = 1) {
    size_t n = cursor_.AvailableFor(at_least);
    if (ABSL_PREDICT_FALSE(n < at_least || n == 0)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) {
        if constexpr (kBytes) {
          begin = this->scratch_;
          CopyOut(begin, n);
        } else {
          n = place_.bytes_to_wrap() / sizeof(T);
        }
      }
    }
    return {std::launder(reinterpret_cast<T*>(begin)), n};
  }

  // Items that are not finished, as far as this side knows. The writer's position is
  // looked at only if fewer than `at_least` are known.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t known(size_t at_least = 0) {
    return cursor_.AvailableFor(at_least);
  }

  // The n items after the first `skip` of those that are not finished, as one span.
  // It is valid until its items are finished, whatever peek_at shows after it; peek
  // ends it in the canonical build. REQUIRES: skip + n <= known().
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<SpanItem> peek_at(
      size_t skip, size_t n) const requires kBytes {
    ABSL_HARDENING_ASSERT(n <= cursor_.known() && skip <= cursor_.known() - n);
    std::byte* begin = place_.here() + skip * sizeof(T);
    if constexpr (!kMirrored) {
      internal::RingPlace place = place_;
      place.Advance(skip * sizeof(T));
      begin = place.here();
      if (n * sizeof(T) > place.bytes_to_wrap()) {
        // Each item has its own place in the buffer: no span is written over.
        begin = this->scratch_ + skip * sizeof(T);
        CopyOut(place, begin, n);
      }
    }
    return {std::launder(reinterpret_cast<T*>(begin)), n};
  }

  // Destroys the n oldest items, and does not hand their slots back yet.
  // REQUIRES: n <= what the last peek showed (or size() said).
  ABSL_ATTRIBUTE_ALWAYS_INLINE void finish(size_t n) {
    ABSL_HARDENING_ASSERT(n <= cursor_.known());
    cursor_.Finish(n);
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

  // Hands the slots of all that is finished back to the writer, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void release() { this->Publish(); }

  // Finishes the n oldest items, and releases.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void consume(size_t n) {
    finish(n);
    release();
  }

  // Whether no item is there. Looks at the writer's position only if none is known.
  bool empty() { return cursor_.AvailableFor(1) == 0; }

  // Readable items now; the writer may add to them at any time.
  size_t size() {
    cursor_.Look();
    return cursor_.known();
  }

 private:
  using Handle::cursor_;
  using Handle::place_;

  // Whether an item is there. Who has just learnt of more fetches the first of them:
  // a reader at the writer's heels makes too short a run for the processor to see.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool HasOne() {
    if (ABSL_PREDICT_TRUE(cursor_.known() > 0)) return true;
    const uint64_t found = cursor_.AvailableFor(1);
    internal::FetchFoundToRead(place_.here(), found * sizeof(T));
    return found > 0;
  }

  // Lines that are going to be written to are fetched for that, or each would be
  // asked for twice.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void FetchAhead(const std::byte* begin,
                                               uint64_t bytes) const {
    if (owns_lines_) {
      internal::FetchToWrite(begin, bytes);
    } else {
      internal::FetchToRead(begin, bytes);
    }
  }

  // As pop, and fetches the lines ahead. REQUIRES: there is one.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void PopOldest() {
    if constexpr (!kMirrored) {
      pop();
    } else {
      std::byte* const popped = place_.here();
      const bool ends_line = place_.EndsLine(sizeof(T));
      if (ends_line && owns_lines_) {
        cursor_.Finish(1);
        internal::TakeLines(popped, sizeof(T));
      } else {
        cursor_.Take(1);
      }
      if (ends_line && cursor_.known() > internal::kAheadBytes / sizeof(T)) {
        FetchAhead(place_.here() + internal::kAheadBytes, sizeof(T));
      }
      release();
    }
  }

  // REQUIRES: there is one.
  T* Oldest() const {
    return std::launder(reinterpret_cast<T*>(place_.here()));
  }

  // Copies the n oldest items out. REQUIRES: they are readable.
  void CopyOut(std::byte* to, size_t n) const { CopyOut(place_, to, n); }

  static void CopyOut(const internal::RingPlace& place, std::byte* to,
                      size_t n) {
    place.ForEachRun(n * sizeof(T), [&](const std::byte* from, size_t bytes) {
      std::memcpy(to, from, bytes);
      to += bytes;
    });
  }

  bool owns_lines_;  // A copy: the option is the ring's.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_READER_H_
