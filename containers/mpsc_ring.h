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
//      creation: no operation faults, allocates or calls the kernel.
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
// Errors: Create returns a Status. Operations return a small enum or an empty
//   optional. Nothing throws.
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

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/base/optimization.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/containers/internal/mpsc_shared.h"
#include "doppel/containers/internal/prefetch.h"

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

  // The headers in the memory, always by the first view: they never wrap.
  struct HeaderAt {
    std::byte* data;
    uint64_t* word(uint64_t offset_bytes) const {
      return reinterpret_cast<uint64_t*>(data + offset_bytes);
    }
    std::atomic_ref<uint64_t> operator()(uint64_t offset_bytes) const {
      return std::atomic_ref<uint64_t>(*word(offset_bytes));
    }
  };

 public:
  using Options = MpscRingOptions;
  using Statistics = MpscRingStatistics;
  class Producer;
  class Consumer;

  enum class Result : uint8_t {
    kDone,
    kFull,    // Later perhaps: the consumer must hand back first.
    kTooBig,  // Never: longer than max_message_bytes().
  };

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
  Producer producer();

  // The one consumer's handle. REQUIRES: no other Consumer of this ring lives.
  Consumer consumer();

 private:
  MpscRing(internal::Mirror mirror,
           std::unique_ptr<internal::MpscShared> shared)
      : mirror_(std::move(mirror)), shared_(std::move(shared)) {}

  void CheckNoHandles() const;

  internal::Mirror mirror_;  // Holds nothing after a move.
  // On the heap: handles point to it.
  std::unique_ptr<internal::MpscShared> shared_;
};

// What reserve returns: whether there is space, and the space.
struct MpscReservation {
  MpscRing::Result result = MpscRing::Result::kFull;
  std::span<std::byte> payload;  // Empty unless kDone; may be empty then, too.

  explicit operator bool() const { return result == MpscRing::Result::kDone; }
};

// One producer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
class MpscRing::Producer {
 public:
  Producer(Producer&& other) noexcept
      : shared_(std::exchange(other.shared_, nullptr)),
        data_(other.data_),
        cursor_(other.cursor_),
        max_message_bytes_(other.max_message_bytes_),
        open_offset_bytes_(other.open_offset_bytes_),
        open_bytes_(other.open_bytes_) {}
  Producer& operator=(Producer&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    shared_ = std::exchange(other.shared_, nullptr);
    data_ = other.data_;
    cursor_ = other.cursor_;
    max_message_bytes_ = other.max_message_bytes_;
    open_offset_bytes_ = other.open_offset_bytes_;
    open_bytes_ = other.open_bytes_;
    return *this;
  }
  // Aborts what is reserved.
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Producer() { Leave(); }

  // Space for a message of up to `bytes`, to be written to until it is committed or
  // aborted. Any length is allowed, 0 too.
  // REQUIRES: no reservation of this handle is open.
  [[nodiscard]] MpscReservation reserve(uint64_t bytes) {
    ABSL_HARDENING_ASSERT(open_bytes_ == 0 && "commit or abort before reserve");
    if (ABSL_PREDICT_FALSE(bytes > max_message_bytes_)) {
      return {Result::kTooBig, {}};
    }
    const uint64_t frame_bytes = internal::FrameBytes(bytes);
    const std::optional<uint64_t> offset_bytes = cursor_.Claim(
        frame_bytes, HeaderAt{data_},
        [shared = shared_](uint64_t position, uint64_t used_bytes, bool full) {
          shared->Looked(position, used_bytes, full);
        });
    if (ABSL_PREDICT_FALSE(!offset_bytes)) return {Result::kFull, {}};
    open_offset_bytes_ = *offset_bytes;
    open_bytes_ = frame_bytes;
    // The next claim takes about as many lines. Unless they are on their way here when
    // its compare-and-swap drains the store buffer, each is waited for in full.
    internal::FetchToWrite(data_ + *offset_bytes + frame_bytes + kAheadBytes,
                           std::min(frame_bytes, kMostAheadBytes));
    return {Result::kDone,
            {data_ + *offset_bytes + internal::kFrameHeaderBytes, bytes}};
  }

  // Hands the first `bytes` of the reservation to the consumer as one message.
  // REQUIRES: a reservation is open, of at least that many bytes.
  void commit(uint64_t bytes) {
    // In this order: a length near 2^64 must not overflow.
    ABSL_HARDENING_ASSERT(open_bytes_ != 0 && "commit without reserve");
    ABSL_HARDENING_ASSERT(bytes <= open_bytes_ - internal::kFrameHeaderBytes &&
                          "commit of more than was reserved");
    Close(internal::MpscHeader::Message(bytes, open_bytes_));
  }

  // Gives the reservation up: the consumer passes over it.
  // REQUIRES: a reservation is open.
  void abort() {
    ABSL_HARDENING_ASSERT(open_bytes_ != 0 && "abort without reserve");
    Close(internal::MpscHeader::Skip(open_bytes_));
  }

  // Sends a copy of the message.
  [[nodiscard]] Result push(std::span<const std::byte> message) {
    const MpscReservation space = reserve(message.size());
    if (ABSL_PREDICT_FALSE(!space)) return space.result;
    // memcpy may not be given the null pointer of an empty span.
    if (!message.empty()) {
      std::memcpy(space.payload.data(), message.data(), message.size());
    }
    commit(message.size());
    return Result::kDone;
  }

  uint64_t max_message_bytes() const { return max_message_bytes_; }

 private:
  friend class MpscRing;
  using Cursor = internal::MpscProducerCursor<kFramesWrap>;

