// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue of messages from many threads to one, in memory that is shown twice
// back to back: each message is one contiguous span, written and read in place.
//
//   addresses │ guard │ D  ┊ A  │ B │ C ┊ D │ D  ┊ A  │ B │ C ┊ D │ guard │
//                                         └─ D ──┘  one span over the wrap
//
//   Producer ─┐ claims (compare-and-swap)       ┌─ Consumer
//   Producer ─┼──▶ [claim_position]             │    stores [consumer_position]
//   Producer ─┘                                 │
//       │ fills its own frame, stores its header last     looks at one header
//       └──────────▶ │ header │ message │ padding │ ◀───────────┘
//
// Each message is a frame: a header of 8 bytes, the message, padding to 8 bytes
// (internal/mpsc_frame.h). A header of 0 says "not committed yet", so the consumer
// learns from the line that holds the message that there is one, and touches no word
// that producers share. The consumer zeroes what it hands back: stale bytes must never
// be taken for a header, and the lines are then in its cache alone, so that the next
// lap's producers get each in one transfer. internal/mpsc_protocol.h says which bytes
// must be zero, and why they are.
//
// Invariants:
//   1. Messages come out in the order in which their space was claimed, each once; so
//      those of one producer come in the order in which it sent them.
//   2. The consumer is wait-free. A producer tries again only if another claim
//      succeeded or the consumer moved on meanwhile, and so is lock-free.
//   3. A producer that is slow, or stopped, between reserve and commit holds up the
//      consumer, which stops at its frame, but no other producer until the ring is
//      full. Nothing that it holds is ever given to another.
//   4. kFull is returned only if there was a moment within the call at which the ring
//      had too little room; kTooBig only for what never fits. An empty ring has room
//      for every message of up to max_message_bytes().
//   5. The payload begins at a multiple of 8.
//   6. What was reserved is committed or aborted, at the latest when its Producer is
//      destroyed: an exception does not stop the consumer for ever.
//   7. One byte past either end of the memory faults. Every page is there since
//      creation: no operation but event faults or allocates.
//   8. No operation calls the kernel while nobody waits; wait, arm and event do
//      (internal/event_count.h). The consumer is wait-free unless it waits.
//
// Handles hold the cursors, so that the compiler keeps them in registers: keep a
// handle in a local variable of the thread that uses it.
//
//   auto producer = ring->producer();           // right: one for each thread
//   for (...) producer.push(message);
//   for (...) ring->producer().push(message);   // slow: a handle for each message
//   static auto shared = ring->producer();      // wrong: one thread at a time
//
// The consumer takes several messages for each hand-over: producers that find the ring
// full wait for its position, and each store to it takes the line from them.
//
//   while (auto message = consumer.next()) Use(*message);  // right
//   consumer.release();
//   while (auto message = consumer.next()) {               // slow where it is full
//     Use(*message);
//     consumer.release();
//   }
//
// Each side can wait, or be told by an event, and can close
// (internal/mpsc_consumer.h, internal/mpsc_producer.h):
//
//   while (producer.push(message) == RingRoom::kFull) {
//     if (producer.wait(message.size()) != RingWait::kReady) break;
//   }
//   while (consumer.wait() == RingWait::kReady) {
//     while (auto message = consumer.next()) Use(*message);
//   }
//
// In the canonical build (internal/mirror.h) there is one view: a message that would
// wrap begins at the start of the memory instead, and max_message_bytes() is about
// half of what it is otherwise.
//
// Thread safety: one thread at a time holds a Producer, one at a time the Consumer; a
//   handle may be given to another thread by what synchronizes the two. producer(),
//   size_bytes(), empty(), statistics() and the constants may be called from any thread.
// Fork: the ring belongs to the process that made it. A child of fork(2) has the
//   messages' pages in common with it, but not the positions, so that it must not use
//   a handle. Destroying ring and handles there leaves the messages alone.
// Errors: Create and event() return a Status. Operations return a small enum or an
//   empty optional. Nothing throws.
//
// Example:
//   absl::StatusOr<MpscRing> ring = MpscRing::Create(64 << 10);
//   std::thread([producer = ring->producer()]() mutable {
//     if (auto space = producer.reserve(100); space) {
//       producer.commit(WriteMessage(space.payload));
//     }
//   }).join();
//   auto consumer = ring->consumer();
//   while (auto message = consumer.next()) Use(*message);
//   consumer.release();

