// SPDX-License-Identifier: Apache-2.0
//
// Messages over a ring of bytes: what honest handles do against a queue of messages, and
// what a reader makes of a writer that puts anything into the ring. That must end in
// DataLoss, or in messages that are there, and never beyond what was published.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {
namespace {

SpscRing<>& TheRing() {
  static auto* const ring = new SpscRing<>(*SpscRing<>::Create(1));
  return *ring;
}

// Brings the empty ring to an offset that the input says.
void GoTo(uint64_t offset) {
  SpscRing<>& ring = TheRing();
  const uint64_t n =
      (offset + ring.capacity() - ring.statistics().pushed % ring.capacity()) %
      ring.capacity();
  RingWriter<> writer = ring.writer();
  Require(writer.reserve(n).size() == n, "an empty ring has room");
  writer.commit(n);
  RingReader<> reader = ring.reader();
  Require(reader.size() == n, "size");
  reader.consume(n);
}

void Drain() {
  RingReader<> reader = TheRing().reader();
  reader.consume(reader.size());
  Require(TheRing().empty(), "empty");
}

// What a peer that lies puts into the ring, and what a reader must make of it.
class Liar {
 public:
  Liar() : writer_(TheRing().writer()), reader_(TheRing().reader()) {
    is_bad_ = TheRing().statistics().pushed % 8 != 0;
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte();
    if (op < 64) {
      for (int i = 0; i < op % 20; ++i) Put8(input.Byte());
    } else if (op < 128) {
      Put64(op % 64);  // A whole message.
      const uint64_t padded = (op % 64 + 7) / 8 * 8;
      for (uint64_t i = 0; i < padded; ++i) Put8(static_cast<uint8_t>(i));
    } else if (op < 160) {
      // A header that is nearly right.
      const uint64_t length = input.Below(65536) % (TheRing().capacity() + 64);
      Put64(length | (op < 156 ? 0 : uint64_t{1} << (32 + op % 4 * 8)));
    } else if (op < 176) {
      reader_.release();
    } else {
      Read();
    }
    Flush();
  }

  void Finish() {
    while (Read()) {
    }
    if (is_bad_) {
      Require(reader_.wait({.deadline = absl::InfinitePast()}) ==
                  RingWait::kDataLoss,
              "who waits is told");
      Require(!reader_.next().has_value(), "nothing comes after");
    }
  }

 private:
  void Put8(uint8_t byte) { pending_.push_back(static_cast<std::byte>(byte)); }
  void Put64(uint64_t word) {
    for (int i = 0; i < 8; ++i) Put8(static_cast<uint8_t>(word >> (8 * i)));
  }

  void Flush() {
    const size_t n = writer_.push(pending_);
    bytes_.insert(bytes_.end(), pending_.begin(),
                  pending_.begin() + static_cast<std::ptrdiff_t>(n));
    pending_.clear();
  }

  // How long the message is that must come next; none at the end, or after a lie.
  std::optional<uint64_t> Expect() {
    if (is_bad_) return std::nullopt;
    if (known_ - at_ < sizeof(MessageHeader)) known_ = bytes_.size();
    const uint64_t readable = known_ - at_;
    if (readable == 0) return std::nullopt;
    MessageHeader header;
    is_bad_ = readable < sizeof(header);
    if (is_bad_) return std::nullopt;
    std::memcpy(&header, &bytes_[at_], sizeof(header));
    is_bad_ = header.reserved != 0 ||
              MessageFrameBytes(header.payload_bytes) > readable;
    if (is_bad_) return std::nullopt;
    return header.payload_bytes;
  }

  bool Read() {
    const std::optional<uint64_t> expected = Expect();
    const auto message = reader_.next();
    Require(message.has_value() == expected.has_value(),
            "a message comes if there is one");
    Require(absl::IsDataLoss(reader_.status()) == is_bad_, "DataLoss");
    if (!message) return false;
    Require(message->size() == *expected, "length");
    Require(std::equal(message->begin(), message->end(),
                       bytes_.begin() + static_cast<std::ptrdiff_t>(
                                            at_ + sizeof(MessageHeader))),
            "contents");
    at_ += MessageFrameBytes(*expected);
    return true;
  }

  RingWriter<> writer_;
  MessageReader reader_;
  std::vector<std::byte> pending_;
  std::vector<std::byte> bytes_;  // All that was put into the ring.
  uint64_t at_ = 0;               // Where the next frame begins, in bytes_.
  uint64_t known_ = 0;            // How many of bytes_ the reader knows of.
  bool is_bad_ = false;
};

// Both sides honest.
class Correspondence {
 public:
  Correspondence() {
    writer_.emplace(TheRing().writer());
    reader_.emplace(TheRing().reader());
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte();
    switch (op % 16) {
      case 0:
      case 1:
        return Push(Length(input));
      case 2:
      case 3:
      case 4:
      case 5:
        return Reserve(op, Length(input), input);
      case 6:
        writer_->publish();
        return Published();
      case 7:
      case 8:
      case 9:
        Next();
        return;
      case 10:
        reader_->release();
        return Released();
      case 11:
      case 12:
        return Pop(input);
      case 13:
        return Wait(op, input);
      case 14:
        // What is not published is forgotten.
        writer_.reset();
        writer_.emplace(TheRing().writer());
        committed_.clear();
        return;
      default:
        // What was shown and not released is shown again.
        reader_.reset();
        reader_.emplace(TheRing().reader());
        shown_ = 0;
    }
  }

