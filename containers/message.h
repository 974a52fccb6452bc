// SPDX-License-Identifier: Apache-2.0
//
// Messages of any length, over a ring of bytes: written in place and read in place.
//
//   the ring's bytes, each message whole in one piece, over the wrap too (mirror)
//   │ header │ payload ......... │pad│ header │ payload ... │ header │ header │ ...
//   0        8                       ▲ a multiple of 8       ▲ 0 bytes long
//
//   header, in the machine's byte order       frame = header + payload + pad
//   offset 0  u32  payload_bytes              The pad is 0 to 7 bytes, which nobody
//          4  u32  reserved: 0                writes or reads.
//
//   MessageWriter                             MessageReader
//     reserve(n) → room for a payload           next()     → the next message
//     stage(m)     m <= n of it are done        next()     → the one after it
//     publish()    the reader sees all          release()    the writer may use the
//                  that is staged                            room of all of them
//     or at once: commit(m), push               or at once: pop
//
// Invariants:
//   1. Messages come out whole, in the order in which they went in, each once. What a
//      reader has shown and not released is shown again by the one that comes after.
//   2. A payload is contiguous and begins at a multiple of 8.
//   3. A frame is published whole. So whoever sees a part of one has been lied to.
//   4. A header is loaded once, as one word, and checked against what is readable
//      before it is used: it may change at any time where the other side is another
//      process. After a header that cannot be true a MessageReader shows no more.
//   5. What next() has shown stays where and as it is until release(), however much is
//      shown after it.
//   6. next() looks at the writer's position only if it knows of no message.
//   7. reserve() tells a message that never fits (kTooBig) from one that must wait
//      (kFull).
//
// Both are handles, as those of the ring are: keep them in local variables of the
// thread that uses them.
//
// Thread safety: as the ring's handles. A payload may be read by other threads until
//   it is released.
// Errors: operations return a small enum, an empty optional or a RingWait. status() is
//   DataLoss once the other side's words, or a header, could not be true (a peer that
//   lies); what was shown until then stays usable.
//
// Example:
//   MessageWriter writer(ring.writer());    // SpscRing<> ring
//   if (auto space = writer.reserve(100); space) {
//     writer.commit(Encode(space.payload));  // What it used of the 100 bytes.
//   }
//   MessageReader reader(ring.reader());
//   while (reader.wait() == RingWait::kReady) {
//     while (auto message = reader.next()) Use(*message);
//     reader.release();
//   }

#ifndef DOPPEL_CONTAINERS_MESSAGE_H_
#define DOPPEL_CONTAINERS_MESSAGE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "doppel/containers/internal/message_reservation.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/ring_writer.h"

namespace doppel {

// What stands before each payload.
struct MessageHeader {
  uint32_t payload_bytes = 0;
  uint32_t reserved = 0;
};

static_assert(sizeof(MessageHeader) == 8);
static_assert(offsetof(MessageHeader, payload_bytes) == 0);
static_assert(offsetof(MessageHeader, reserved) == 4);
static_assert(std::is_trivially_copyable_v<MessageHeader>);
static_assert(std::atomic_ref<uint64_t>::is_always_lock_free &&
              std::atomic_ref<uint64_t>::required_alignment <=
                  sizeof(MessageHeader));

// What a message takes of the ring. REQUIRES: payload_bytes < 2^63.
constexpr uint64_t MessageFrameBytes(uint64_t payload_bytes) {
  return (sizeof(MessageHeader) + payload_bytes + 7) / 8 * 8;
}

// Moved, not copied. A handle that was moved from may be destroyed or assigned to.
class MessageWriter : private RingWriter<> {
 public:
  // REQUIRES: all that was ever written to the ring are messages.
  explicit MessageWriter(RingWriter<> ring)
      : RingWriter<>(std::move(ring)),
        max_message_bytes_(static_cast<uint32_t>(
            std::min<uint64_t>(capacity() - sizeof(MessageHeader),
                               std::numeric_limits<uint32_t>::max()))) {}
  MessageWriter(MessageWriter&&) noexcept = default;
  MessageWriter& operator=(MessageWriter&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~MessageWriter() = default;

  // The longest message that the ring can hold, when it holds no other: 8 bytes less
  // than the ring has, and at most 4 GiB - 1.
  size_t max_message_bytes() const { return max_message_bytes_; }

  // Room for the payload of one message, after those that are staged. It is valid
  // until the next call of reserve, push, stage, commit, wait or arm. What was
  // reserved before and is not staged is forgotten.
  ABSL_ATTRIBUTE_ALWAYS_INLINE MessageReservation
  reserve(size_t payload_bytes) {
    frame_ = nullptr;
    if (ABSL_PREDICT_FALSE(payload_bytes > max_message_bytes_)) {
      return {.room = RingRoom::kTooBig, .payload = {}};
    }
    const std::span<std::byte> frame =
        RingWriter<>::reserve(MessageFrameBytes(payload_bytes));
    if (ABSL_PREDICT_FALSE(frame.empty())) {
      return {.room = RingRoom::kFull, .payload = {}};
    }
    frame_ = frame.data();
    reserved_bytes_ = payload_bytes;
    return {.room = RingRoom::kRoom,
            .payload = frame.subspan(sizeof(MessageHeader), payload_bytes)};
  }

  // The first bytes of the reservation are a message. The reader sees it after the
  // next publish. REQUIRES: a reservation; payload_bytes <= what was reserved.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void stage(size_t payload_bytes) {
    ABSL_HARDENING_ASSERT(frame_ != nullptr &&
                          payload_bytes <= reserved_bytes_);
    const MessageHeader header = {.payload_bytes =
                                      static_cast<uint32_t>(payload_bytes)};
    std::memcpy(frame_, &header, sizeof(header));
    RingWriter<>::stage(MessageFrameBytes(payload_bytes));
    frame_ = nullptr;
  }

