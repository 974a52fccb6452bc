// SPDX-License-Identifier: Apache-2.0
//
// Operations on an MpscRing: reservations of several producers open at a time, committed
// in any order, shortened, aborted, abandoned with their handle; and the one consumer.
// Both sides wait, with a deadline that has passed, are told by events, and close.

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {
namespace {

constexpr bool kCanonical = internal::Mirror::kMaxViews == 1;
constexpr size_t kProducers = 3;

enum class State : uint8_t { kOpen, kMessage, kSkip };

struct Frame {
  State state = State::kOpen;
  uint64_t frame_bytes = 0;
  uint64_t payload_bytes = 0;
  uint64_t number = 0;  // Of its first byte.
};

// Makes a ring and keeps it from one input to the next.
struct MpscRecord {
  explicit MpscRecord(uint64_t min_capacity_bytes)
      : ring(*MpscRing::Create(min_capacity_bytes)) {}

  MpscRing ring;
  uint64_t claimed_bytes = 0;  // Since it was made.
  uint64_t messages = 0;
  uint64_t refusals = 0;
  uint64_t stalls = 0;
  bool stalled = false;
  uint64_t next = 0;          // Number of the next message.
  std::vector<Frame> frames;  // Claimed, and from `first` on not handed back.
};

class MpscDriver {
 public:
  explicit MpscDriver(MpscRecord& record)
      : record_(record),
        capacity_bytes_(record.ring.capacity_bytes()),
        consumer_(record.ring.consumer()) {
    record_.frames.clear();
    for (auto& producer : producers_) producer.emplace(record.ring.producer());
  }

  // Goes on to the offset that the input says.
  void Start(Input& input) {
    const uint64_t near = input.Byte();
    const uint64_t wanted =
        near < 128 ? (capacity_bytes_ - near % 64 * 8) % capacity_bytes_
                   : capacity_bytes_ / 1024 * (near - 128) * 8;
    // One view has room for half of it at a time, and skips the end by itself.
    while (record_.claimed_bytes % capacity_bytes_ != wanted) {
      const uint64_t at = record_.claimed_bytes % capacity_bytes_;
      const uint64_t distance = (at < wanted ? wanted : capacity_bytes_) - at;
      const uint64_t bytes =
          std::min(distance - 8, record_.ring.max_message_bytes() / 8 * 8);
      Claim(0, bytes);
      producers_[0]->abort();
      record_.frames.back().state = State::kSkip;
      open_[0].reset();
      Next();
    }
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte();
    const size_t i = op / 16 % kProducers;
    switch (op % 16) {
      case 0:
      case 1:
      case 2:
        Next();
        break;
      case 3:
        consumer_.release();
        Released();
        break;
      case 4:
        Pop(input);
        break;
      case 5:
        if (op < 128) {
          StepConsumersWait(op);
        } else if (!open_[i]) {
          StepProducersWait(i, op, input);
        }
        break;
      case 6:
        StepHandles(i, op);
        break;
      case 7:
      case 8:
      case 9:
        if (open_[i]) break;
        Push(i, Length(input));
        break;
      default:
        if (open_[i]) {
          Close(i, op, input);
        } else {
          Claim(i, Length(input));
        }
    }
    CheckSize();
  }

  // Drops the producers, takes what is left, and checks that this was all.
  void Finish() {
    for (size_t i = 0; i < kProducers; ++i) DropProducer(i);
    while (Next()) {
    }
    consumer_.release();
    Released();
    CheckSize();
    Require(record_.ring.empty(), "empty");
  }

 private:
  struct Open {
    size_t frame;  // Its index.
    std::span<std::byte> payload;
  };

  uint64_t Length(Input& input) const {
    const uint64_t byte = input.Byte();
    if (byte < 160) return byte % 80;
    const uint64_t room = capacity_bytes_ - UsedBytes();
    if (byte < 208) {
      // About as long as there is room for.
      const uint64_t about = room + (byte - 160) / 3;
      return about < 16 ? 0 : about - 16;
    }
    return record_.ring.max_message_bytes() * (byte - 208) / 46;
  }

  uint64_t UsedBytes() const {
    uint64_t sum = 0;
    for (size_t i = first_; i < record_.frames.size(); ++i) {
      sum += record_.frames[i].frame_bytes;
    }
    return sum;
  }

  // The bytes at the end that a frame does not fit in.
  uint64_t SkipFor(uint64_t frame_bytes) const {
    const uint64_t to_end =
        capacity_bytes_ - record_.claimed_bytes % capacity_bytes_;
    return kCanonical && to_end < frame_bytes ? to_end : 0;
  }

  bool HasRoom(uint64_t frame_bytes) const {
    return UsedBytes() + SkipFor(frame_bytes) + frame_bytes <= capacity_bytes_;
  }

  // What a claim comes to; enters it into the model.
  RingRoom ModelClaim(uint64_t bytes) {
    if (bytes > record_.ring.max_message_bytes()) return RingRoom::kTooBig;
    const uint64_t frame_bytes = internal::FrameBytes(bytes);
    const uint64_t skip = SkipFor(frame_bytes);
    if (!HasRoom(frame_bytes)) {
      ++record_.refusals;
      record_.stalls += std::exchange(record_.stalled, true) ? 0 : 1;
      return RingRoom::kFull;
    }
    record_.stalled = false;
    record_.claimed_bytes += skip + frame_bytes;
    if (skip > 0) record_.frames.push_back({State::kSkip, skip, 0, 0});
    record_.frames.push_back({State::kOpen, frame_bytes, bytes, record_.next});
    record_.next += 7;  // No two messages begin alike.
    return RingRoom::kRoom;
  }

  void Claim(size_t i, uint64_t bytes) {
    const RingRoom expected = ModelClaim(bytes);
    const MessageReservation space = producers_[i]->reserve(bytes);
    Require(space.room == expected, "reserve says whether there is room");
    if (expected != RingRoom::kRoom) return;
    Require(space.payload.size() == bytes, "as long as was asked for");
    Require(reinterpret_cast<uintptr_t>(space.payload.data()) % 8 == 0,
            "aligned");
    // Stale bytes could be taken for headers (internal/mpsc_protocol.h).
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
      uint64_t word;
      std::memcpy(&word, &space.payload[at], sizeof(word));
      Require(word == 0, "free memory is zero");
    }
    StoreItems(reinterpret_cast<uint8_t*>(space.payload.data()),
               record_.frames.back().number, bytes);
    open_[i] = Open{record_.frames.size() - 1, space.payload};
  }

  void Close(size_t i, uint8_t op, Input& input) {
    Frame& frame = record_.frames[open_[i]->frame];
    const uint64_t size = open_[i]->payload.size();
    switch (op % 16) {
      case 10:
        producers_[i]->abort();
        frame.state = State::kSkip;
        open_[i].reset();
        return consumer_event_.Tell();
      case 11:
        return DropProducer(i);
      case 12:
        frame.payload_bytes = input.Byte() % (size + 1);
        break;
      default:
        break;
    }
    producers_[i]->commit(frame.payload_bytes);
    frame.state = State::kMessage;
    open_[i].reset();
    consumer_event_.Tell();
  }

  // What it has reserved is passed over.
  void DropProducer(size_t i) {
    if (open_[i]) {
      record_.frames[open_[i]->frame].state = State::kSkip;
      consumer_event_.Tell();
    }
    open_[i].reset();
    producers_[i].reset();
    producers_[i].emplace(record_.ring.producer());
    producer_events_[i] = {};
    closed_[i] = false;
  }

  void Push(size_t i, uint64_t bytes) {
    const uint8_t* const message = ItemsFrom<uint8_t>(record_.next);
    // The table's runs are shorter than what is too big for the largest ring.
    bytes = std::min(bytes, kMostItems);
    const RingRoom expected = ModelClaim(bytes);
    Require(producers_[i]->push(std::as_bytes(std::span(message, bytes))) ==
                expected,
            "push says whether there was room");
    if (expected == RingRoom::kRoom) {
      record_.frames.back().state = State::kMessage;
      consumer_event_.Tell();
    }
  }

  // Whether an event has been asked for, and is to tell.
  struct Event {
    bool armed = false;
    bool due = false;

    void Arm(RingWait result) {
      armed = result == RingWait::kArmed;
      due = false;
    }
    void Tell() { due |= std::exchange(armed, false); }
    void Check(const absl::StatusOr<int>& fd) const {
      Require(fd.ok(), "event");
      pollfd polled = {.fd = *fd, .events = POLLIN, .revents = 0};
      Require(!due || poll(&polled, 1, 0) == 1, "the event tells");
    }
  };

  static RingWait Ends(bool ready, bool closed, RingWait otherwise) {
    if (ready) return RingWait::kReady;
    return closed ? RingWait::kClosed : otherwise;
  }

  // Whether no producer is left that might send.
  bool Ended() const { return std::ranges::all_of(closed_, std::identity()); }

  void StepConsumersWait(uint8_t op) {
    if (op < 32) {
      consumer_.close();
      consumer_closed_ = true;
      for (Event& event : producer_events_) event.Tell();
      return;
    }
    const absl::StatusOr<int> event = consumer_.event();
    consumer_event_.Check(event);
    Require(consumer_.closed() == Ended(), "closed");
    // It hands back what was shown.
    Released();
    const bool ready = ModelNext() != nullptr;
    if (op < 80) {
      Require(consumer_.wait({.deadline = absl::InfinitePast()}) ==
                  Ends(ready, Ended(), RingWait::kDeadlineExceeded),
              "how the consumer's wait ends");
      return;
    }
    const RingWait armed = consumer_.arm();
    Require(armed == Ends(ready, Ended(), RingWait::kArmed),
            "what the consumer's arm finds");
    consumer_event_.Arm(armed);
  }

  void StepProducersWait(size_t i, uint8_t op, Input& input) {
    MpscRing::Producer& producer = *producers_[i];
    if (op >= 240) {
      producer.close();
      // Once is enough.
      if (!std::exchange(closed_[i], true)) consumer_event_.Tell();
      return;
    }
    const absl::StatusOr<int> event = producer.event();
    producer_events_[i].Check(event);
    Require(producer.closed() == consumer_closed_, "closed");
    const uint64_t bytes =
        std::min(Length(input), record_.ring.max_message_bytes());
    const bool ready = HasRoom(internal::FrameBytes(bytes));
    if (op < 184) {
      Require(producer.wait(bytes, {.deadline = absl::InfinitePast()}) ==
                  Ends(ready, consumer_closed_, RingWait::kDeadlineExceeded),
              "how the producer's wait ends");
      return;
    }
    const RingWait armed = producer.arm(bytes);
    Require(armed == Ends(ready, consumer_closed_, RingWait::kArmed),
            "what the producer's arm finds");
    producer_events_[i].Arm(armed);
  }

  // The frame of the next message, past what is to be skipped; nullptr if none.
  const Frame* ModelNext() {
    const std::vector<Frame>& frames = record_.frames;
    while (passed_ < frames.size() && frames[passed_].state == State::kSkip) {
      ++passed_;
    }
    const bool is_message =
        passed_ < frames.size() && frames[passed_].state == State::kMessage;
    // Frames to skip are handed back with none that is shown.
    if (!is_message && shown_ == 0) Released();
    return is_message ? &frames[passed_] : nullptr;
  }

  void Released() {
    if (first_ != passed_) {
      for (Event& event : producer_events_) event.Tell();
    }
    first_ = passed_;
    record_.messages += std::exchange(shown_, 0);
  }

  static void Compare(std::span<const std::byte> message, const Frame& frame) {
    Require(message.size() == frame.payload_bytes, "length");
    Require(AreItems(reinterpret_cast<const uint8_t*>(message.data()),
                     frame.number, message.size()),
            "contents");
  }

  bool Next() {
    const Frame* const expected = ModelNext();
    const auto message = consumer_.next();
    Require(message.has_value() == (expected != nullptr),
            "next says whether there is one");
    if (expected == nullptr) return false;
    Compare(*message, *expected);
    ++passed_;
    ++shown_;
    return true;
  }

  void Pop(Input& input) {
    const uint64_t size = input.Count(64, capacity_bytes_);
    static std::vector<std::byte> buffer(kMostItems);
    const auto room = std::span(buffer).first(std::min(size, kMostItems));
    const Frame* const expected = ModelNext();
    const std::optional<uint64_t> bytes = consumer_.pop(room);
    Require(bytes.has_value() == (expected != nullptr),
            "pop says whether there is one");
    if (expected == nullptr) return;
    Require(*bytes == expected->payload_bytes, "pop says how long it is");
    if (*bytes > room.size()) return;
    Compare(room.first(*bytes), *expected);
    ++passed_;
    ++shown_;
    Released();
  }

  void StepHandles(size_t i, uint8_t op) {
    if (op < 48) {
      // What was shown and not released is shown again.
      { const MpscRing::Consumer gone(std::move(consumer_)); }
      consumer_ = record_.ring.consumer();
      passed_ = first_;
      shown_ = 0;
      consumer_event_ = {};
      consumer_closed_ = false;
    } else if (op < 96) {
      MpscRing::Consumer moved(std::move(consumer_));
      consumer_ = std::move(moved);
    } else if (op < 192) {
      MpscRing::Producer moved(*std::move(producers_[i]));
      *producers_[i] = std::move(moved);
    } else {
      MpscRing moved(std::move(record_.ring));
      record_.ring = std::move(moved);
    }
  }

  void CheckSize() const {
    Require(record_.ring.size_bytes() == UsedBytes(), "size");
    const MpscRing::Statistics statistics = record_.ring.statistics();
    Require(statistics.messages == record_.messages, "messages");
    Require(statistics.refusals == record_.refusals, "refusals");
    Require(statistics.stalls == record_.stalls, "stalls");
    Require(statistics.high_water_bytes <= capacity_bytes_, "high water");
  }

  MpscRecord& record_;
  uint64_t capacity_bytes_;
  size_t first_ = 0;    // The oldest frame that is not handed back.
  size_t passed_ = 0;   // The oldest that the consumer is not past.
  uint64_t shown_ = 0;  // Messages between them.
  std::array<std::optional<Open>, kProducers> open_;
  std::array<std::optional<MpscRing::Producer>, kProducers> producers_;
  std::array<Event, kProducers> producer_events_;
  std::array<bool, kProducers> closed_ = {};
  MpscRing::Consumer consumer_;
  Event consumer_event_;
  bool consumer_closed_ = false;
};

constexpr int kInputsPerRing = 4096;

template <uint64_t kMinCapacityBytes>
void Run(Input& input) {
  static std::optional<MpscRecord> record;
  static int inputs = 0;
  if (inputs++ % kInputsPerRing == 0) record.emplace(kMinCapacityBytes);
  MpscDriver driver(*record);
  driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace doppel::fuzz;
  Input input(data, size);
  // Three pages: a capacity that is no power of two.
  input.Byte() % 4 == 0 ? Run<9'000>(input) : Run<1>(input);
  return 0;
}