  void Finish() {
    writer_.reset();
    committed_.clear();
    while (Next()) {
    }
    reader_->release();
    Released();
    Require(messages_.empty() && TheRing().empty(), "nothing is left");
    Require(reader_->status().ok(), "status");
  }

 private:
  struct Message {
    uint64_t number;
    uint64_t bytes;
  };

  static uint64_t Sum(const std::deque<Message>& messages) {
    uint64_t sum = 0;
    for (const Message& m : messages) sum += MessageFrameBytes(m.bytes);
    return sum;
  }

  uint64_t Room() const {
    return TheRing().capacity() - Sum(messages_) - Sum(committed_);
  }

  uint64_t Length(Input& input) const {
    const uint64_t n = input.Count(Room(), TheRing().capacity());
    return n < 4 ? n : n - 4;
  }

  RingRoom Expected(uint64_t bytes) const {
    if (bytes > writer_->max_message_bytes()) return RingRoom::kTooBig;
    return MessageFrameBytes(bytes) > Room() ? RingRoom::kFull
                                             : RingRoom::kRoom;
  }

  void Push(uint64_t bytes) {
    const RingRoom expected = Expected(bytes);
    const auto* const items = ItemsFrom<uint8_t>(next_);
    Require(writer_->push(std::as_bytes(std::span(items, bytes))) == expected,
            "push says whether there is room");
    if (expected != RingRoom::kRoom) return;
    committed_.push_back({next_++, bytes});
    Published();
  }

  void Reserve(uint8_t op, uint64_t bytes, Input& input) {
    const RingRoom expected = Expected(bytes);
    const MessageReservation space = writer_->reserve(bytes);
    Require(space.room == expected, "reserve says whether there is room");
    if (!space) return;
    Require(space.payload.size() == bytes, "as long as was asked for");
    Require(reinterpret_cast<uintptr_t>(space.payload.data()) % 8 == 0,
            "aligned");
    StoreItems(reinterpret_cast<uint8_t*>(space.payload.data()), next_, bytes);
    if (op % 16 == 2) return writer_->abort();
    const uint64_t kept = op % 16 == 3 ? input.Byte() % (bytes + 1) : bytes;
    writer_->stage(kept);
    committed_.push_back({next_++, kept});
  }

  void Published() {
    messages_.insert(messages_.end(), committed_.begin(), committed_.end());
    committed_.clear();
  }

  void Released() {
    messages_.erase(messages_.begin(),
                    messages_.begin() + static_cast<std::ptrdiff_t>(shown_));
    shown_ = 0;
  }

  static void Compare(std::span<const std::byte> message, const Message& m) {
    Require(message.size() == m.bytes, "length");
    Require(AreItems(reinterpret_cast<const uint8_t*>(message.data()), m.number,
                     m.bytes),
            "contents");
  }

  bool Next() {
    const bool any = shown_ < messages_.size();
    const auto message = reader_->next();
    Require(message.has_value() == any, "next says whether there is one");
    if (!any) return false;
    Compare(*message, messages_[shown_++]);
    return true;
  }

  void Pop(Input& input) {
    static std::vector<std::byte> buffer(kMostItems);
    const auto room =
        std::span(buffer).first(input.Count(64, TheRing().capacity()));
    const bool any = shown_ < messages_.size();
    const std::optional<size_t> bytes = reader_->pop(room);
    Require(bytes.has_value() == any, "pop says whether there is one");
    if (!any) return;
    const Message& m = messages_[shown_];
    Require(*bytes == m.bytes, "pop says how long it is");
    if (*bytes > room.size()) return;
    Compare(room.first(*bytes), m);
    ++shown_;
    Released();
  }

  void Wait(uint8_t op, Input& input) {
    const RingWaitOptions past = {.deadline = absl::InfinitePast()};
    if (op < 128) {
      const uint64_t bytes =
          std::min<uint64_t>(Length(input), writer_->max_message_bytes());
      Published();
      const bool fits = Expected(bytes) == RingRoom::kRoom;
      Require((writer_->wait(bytes, past) == RingWait::kReady) == fits,
              "how the writer's wait ends");
      return;
    }
    // Who has the whole ring in front of it may not wait for more.
    const bool any = shown_ < messages_.size();
    if (!any && Sum(messages_) + 8 > TheRing().capacity()) return;
    Require((reader_->wait(past) == RingWait::kReady) == any,
            "how the reader's wait ends");
  }

  std::optional<MessageWriter> writer_;
  std::optional<MessageReader> reader_;
  std::deque<Message> messages_;   // Published and not released.
  std::deque<Message> committed_;  // Not published.
  size_t shown_ = 0;               // Of messages_, how many.
  uint64_t next_ = 0;              // Number of the next one's first byte.
};

template <class Talk>
void Run(Input& input) {
  Talk talk;
  while (!input.empty()) talk.Step(input);
  talk.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace doppel::fuzz;
  Input input(data, size);
  const uint8_t kind = input.Byte();
  // Mostly shortly before the wrap.
  const uint64_t capacity = TheRing().capacity();
  const uint64_t place = input.Byte();
  uint64_t offset = place < 192 ? capacity - 1 - place : (place - 192) * 64;
  const bool lies = kind % 2 == 0;
  // A ring that does not stand at a multiple of 8 held no messages.
  if (!lies || kind < 224) offset = offset / 8 * 8;
  GoTo(offset);
  lies ? Run<Liar>(input) : Run<Correspondence>(input);
  Drain();
  return 0;
}