  // Hands all that is staged to the reader, at once.
  using RingWriter<>::publish;

  // Stages the first bytes of the reservation as a message, and publishes.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void commit(size_t payload_bytes) {
    stage(payload_bytes);
    publish();
  }

  // Forgets the reservation, if there is one. What is staged stays.
  void abort() { frame_ = nullptr; }

  // Copies a message into the ring and publishes it, and all that was staged.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingRoom
  push(std::span<const std::byte> payload) {
    const MessageReservation reserved = reserve(payload.size());
    if (ABSL_PREDICT_FALSE(reserved.room != RingRoom::kRoom)) {
      return reserved.room;
    }
    // memcpy may not be given the null pointer of an empty span.
    if (!payload.empty()) {
      std::memcpy(reserved.payload.data(), payload.data(), payload.size());
    }
    commit(payload.size());
    return RingRoom::kRoom;
  }

  // Publishes, because a reader makes room only of what it sees, and waits until there
  // is room for a message. REQUIRES: payload_bytes <= max_message_bytes().
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait
  wait(size_t payload_bytes, const RingWaitOptions& options = {}) {
    ABSL_HARDENING_ASSERT(payload_bytes <= max_message_bytes_);
    abort();
    publish();
    return RingWriter<>::wait(MessageFrameBytes(payload_bytes), options);
  }

  // Publishes, and asks that the event becomes readable once there is room for a
  // message, or the reader ends. Only after kArmed wait for it (RingWriter).
  // REQUIRES: event() succeeded; payload_bytes <= max_message_bytes().
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait arm(size_t payload_bytes) {
    ABSL_HARDENING_ASSERT(payload_bytes <= max_message_bytes_);
    abort();
    publish();
    return RingWriter<>::arm(MessageFrameBytes(payload_bytes));
  }

  // As RingWriter's.
  using RingWriter<>::close;
  using RingWriter<>::closed;
  using RingWriter<>::event;
  using RingWriter<>::peer_gone;
  using RingWriter<>::status;

 private:
  // 32 bits are enough, and by them compilers know that no frame's length overflows.
  uint32_t max_message_bytes_;
  std::byte* frame_ = nullptr;  // Of the reservation; null: there is none.
  size_t reserved_bytes_ = 0;   // The payload's.
};

namespace internal {

// What a reader found where a frame should be.
struct BadFrame {
  std::optional<MessageHeader> header;  // Absent: not even that was readable.
  uint64_t readable_bytes = 0;          // From where it begins.
};

absl::Status StatusOf(BadFrame bad);

}  // namespace internal

// Moved, not copied. A handle that was moved from may be destroyed or assigned to.
class MessageReader : private RingReader<> {
 public:
  // A ring that does not stand at a multiple of 8 held something else than messages:
  // status() is DataLoss.
  explicit MessageReader(RingReader<> ring) : RingReader<>(std::move(ring)) {
    // Headers are loaded as one word.
    const auto begin = reinterpret_cast<uintptr_t>(peek_at(0, 0).data());
    if (begin % sizeof(MessageHeader) != 0) bad_.emplace();
  }
  MessageReader(MessageReader&&) noexcept = default;
  MessageReader& operator=(MessageReader&&) noexcept = default;
  // Inlined on every path, as RingClaim's is.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~MessageReader() = default;

  // Shows the next message that was not shown yet, or nothing if there is none. It
  // stays valid until release().
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<std::span<const std::byte>>
  next() {
    if (!Find()) return std::nullopt;
    return TakeFound();
  }

