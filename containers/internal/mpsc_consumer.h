// SPDX-License-Identifier: Apache-2.0
//
// The handle of the one consumer: what a thread holds that takes messages out
// (mpsc_ring.h).
//
//   next() → a message, read in place ─┐
//   next() → a message, read in place ─┴─ release()    or at once: pop
//   none: wait(), or arm() and poll(2) on event(), and again
//
// Invariants:
//   1. No operation but wait waits: each is wait-free.
//   2. No operation makes a system call unless a producer waits for room; wait, arm and
//      event do.
//   3. Whoever waits hands back first what it was shown, or both sides could wait for
//      each other.
//   4. No function that is not inlined is called with the address of the handle, which
//      lives in registers.
//
// Thread safety: a handle belongs to one thread at a time.
// Errors: empty optionals and RingWait.
//
// Example:
//   while (consumer.wait() == RingWait::kReady) {
//     while (auto message = consumer.next()) Use(*message);
//   }

#ifndef DOPPEL_CONTAINERS_INTERNAL_MPSC_CONSUMER_H_
#define DOPPEL_CONTAINERS_INTERNAL_MPSC_CONSUMER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/internal/mpsc_wait.h"
#include "doppel/containers/ring_wait.h"

namespace doppel::internal {

// The consumer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
class MpscConsumer {
 public:
  // Rings make handles. REQUIRES: the caller is the one consumer (TakeConsumer).
  MpscConsumer(MpscShared* shared, const Mirror& mirror)
      : shared_(shared),
        data_(mirror.data()),
        cursor_(&shared->consumer_position, mirror.size_bytes()),
        messages_(shared->messages.load(std::memory_order_relaxed)) {
    shared->consumer_end.Open();
  }
  MpscConsumer(MpscConsumer&& other) noexcept
      : shared_(std::exchange(other.shared_, nullptr)),
        data_(other.data_),
        cursor_(other.cursor_),
        shown_(other.shown_),
        messages_(other.messages_) {}
  MpscConsumer& operator=(MpscConsumer&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    shared_ = std::exchange(other.shared_, nullptr);
    data_ = other.data_;
    cursor_ = other.cursor_;
    shown_ = other.shown_;
    messages_ = other.messages_;
    return *this;
  }
  // What was shown and not released is shown again by the next handle.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~MpscConsumer() { Leave(); }

  // The next message, which may be empty; nullopt if there is none, or if the one
  // that comes next is not committed yet. It may be read until it is released.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<std::span<const std::byte>>
  next() {
    const MpscHeader header = Find();
    if (!header.committed()) return std::nullopt;
    const std::span<const std::byte> message = Show(header);
    return message;
  }

  // Hands all messages that were shown back to the producers, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void release() {
    if (shown_ != 0) {
      messages_ += shown_;
      shown_ = 0;
      shared_->messages.store(messages_, std::memory_order_relaxed);
    }
    HandBackTo(*shared_, data_, cursor_);
  }

  // Copies the next message to `buffer`, releases it with all that were shown, and
  // returns its length; nullopt as next(). If the length is above buffer.size(),
  // nothing was copied or released, and the message stays the next one.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<uint64_t> pop(
      std::span<std::byte> buffer) {
    const MpscHeader header = Find();
    if (!header.committed()) return std::nullopt;
    const uint64_t bytes = header.payload_bytes();
    if (bytes > buffer.size()) return bytes;
    const std::span<const std::byte> message = Show(header);
    // memcpy may not be given the null pointer of an empty span.
    if (!buffer.empty()) {
      std::memcpy(buffer.data(), message.data(), bytes);
    }
    release();
    return bytes;
  }

  // Releases all that were shown, and waits until there is a message. Also ends with
  // kClosed and kDeadlineExceeded.
  RingWait wait(const RingWaitOptions& options = {}) {
    release();
    const MpscWaited waited = WaitForMessage(*shared_, data_, cursor_, options);
    cursor_ = waited.cursor;
    return waited.result;
  }

  // A descriptor for epoll(7) and its like, which the ring owns. It polls as readable
  // once what arm() asked for may have come about. Do not read from it. Fails with what
  // eventfd(2) and membarrier(2) report.
  absl::StatusOr<int> event() { return EventOfConsumer(*shared_); }

  // Releases all that were shown, and asks that the event becomes readable once there is
  // a message, or the producers close. What is so already is the result, and the event
  // may not tell of it; only after kArmed wait for it, and then ask again: it may be a
  // later message that is there, behind one that is not committed.
  // REQUIRES: event() succeeded.
  RingWait arm() {
    release();
    const MpscWaited armed = ArmForMessage(*shared_, data_, cursor_);
    cursor_ = armed.cursor;
    return armed.result;
  }

  // Says that this side takes no more, and wakes the producers that wait for room. A
  // consumer that comes later opens the ring again.
  void close() {
    shared_->consumer_end.Close();
    shared_->room.Notify();
  }

  // Whether no producer is left that might send: each has closed, or gone, and one has
  // closed. The end is closed(), and after that no message.
  bool closed() const { return shared_->senders.ended(); }

 private:
  ABSL_ATTRIBUTE_ALWAYS_INLINE MpscHeader Find() {
    return FindMessage(*shared_, data_, cursor_, shown_ == 0);
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<const std::byte> Show(
      MpscHeader header) {
    const std::byte* begin = data_ + cursor_.offset_bytes() + kFrameHeaderBytes;
    cursor_.Pass(header);
    ++shown_;
    return {begin, header.payload_bytes()};
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() {
    if (shared_ != nullptr) shared_->LeaveConsumer();
  }

  MpscShared* shared_;  // Null: moved from.
  std::byte* data_;     // A copy: the mirror may move.
  MpscConsumerCursor<> cursor_;
  uint64_t shown_ = 0;  // Messages that were shown and not released.
  uint64_t messages_;   // What shared_->messages holds, without loading it.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_MPSC_CONSUMER_H_
