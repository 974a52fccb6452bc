// SPDX-License-Identifier: Apache-2.0
//
// The producer's handle of a ring: what a thread holds that puts items in.
//
//   reserve(3)  → span of 3 free slots ─ written in place ─┐
//   stage(2)      two of them are done, and not yet seen   │ or at once: commit(n),
//   publish()     the reader sees all that was staged      ┘ try_push, push
//
// Invariants:
//   1. Items come out in the order in which they went in, each once.
//   2. Every operation but wait is wait-free: it loads at most two shared words,
//      stores at most one, and never waits for the other side. (A side at the other's
//      heels pauses before it looks again, a quarter of a microsecond at most:
//      internal/ring_pacing.h.)
//   3. An operation fails for want of room only after it has looked at the reader's
//      position: what was released before the call is seen by it.
//   4. No operation makes a system call unless the reader waits to be woken; wait, arm,
//      event and close do.
//   5. What was staged and not published is gone with the handle.
//
// A handle holds the cursors, so that the compiler keeps them in registers: keep it in
// a local variable of the thread that uses it.
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
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/internal/ring_wake.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_wait.h"

namespace doppel {

// Moved, not copied. A handle that was moved from may be destroyed or assigned to.
template <class T = std::byte>
class RingWriter {
  // Whether items may be copied as bytes, and so spans may wrap.
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;
  static constexpr bool kMirrored = kBytes && internal::Mirror::kMaxViews == 2;

 public:
  // Rings make handles. REQUIRES: no other of this side lives.
  explicit RingWriter(const internal::RingEnd& end)
      : claim_(end.seats.mine),
        cursor_(end.watch),
        place_(internal::PlaceOf(end, cursor_.position())),
        seats_(end.seats),
        scratch_(end.scratch) {
    cursor_.Open();
  }

  RingWriter(RingWriter&&) noexcept = default;
  RingWriter& operator=(RingWriter&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~RingWriter() = default;

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
    if (ABSL_PREDICT_FALSE(cursor_.AvailableFor(1) == 0)) return false;
    std::construct_at(reinterpret_cast<T*>(place_.here()),
                      std::forward<Args>(args)...);
    if (place_.EntersLine(sizeof(T)) &&
        cursor_.known() * sizeof(T) > internal::kAheadBytes) {
      internal::FetchToWrite(place_.here() + internal::kAheadBytes, sizeof(T));
    }
    Pass(1);
    publish();
    return true;
  }

  // Appends as many of `items` as there is room for, from the front, and says how
  // many. They are published together. If a copy throws, the items before it are
  // in the ring.
  size_t push(std::span<const T> items) requires std::copy_constructible<T> {
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
  std::span<T> reserve(size_t n) requires kBytes {
    if (ABSL_PREDICT_FALSE(cursor_.AvailableFor(n) < n)) return {};
    std::byte* begin = place_.here();
    if constexpr (!kMirrored) {
      if (n * sizeof(T) > place_.bytes_to_wrap()) begin = scratch_;
      in_scratch_ = begin == scratch_;
    }
    return {reinterpret_cast<T*>(begin), n};
  }

  // The first n slots of the last reservation are done; the reader sees them after
  // the next publish. REQUIRES: n <= what was reserved.
  void stage(size_t n) requires kBytes {
    ABSL_HARDENING_ASSERT(n <= cursor_.known());
    if constexpr (!kMirrored) {
      if (std::exchange(in_scratch_, false)) {
        CopyIn(scratch_, n);
        return;
      }
    }
    Pass(n);
  }

  // Hands all that is staged to the reader, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void publish() {
    if (ABSL_PREDICT_FALSE(cursor_.Publish())) {
      internal::WakeOther(cursor_, seats_);
    }
  }

  // Stages the first n slots of the last reservation, and publishes.
  void commit(size_t n) requires kBytes {
    stage(n);
    publish();
  }

  // Waits until n slots are free. What is staged is published first, or both sides could
  // wait for each other. REQUIRES: n <= capacity().
  RingWait wait(size_t n = 1, const RingWaitOptions& options = {}) {
    publish();
    const internal::RingWaited waited =
        internal::WaitFor(cursor_, seats_, n, options);
    cursor_ = waited.cursor;
    return waited.result;
  }

  // A descriptor for epoll(7) and its like, which the ring owns. It polls as readable
  // once what arm() asked for has come about. Do not read from it.
  // Fails with what eventfd(2) and membarrier(2) report.
  absl::StatusOr<int> event() { return internal::EventOf(seats_); }

  // The same, of the event: asks that it becomes readable once n slots are free, or
  // the other side ends. What is so already is the result, and the event may not tell
  // of it; only after kArmed wait for it. REQUIRES: event() succeeded; n <= capacity().
  RingWait arm(size_t n = 1) {
    publish();
    const internal::RingWaited armed = internal::Arm(cursor_, seats_, n);
    cursor_ = armed.cursor;
    return armed.result;
  }

  // Whether the other side's process has ended (shared_ring.h): a system call. What it
  // handed over before is still there.
  bool peer_gone() const { return internal::PeerGone(seats_); }

  // Says that nothing more comes, and wakes the reader, which still gets the rest.
  // A writer that comes later opens the ring again.
  void close() {
    cursor_.Close();
    internal::WakeAtEnd(cursor_, seats_);
  }

  // Whether the reader has closed: nobody will take what is pushed.
  bool closed() const { return cursor_.closed(); }

  // Free slots now; the reader may add to them at any time.
  size_t free() {
    cursor_.Look();
    return cursor_.known();
  }

  size_t capacity() const { return cursor_.capacity(); }

  // OK, or DataLoss: see "Errors".
  absl::Status status() const { return internal::StatusOf(cursor_); }

 private:
  // Goes on by n items, which are built.
  void Pass(size_t n) {
    place_.Advance(n * sizeof(T));
    cursor_.Stage(n);
  }

  // Copies n items to the next slots. REQUIRES: they are free.
  void CopyIn(const std::byte* from, size_t n) {
    place_.ForEachRun(n * sizeof(T), [&](std::byte* to, size_t bytes) {
      std::memcpy(to, from, bytes);
      from += bytes;
    });
    Pass(n);
  }

  internal::RingClaim claim_;  // First: what follows is read under it.
  RingCursor<> cursor_;
  internal::RingPlace place_;  // Where the next item goes.
  internal::RingSeats seats_;
  std::byte* scratch_;       // Canonical build: for spans that wrap.
  bool in_scratch_ = false;  // Whether the last reservation is in scratch_.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_WRITER_H_
