// SPDX-License-Identifier: Apache-2.0
//
// The words that the producers and the consumer of a ring share.
//
//   offset 0     claim_position     swapped by producers
//          128   consumer_position  stored by the consumer, loaded by producers
//          256   producers          cold: how many handles, refusals, high water
//          384   consumer           whether there is a handle, messages
//          512   committed          where the consumer waits, loaded by producers
//          640   room               where producers wait, loaded by the consumer
//          768
//
// Invariants:
//   1. Each position is alone on its line of kRingLineBytes, and none is on the
//      pages that hold frames.
//   2. The line of the producers is touched when a handle begins or ends, and when a
//      producer looks at the consumer's position: once a lap, and when there is no
//      room. The line of the consumer is stored by the consumer alone.
//   3. After each header that is stored `committed` is notified, and after each hand-over
//      of the consumer `room`; after the end of either side what the other waits by.
//
// Thread safety: all words are atomic. The consumer's side is handed over by
//   TakeConsumer and LeaveConsumer, which synchronize.
// Errors: none.
//
// Example:
//   MpscShared shared;
//   MpscProducerCursor<> producer(&shared.claim_position,
//                                 &shared.consumer_position, 4096);

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_SHARED_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_SHARED_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

struct MpscShared {
  alignas(kRingLineBytes) std::atomic<uint64_t> claim_position{0};
  alignas(kRingLineBytes) std::atomic<uint64_t> consumer_position{0};

  alignas(kRingLineBytes) std::atomic<uint64_t> producers{0};
  std::atomic<uint64_t> refusals{0};
  std::atomic<uint64_t> stalls{0};
  // Where the last refused claim would have begun: a stall goes on as long as nothing
  // else was claimed. At first a position that none has.
  std::atomic<uint64_t> refused_position{UINT64_MAX};
  std::atomic<uint64_t> high_water_bytes{0};
  MpscSenders<> senders;
  int owner_process = 0;  // Constant.

  alignas(kRingLineBytes) std::atomic<bool> consumer_taken{false};
  EndWord<> consumer_end;               // It takes no more.
  std::atomic<uint64_t> messages{0};    // Handed back.
  EventSeat* consumer_event = nullptr;  // The consumer's own.

  EventCount committed;
  EventCount room;

  // Whether the caller is now the consumer; false if there is one.
  bool TakeConsumer() {
    if (!TakeSeat(consumer_taken)) return false;
    // What the one before asked to be told of is not this one's.
    if (consumer_event != nullptr) consumer_event->flag.Disarm();
    return true;
  }
  void LeaveConsumer() { LeaveSeat(consumer_taken); }

  // A producer has found `used_bytes` in the ring before the position, and no room if
  // `full`. Out of line and given no handle: a handle whose address is passed on lives
  // in memory.
  void Looked(uint64_t position, uint64_t used_bytes, bool full);
};

// The headers in the memory, always by the first view: they never wrap.
struct MpscHeaderAt {
  std::byte* data;
  uint64_t* word(uint64_t offset_bytes) const {
    return reinterpret_cast<uint64_t*>(data + offset_bytes);
  }
  std::atomic_ref<uint64_t> operator()(uint64_t offset_bytes) const {
    return std::atomic_ref<uint64_t>(*word(offset_bytes));
  }
};

// Ends a producer; of none (null) there is nothing to end. A reservation of
// `open_bytes` at `header` that it leaves open becomes a frame to skip, unless this is a
// forked child: the frame is the parent's, which may yet commit it. A call that is given
// no handle, so that handles live in registers whatever ends them.
void LeaveProducer(MpscShared* shared, uint64_t* header, uint64_t open_bytes,
                   EventSeat* event, bool has_closed) noexcept;

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(offsetof(MpscShared, claim_position) == 0);
static_assert(offsetof(MpscShared, consumer_position) == kRingLineBytes);
static_assert(offsetof(MpscShared, producers) == 2 * kRingLineBytes);
static_assert(offsetof(MpscShared, consumer_taken) == 3 * kRingLineBytes);
static_assert(sizeof(EventCount) == kRingLineBytes);
static_assert(sizeof(MpscShared) == 6 * kRingLineBytes);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_SHARED_H_