  // How far ahead lines are fetched, and how much of them at most. Messages of 8 bytes
  // to a core that shares the cache: 33 M/s without, 65 to 90 at 64 and 128 bytes
  // ahead, 108 at 256, no more beyond.
  static constexpr uint64_t kAheadBytes = 256;
  static constexpr uint64_t kMostAheadBytes = 512;

  Producer(internal::MpscShared* shared, const internal::Mirror& mirror)
      : shared_(shared),
        data_(mirror.data()),
        cursor_(&shared->claim_position, &shared->consumer_position,
                mirror.size_bytes()),
        max_message_bytes_(static_cast<uint32_t>(
            internal::MaxMessageBytes<kFramesWrap>(mirror.size_bytes()))) {
    shared->producers.fetch_add(1, std::memory_order_relaxed);
  }

  void Close(internal::MpscHeader header) {
    Cursor::Commit(open_offset_bytes_, header, HeaderAt{data_});
    open_bytes_ = 0;
  }

  // Inlined on every path, unwinding too: see MpscShared::Looked.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() {
    if (shared_ == nullptr) return;
    if (ABSL_PREDICT_FALSE(open_bytes_ != 0)) {
      internal::AbortLeft(*shared_, HeaderAt{data_}.word(open_offset_bytes_),
                          open_bytes_);
    }
    shared_->producers.fetch_sub(1, std::memory_order_release);
  }

  internal::MpscShared* shared_;  // Null: moved from.
  std::byte* data_;               // A copy: the mirror may move.
  Cursor cursor_;
  // 32 bits are enough (kMaxPayloadBytes), and by them compilers know that what was
  // compared with it has no frame that overflows.
  uint32_t max_message_bytes_;
  uint64_t open_offset_bytes_ = 0;  // Of the frame that is reserved.
  uint64_t open_bytes_ = 0;         // Its length; 0: none is.
};

// The consumer's side: moved, not copied. A handle that was moved from may be
// destroyed or assigned to.
class MpscRing::Consumer {
 public:
  Consumer(Consumer&& other) noexcept
      : shared_(std::exchange(other.shared_, nullptr)),
        data_(other.data_),
        cursor_(other.cursor_),
        shown_(other.shown_),
        messages_(other.messages_) {}
  Consumer& operator=(Consumer&& other) noexcept {
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
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~Consumer() { Leave(); }

  // The next message, which may be empty; nullopt if there is none, or if the one
  // that comes next is not committed yet. It may be read until it is released.
  std::optional<std::span<const std::byte>> next() {
    const internal::MpscHeader header = Find();
    if (!header.committed()) return std::nullopt;
    const std::span<const std::byte> message = Show(header);
    return message;
  }

  // Hands all messages that were shown back to the producers, at once.
  void release() {
    if (shown_ != 0) {
      messages_ += shown_;
      shown_ = 0;
      shared_->messages.store(messages_, std::memory_order_relaxed);
    }
    HandBack();
  }

  // Copies the next message to `buffer`, releases it with all that were shown, and
  // returns its length; nullopt as next(). If the length is above buffer.size(),
  // nothing was copied or released, and the message stays the next one.
  std::optional<uint64_t> pop(std::span<std::byte> buffer) {
    const internal::MpscHeader header = Find();
    if (!header.committed()) return std::nullopt;
    const uint64_t bytes = header.payload_bytes();
    if (bytes > buffer.size()) return bytes;
    const std::span<const std::byte> message = Show(header);
    if (bytes > 0) std::memcpy(buffer.data(), message.data(), bytes);
    release();
    return bytes;
  }

 private:
  friend class MpscRing;

  Consumer(internal::MpscShared* shared, const internal::Mirror& mirror)
      : shared_(shared),
        data_(mirror.data()),
        cursor_(&shared->consumer_position, mirror.size_bytes()),
        messages_(shared->messages.load(std::memory_order_relaxed)) {}

  // The header of the next message, past what is to be skipped; or not committed.
  // Ends after a lap at the latest, as frames that were passed are not looked at.
  internal::MpscHeader Find() {
    internal::MpscHeader header = cursor_.Look(HeaderAt{data_});
    if (ABSL_PREDICT_FALSE(header.skip())) {
      do {
        cursor_.Pass(header);
        header = cursor_.Look(HeaderAt{data_});
      } while (header.skip());
      // Who is shown no message has nothing to release: it would never be done.
      if (!header.committed() && shown_ == 0) HandBack();
    }
    return header;
  }

  std::span<const std::byte> Show(internal::MpscHeader header) {
    const std::byte* begin =
        data_ + cursor_.offset_bytes() + internal::kFrameHeaderBytes;
    cursor_.Pass(header);
    ++shown_;
    return {begin, header.payload_bytes()};
  }

  void HandBack() {
    // The user may have read by the second view what is zeroed by the first. To the
    // compiler they are different objects: it must not move the reads below.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    cursor_.HandBack([data = data_](uint64_t offset_bytes, uint64_t bytes) {
      std::memset(data + offset_bytes, 0, bytes);
    });
  }

  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() {
    if (shared_ != nullptr) shared_->LeaveConsumer();
  }

  internal::MpscShared* shared_;  // Null: moved from.
  std::byte* data_;               // A copy: the mirror may move.
  internal::MpscConsumerCursor<> cursor_;
  uint64_t shown_ = 0;  // Messages that were shown and not released.
  uint64_t messages_;   // What shared_->messages holds, without loading it.
};

inline MpscRing::Producer MpscRing::producer() {
  return Producer(shared_.get(), mirror_);
}

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_MPSC_RING_H_