#ifndef DOPPEL_CONTAINERS_MPSC_RING_H_
#define DOPPEL_CONTAINERS_MPSC_RING_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_consumer.h"
#include "doppel/containers/internal/mpsc_producer.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"

namespace doppel {

struct MpscRingOptions {
  std::shared_ptr<Arena> arena = nullptr;  // nullptr: Arena::Default().
};

// What happened to a ring since it was made.
struct MpscRingStatistics {
  uint64_t messages = 0;  // That the consumer has handed back.
  // Claims that found too little room, and how often that began: claims that were
  // refused one after the other, with none granted in between, are one stall.
  uint64_t refusals = 0;
  uint64_t stalls = 0;
  // The most that a claim found in the ring when it looked at the consumer's
  // position. A producer looks about once a lap, and always before it is refused.
  uint64_t high_water_bytes = 0;
};

class MpscRing {
  static constexpr bool kFramesWrap = internal::Mirror::kMaxViews == 2;

 public:
  using Options = MpscRingOptions;
  using Statistics = MpscRingStatistics;
  using Producer = internal::MpscProducer;
  using Consumer = internal::MpscConsumer;

  // A ring of at least `min_capacity_bytes`, headers and padding included; rounded up
  // to whole pages of the arena.
  // Fails with InvalidArgument for 0, OutOfRange if the size overflows the address
  // space, ResourceExhausted for more than the machine's memory, and with what the
  // arena and mmap(2) report; nothing is held then.
  static absl::StatusOr<MpscRing> Create(uint64_t min_capacity_bytes,
                                         const Options& options = {});

  // Handles stay valid when the ring is moved. A ring that was moved from may only be
  // destroyed or assigned to.
  MpscRing(MpscRing&&) noexcept = default;
  MpscRing& operator=(MpscRing&& other) noexcept;

  // REQUIRES: no handle lives. Messages that are left are forgotten.
  ~MpscRing() { CheckNoHandles(); }

  // Frames take 8 bytes more than their message, rounded up to a multiple of 8.
  uint64_t capacity_bytes() const { return mirror_.size_bytes(); }

  // Bytes of memory that hold messages; the alias does not count.
  uint64_t memory_bytes() const { return mirror_.size_bytes(); }

  // The longest message: capacity_bytes() - 8, and at most 4 GiB - 8; about half of
  // that in the canonical build.
  uint64_t max_message_bytes() const {
    return internal::MaxMessageBytes<kFramesWrap>(capacity_bytes());
  }

  // Bytes that are claimed and not handed back, whether committed or not: exact while
  // no handle is in use, else a moment's value.
  uint64_t size_bytes() const;

  bool empty() const { return size_bytes() == 0; }

  Statistics statistics() const;

  // A handle for one thread of many.
  Producer producer() { return Producer(shared_.get(), mirror_); }

  // The one consumer's handle. REQUIRES: no other Consumer of this ring lives.
  // Inline: what a function that is not returns, it writes to the handle by its address.
  Consumer consumer() {
    [[maybe_unused]] const bool taken = shared_->TakeConsumer();
    ABSL_HARDENING_ASSERT(taken && "one consumer at a time");
    return Consumer(shared_.get(), mirror_);
  }

 private:
  MpscRing(internal::Mirror mirror,
           std::unique_ptr<internal::MpscShared> shared)
      : mirror_(std::move(mirror)), shared_(std::move(shared)) {}

  void CheckNoHandles() const;

  internal::Mirror mirror_;  // Holds nothing after a move.
  // On the heap: handles point to it.
  std::unique_ptr<internal::MpscShared> shared_;
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_MPSC_RING_H_