  // Hands the room of all that was shown back to the writer, at once.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void release() {
    if (shown_bytes_ == 0) return;
    consume(shown_bytes_);
    shown_bytes_ = 0;
  }

  // Copies the next message to `buffer`, releases it and all that was shown, and
  // returns its length; nothing if there is none. If the length is above
  // buffer.size(), nothing was copied or released, and the message stays the next.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::optional<size_t> pop(
      std::span<std::byte> buffer) {
    if (!Find()) return std::nullopt;
    const size_t payload_bytes = found_bytes_;
    if (ABSL_PREDICT_FALSE(payload_bytes > buffer.size())) return payload_bytes;
    const std::span<const std::byte> payload = TakeFound();
    // memcpy may not be given the null pointer of an empty buffer.
    if (!buffer.empty()) {
      std::memcpy(buffer.data(), payload.data(), payload_bytes);
    }
    release();
    return payload_bytes;
  }

  // Waits until there is a message that was not shown yet: after kReady next() shows
  // it. What is shown and not released takes up room, which the writer may wait for.
  // REQUIRES: not the whole ring is shown, which one message may be: of a writer that is
  // not trusted, release before you wait.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait
  wait(const RingWaitOptions& options = {}) {
    if (Find()) return RingWait::kReady;
    if (bad_.has_value()) return RingWait::kDataLoss;
    return AtEndOf(
        RingReader<>::wait(shown_bytes_ + sizeof(MessageHeader), options));
  }

  // Asks that the event becomes readable once there is a message that was not shown
  // yet, or the writer ends. Only after kArmed wait for it (RingReader).
  // REQUIRES: event() succeeded; not the whole ring is shown.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait arm() {
    return ArmBy([this](uint64_t bytes) { return RingReader<>::arm(bytes); });
  }

  // See RingHandle.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait TryArm(bool& sure) {
    return ArmBy(
        [&](uint64_t bytes) { return RingReader<>::TryArm(sure, bytes); });
  }

  // Whether there is no message that was not shown yet. Looks at the writer's position
  // only if none is known of.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool empty() { return !Find(); }

  // As RingReader's.
  using RingReader<>::close;
  using RingReader<>::closed;
  using RingReader<>::event;
  using RingReader<>::peer_gone;

  // OK, or DataLoss: see "Errors".
  absl::Status status() const {
    return bad_.has_value() ? internal::StatusOf(*bad_)
                            : RingReader<>::status();
  }

 private:
  // `arm` says whether a header is there.
  template <class F>
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait ArmBy(F arm) {
    if (Find()) return RingWait::kReady;
    if (bad_.has_value()) return RingWait::kDataLoss;
    const RingWait result = arm(shown_bytes_ + sizeof(MessageHeader));
    return result == RingWait::kArmed ? result : AtEndOf(result);
  }

  // Whether there is a message that was not shown yet: its length is in found_bytes_.
  ABSL_ATTRIBUTE_ALWAYS_INLINE bool Find() {
    if (found_bytes_ != kNothingFound) return true;
    if (ABSL_PREDICT_FALSE(bad_.has_value())) return false;
    const uint64_t readable_bytes =
        known(shown_bytes_ + sizeof(MessageHeader)) - shown_bytes_;
    if (readable_bytes == 0) return false;
    if (ABSL_PREDICT_FALSE(readable_bytes < sizeof(MessageHeader))) {
      bad_ = {.header = std::nullopt, .readable_bytes = readable_bytes};
      return false;
    }
    const MessageHeader header = LoadHeader();
    // In 64 bits no sum of these overflows. What was known when the header was seen
    // must have the whole frame: invariant 3.
    if (ABSL_PREDICT_FALSE(header.reserved != 0 ||
                           MessageFrameBytes(header.payload_bytes) >
                               readable_bytes)) {
      bad_ = {.header = header, .readable_bytes = readable_bytes};
      return false;
    }
    found_bytes_ = header.payload_bytes;
    return true;
  }

  // What a wait for a header's bytes comes to. Looks whatever the result is: a part of
  // a header may be there, which is a lie.
  ABSL_ATTRIBUTE_ALWAYS_INLINE RingWait AtEndOf(RingWait result) {
    if (Find()) return RingWait::kReady;
    return bad_.has_value() ? RingWait::kDataLoss : result;
  }

  // Shows the message that Find found.
  ABSL_ATTRIBUTE_ALWAYS_INLINE std::span<const std::byte> TakeFound() {
    const size_t payload_bytes = std::exchange(found_bytes_, kNothingFound);
    const std::span<const std::byte> payload =
        peek_at(shown_bytes_ + sizeof(MessageHeader), payload_bytes);
    shown_bytes_ += MessageFrameBytes(payload_bytes);
    return payload;
  }

  // The header behind what is shown, in one load that the compiler cannot repeat.
  // REQUIRES: it is readable.
  ABSL_ATTRIBUTE_ALWAYS_INLINE MessageHeader LoadHeader() {
    const std::span<const std::byte> bytes =
        peek_at(shown_bytes_, sizeof(MessageHeader));
    auto* word =
        reinterpret_cast<uint64_t*>(const_cast<std::byte*>(bytes.data()));
    return std::bit_cast<MessageHeader>(
        std::atomic_ref<uint64_t>(*word).load(std::memory_order_relaxed));
  }

  uint64_t shown_bytes_ = 0;  // Frames shown since the last release.
  // The length of the message behind them, if it is known: loaded once. Beyond all
  // lengths that there are: it is not.
  static constexpr uint64_t kNothingFound = uint64_t{1} << 32;
  uint64_t found_bytes_ = kNothingFound;
  std::optional<internal::BadFrame> bad_;  // Never reset.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_MESSAGE_H_
