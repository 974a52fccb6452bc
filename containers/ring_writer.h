// SPDX-License-Identifier: Apache-2.0
//
// The producer's handle of a ring: what a thread holds that puts items in.
//
//   reserve(3)  → span of 3 free slots ─ written in place ─┐
//   stage(2)      two of them are done, and not yet seen   │ or at once: commit(n),
//   publish()     the reader sees all that was staged      ┘ try_push, push
//
// Waiting for free slots, the event and closing are RingHandle's
// (internal/ring_handle.h).
//
// Invariants:
//   1. Items come out in the order in which they went in, each once.
//   2. Every operation but wait is wait-free: it loads at most two of the
//      other side's words, and never waits for it. (A side at the other's heels pauses
//      before it looks again, 3.5 microseconds or 16 Pause() at most:
//      internal/ring_pacing.h.)
//   3. An operation fails for want of room only after it has looked at the reader's
//      position: what was released before the call is seen by it.
//   4. No operation makes a system call unless the reader waits to be woken; wait, arm,
//      event and close do.
//   5. What was staged and not published is gone with the handle.
//
// A handle holds the cursors, so that the compiler keeps them in registers: an item takes
// half as long then. What each item needs is inlined whole, because a handle whose
// address is passed to a function lives in memory. So keep it in a local variable of the
// thread that uses it; one that a function returned in a StatusOr is moved there first:
//
//   absl::StatusOr<RingWriter<int>> made = ring.writer();   // SharedRing<int>
//   if (!made.ok()) return made.status();
//   RingWriter<int> writer = *std::move(made);
//
// Spans. Items that are trivially copyable are written in place, over the wrap too.
// Other items are built by emplace. In the canonical build (internal/mirror.h) a span
// that wraps is a buffer, copied when it is staged.
//
// Thread safety: a handle belongs to one thread at a time; it may be given to another
//   by what synchronizes the two.
// Errors: operations return false, a count, an empty span or a RingWait. Exceptions
//   come only from T's own constructors; an item that threw is not in the ring.
//   status() is DataLoss once the reader's words could not be true (a peer that lies,
//   shared_ring.h); the free slots known until then stay usable, and no others follow.
//
// Example:
//   RingWriter<int> writer = ring.writer();
//   if (!writer.try_push(7)) ++dropped;
//   std::span<int> slots = writer.reserve(2);
//   if (!slots.empty()) { slots[0] = 1; slots[1] = 2; writer.commit(2); }

#ifndef DOPPEL_CONTAINERS_RING_WRITER_H_
#define DOPPEL_CONTAINERS_RING_WRITER_H_

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/cleanup/cleanup.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_handle.h"
#include "doppel/containers/internal/ring_place.h"

namespace doppel {

// Moved, not copied. A handle that was moved from may be destroyed or assigned to.
// `Handle` is what waits for slots and hands them over; a ring of many readers has one of
// its own (broadcast_ring.h).
template <class T = std::byte, class Handle = internal::RingHandle>
class RingWriter : public Handle {
  // Whether items may be copied as bytes, and so spans may wrap.
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;
  static constexpr bool kMirrored = kBytes && internal::Mirror::kMaxViews == 2;

 public:
  // Rings make handles. REQUIRES: no other of this side lives.
  using Handle::Handle;
  RingWriter(RingWriter&&) noexcept = default;
  RingWriter& operator=(RingWriter&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~RingWriter() = default;

  // Appends one item; false if the ring is full, and then the argument is as it
  // was. The reader sees the item at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool try_push(
      const T& item) requires std::copy_constructible<T> {
    return emplace(item);
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool try_push(
      T&& item) requires std::move_constructible<T> {
    return emplace(std::move(item));
  }

  // Builds one item in its slot; false if the ring is full.
  template <class... Args>
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool emplace(
      Args&&... args) requires std::constructible_from<T, Args...> {
    if (ABSL_PREDICT_FALSE(!HasOne())) return false;
    std::construct_at(reinterpret_cast<T*>(place_.here()),
                      std::forward<Args>(args)...);
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

  // Appends as many of `items` as there is room for, from the front, and says how
  // many. They are published together. If a copy throws, the items before it are
  // in the ring.
  ABSL_ATTRIBUTE_ALWAYS_INLINE size_t
  push(std::span<const T> items) requires std::copy_constructible<T> {
    const size_t n =
        std::min<uint64_t>(items.size(), cursor_.AvailableFor(items.size()));
    if (n == 0) return 0;
    if constexpr (kBytes) {
      CopyIn(reinterpret_cast<const std::byte*>(items.data()), n);
      publish();
    } else {
      const absl::Cleanup publisher = [&] { publish(); };
      for (const T& item : items.first(n)) {
        std::construct_at(reinterpret_cast<T*>(place_.here()), item);
        Pass(1);
      }
    }
    return n;
  }

  // The next n slots, after those that are staged, as one span to write to, or an
  // empty span if fewer than n are free; more than capacity() never are. The span is
  // valid until the next call of stage, commit or reserve. What is not staged is
  // forgotten.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<T> reserve(size_t n) requires kBytes {
    if (ABSL_PREDICT_FALSE(cursor_.AvailableFor(n) < n)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) begin = this->scratch_;
      in_scratch_ = begin == this->scratch_;
    }
    return {reinterpret_cast<T*>(begin), n};
  }

  // The first n slots of the last reservation are done; the reader sees them after
  // the next publish. REQUIRES: n <= what was reserved.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void stage(size_t n) requires kBytes {
    ABSL_HARDENING_ASSERT(n <= cursor_.known());
    if constexpr (!kMirrored) {
      if (std::exchange(in_scratch_, false)) {
        CopyIn(this->scratch_, n);
        return;
      }
    }
    Pass(n);
  }

  // Hands all that is staged to the reader, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void publish() { this->Publish(); }

  // Stages the first n slots of the last reservation, and publishes.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void commit(size_t n) requires kBytes {
    stage(n);
    publish();
  }

  // Free slots now; the reader may add to them at any time.
  size_t free() {
    cursor_.Look();
    return cursor_.known();
  }

 private:
  using Handle::cursor_;
  using Handle::place_;

  // Whether a slot is free. The lines of slots that this side has just learnt of are
  // the reader's, and each store would wait for its own.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool HasOne() {
    if (ABSL_PREDICT_TRUE(cursor_.known() > 0)) return true;
    const uint64_t found = cursor_.AvailableFor(1);
    if constexpr (kMirrored) {
      internal::FetchFoundToWrite(place_.here(), found * sizeof(T));
    }
    return found > 0;
  }

  // Goes on by n items, which are built.
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

  bool in_scratch_ = false;  // Whether the last reservation is in scratch_.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_WRITER_H_
