// SPDX-License-Identifier: Apache-2.0
//
// The handle of one producer of many: what a thread holds that sends messages
// (mpsc_ring.h).
//
//   reserve(100) → 100 bytes ─ written in place ─ commit(80)    or at once: push
//                                              └─ abort()
//   full: wait(100), or arm(100) and poll(2) on event(), and again
//
// Invariants:
//   1. No operation but wait waits; reserve is lock-free, commit and abort wait-free.
//   2. No operation makes a system call unless the consumer waits to be woken; wait, arm
//      and event do.
//   3. No function that is not inlined is called with the address of the handle, which
//      lives in registers.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: RingRoom and RingWait.
//
// Example:
//   while (producer.push(message) == RingRoom::kFull) {
//     if (producer.wait(message.size()) != RingWait::kReady) break;  // Nobody takes it.
//   }

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_PRODUCER_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_PRODUCER_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/event_count.h"
#include "doppel/containers/internal/message_reservation.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/internal/mpsc_wait.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// One producer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
class MpscProducer {
  static constexpr bool kFramesWrap = Mirror::kMaxViews == 2;

 public:
  // Rings make handles.
  ABSL_ATTRIBUTE_ALWAYS_INLINE MpscProducer(MpscShared* shared,
                                            const Mirror& mirror)
      : shared_(shared),
        data_(mirror.data()),
        cursor_(&shared->claim_position, &shared->consumer_position,
                mirror.size_bytes()),
        max_message_bytes_(static_cast<uint32_t>(
            MaxMessageBytes<kFramesWrap>(mirror.size_bytes()))) {
    shared->producers.fetch_add(1, std::memory_order_relaxed);
    shared->senders.Open();
  }
  MpscProducer(MpscProducer&& other) noexcept
      : shared_(std::exchange(other.shared_, nullptr)),
        data_(other.data_),
        cursor_(other.cursor_),
        max_message_bytes_(other.max_message_bytes_),
        open_offset_bytes_(other.open_offset_bytes_),
        open_bytes_(other.open_bytes_),
        event_(other.event_),
        has_closed_(other.has_closed_) {}
  MpscProducer& operator=(MpscProducer&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    shared_ = std::exchange(other.shared_, nullptr);
    data_ = other.data_;
    cursor_ = other.cursor_;
    max_message_bytes_ = other.max_message_bytes_;
    open_offset_bytes_ = other.open_offset_bytes_;
    open_bytes_ = other.open_bytes_;
    event_ = other.event_;
    has_closed_ = other.has_closed_;
    return *this;
  }
  // Aborts what is reserved.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~MpscProducer() { Leave(); }

  // Space for a message of up to `bytes`, to be written to until it is committed or
  // aborted. Any length is allowed, 0 too.
  // REQUIRES: no reservation of this handle is open.
  [[nodiscard]] ABSL_ATTRIBUTE_ALWAYS_INLINE MessageReservation
  reserve(uint64_t bytes) {
    ABSL_HARDENING_ASSERT(open_bytes_ == 0 && "commit or abort before reserve");
    if (ABSL_PREDICT_FALSE(bytes > max_message_bytes_)) {
      return {.room = RingRoom::kTooBig, .payload = {}};
    }
    const uint64_t frame_bytes = FrameBytes(bytes);
    const std::optional<uint64_t> offset_bytes = cursor_.Claim(
        frame_bytes, MpscHeaderAt{data_},
        [shared = shared_](uint64_t position, uint64_t used_bytes, bool full) {
          shared->Looked(position, used_bytes, full);
        });
    if (ABSL_PREDICT_FALSE(!offset_bytes)) {
      return {.room = RingRoom::kFull, .payload = {}};
    }
    open_offset_bytes_ = *offset_bytes;
    open_bytes_ = frame_bytes;
    // The next claim takes about as many lines. Unless they are on their way here when
    // its compare-and-swap drains the store buffer, each is waited for in full.
    FetchToWrite(data_ + *offset_bytes + frame_bytes + kAheadBytes,
                 std::min(frame_bytes, kMostAheadBytes));
    return {.room = RingRoom::kRoom,
            .payload = {data_ + *offset_bytes + kFrameHeaderBytes, bytes}};
  }

  // Hands the first `bytes` of the reservation to the consumer as one message.
  // REQUIRES: a reservation is open, of at least that many bytes.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void commit(uint64_t bytes) {
    // In this order: a length near 2^64 must not overflow.
    ABSL_HARDENING_ASSERT(open_bytes_ != 0 && "commit without reserve");
    ABSL_HARDENING_ASSERT(bytes <= open_bytes_ - kFrameHeaderBytes &&
                          "commit of more than was reserved");
    Close(MpscHeader::Message(bytes, open_bytes_));
  }

  // Gives the reservation up, if there is one: the consumer passes over it.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void abort() {
    if (open_bytes_ == 0) return;
    Close(MpscHeader::Skip(open_bytes_));
  }

  // Sends a copy of the message.
  [[nodiscard]] ABSL_ATTRIBUTE_ALWAYS_INLINE RingRoom
  push(std::span<const std::byte> message) {
    const MessageReservation space = reserve(message.size());
    if (ABSL_PREDICT_FALSE(!space)) return space.room;
    // memcpy may not be given the null pointer of an empty span.
    if (!message.empty()) {
      std::memcpy(space.payload.data(), message.data(), message.size());
    }
    commit(message.size());
    return RingRoom::kRoom;
  }

  // Waits until a message of that many bytes would find room; another producer may take
  // it first, so push and wait in turn. Also ends with kClosed and kDeadlineExceeded.
  // REQUIRES: bytes <= max_message_bytes(); no reservation of this handle is open.
  RingWait wait(uint64_t bytes, const RingWaitOptions& options = {}) {
    CheckWait(bytes);
    return WaitForMpscRoom(*shared_, cursor_, FrameBytes(bytes), options);
  }

  // A descriptor for epoll(7) and its like, which the ring owns, and which is this
  // handle's until its end. It polls as readable once what arm() asked for may have
  // come about. Do not read from it. Fails with what eventfd(2) and membarrier(2)
  // report.
  ABSL_ATTRIBUTE_ALWAYS_INLINE absl::StatusOr<int> event() {
    absl::StatusOr<EventSeat*> event = shared_->room.EventFor(event_);
    if (!event.ok()) return std::move(event).status();
    event_ = *event;
    return event_->fd;
  }

  // Asks that the event becomes readable once there may be room for a message of that
  // many bytes, or the consumer closes. What is so already is the result, and the event
  // may not tell of it; only after kArmed wait for it, and then ask again: it tells of
  // any room, and to all producers.
  // REQUIRES: event() succeeded; as wait.
  RingWait arm(uint64_t bytes) {
    CheckWait(bytes);
    ABSL_HARDENING_ASSERT(event_ != nullptr && "ask for the event first");
    return ArmForMpscRoom(*shared_, *event_, cursor_, FrameBytes(bytes));
  }

  // Says that this producer sends no more. When all have said so that there are, or went
  // without a word, the consumer's waits end, after it got what was committed. A producer
  // that comes later opens the ring again. REQUIRES: nothing is sent by this handle
  // after it.
  void close() {
    if (std::exchange(has_closed_, true)) return;
    shared_->senders.Close();
    shared_->committed.Notify();
  }

  // Whether the consumer has closed: it takes no more.
  bool closed() const { return shared_->consumer_end.closed(); }

  uint64_t max_message_bytes() const { return max_message_bytes_; }

 private:
  using Cursor = MpscProducerCursor<kFramesWrap>;

  // How far ahead lines are fetched, and how much of them at most. Messages of 8 bytes
  // to a core that shares the cache: 33 M/s without, 65 to 90 at 64 and 128 bytes
  // ahead, 108 at 256, no more beyond.
  static constexpr uint64_t kAheadBytes = 256;
  static constexpr uint64_t kMostAheadBytes = 512;

  ABSL_ATTRIBUTE_ALWAYS_INLINE void Close(MpscHeader header) {
    Cursor::Commit(open_offset_bytes_, header, MpscHeaderAt{data_});
    open_bytes_ = 0;
    shared_->committed.Notify();
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE void CheckWait(
      [[maybe_unused]] uint64_t bytes) const {
    ABSL_HARDENING_ASSERT(open_bytes_ == 0 && "commit or abort before a wait");
    ABSL_HARDENING_ASSERT(bytes <= max_message_bytes_ && "it never fits");
  }

  // Inlined on every path, unwinding too: see MpscShared::Looked.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() {
    LeaveProducer(shared_, MpscHeaderAt{data_}.word(open_offset_bytes_),
                  open_bytes_, event_, has_closed_);
  }

  MpscShared* shared_;  // Null: moved from.
  std::byte* data_;     // A copy: the mirror may move.
  Cursor cursor_;
  // 32 bits are enough (kMaxPayloadBytes), and by them compilers know that what was
  // compared with it has no frame that overflows.
  uint32_t max_message_bytes_;
  uint64_t open_offset_bytes_ = 0;  // Of the frame that is reserved.
  uint64_t open_bytes_ = 0;         // Its length; 0: none is.
  EventSeat* event_ = nullptr;      // Null: not asked for yet.
  bool has_closed_ = false;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_PRODUCER_H_
