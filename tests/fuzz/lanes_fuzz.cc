// SPDX-License-Identifier: Apache-2.0
//
// Operations on Lanes over rings of items and over rings of messages, against a queue a
// lane: nothing is lost or out of order, whoever has something has its turn, and a lane
// goes when it is drained and its producer has closed or lied, not before.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/containers/lanes.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {
namespace {

constexpr RingWaitOptions kAtOnce = {.deadline = absl::InfinitePast(),
                                     .spin = absl::ZeroDuration()};

// What the lanes have. Number n is an item, or a message of n % 50 bytes.
struct Items {
  using Ring = SpscRing<uint64_t>;
  using Writer = RingWriter<uint64_t>;
  using Reader = RingReader<uint64_t>;
  static constexpr bool kCanLie = false;

  static bool Put(Writer& writer, uint64_t number) {
    return writer.try_push(ItemOf<uint64_t>(number));
  }
  static void Lie(Writer&) {}
  static bool Take(Reader& reader, uint64_t number) {
    const std::optional<uint64_t> item = reader.try_pop();
    Require(!item || *item == ItemOf<uint64_t>(number), "contents");
    return item.has_value();
  }
  static void Release(Reader& reader) { reader.release(); }
};

struct Messages {
  using Ring = SpscRing<>;
  using Writer = MessageWriter;
  using Reader = MessageReader;
  static constexpr bool kCanLie = true;

  static std::span<const std::byte> Payload(uint64_t number) {
    return std::as_bytes(std::span(ItemsFrom<uint8_t>(number), number % 50));
  }
  static bool Put(Writer& writer, uint64_t number) {
    return writer.push(Payload(number)) == RingRoom::kRoom;
  }
  static bool Take(Reader& reader, uint64_t number) {
    const auto message = reader.next();
    Require(!message || std::ranges::equal(*message, Payload(number)),
            "contents");
    return message.has_value();
  }
  static void Release(Reader& reader) { reader.release(); }
};

// A ring that may be in a lane; it serves for many inputs.
template <class Kind>
class Producer {
 public:
  Producer() : ring_(*Kind::Ring::Create(1, kOptions)) { Open(); }

  typename Kind::Reader Join() {
    is_in_ = true;
    return typename Kind::Reader(ring_.reader());
  }

  void Put(uint64_t n) {
    for (uint64_t i = 0; i < n && !closed_ && !lied_; ++i) {
      // Of small messages a reader could show the whole ring, and then wait.
      if (ring_.size() > ring_.capacity() / 4) return;
      Require(Kind::Put(*writer_, next_), "there is room");
      queue_.push_back(next_++);
    }
  }

  void Close() {
    writer_->close();
    closed_ = true;
  }

  // Puts something in that is no message.
  void Lie() {
    if constexpr (Kind::kCanLie) {
      if (closed_ || lied_) return;
      writer_.reset();
      const std::array<std::byte, 8> header = {std::byte{0xff}, std::byte{1}};
      Require(ring_.writer().push(header) == header.size(), "there is room");
      writer_.emplace(ring_.writer());
      lied_ = true;
    }
  }

  // Takes one from the reader; whether there was one.
  bool Take(typename Kind::Reader& reader) {
    const bool took = Kind::Take(reader, queue_.empty() ? 0 : queue_.front());
    Require(took == !queue_.empty(), "one comes if there is one");
    if (took) queue_.pop_front();
    return took;
  }

  // Makes it as it was, once the lane is gone.
  void Reset() {
    writer_.reset();
    {
      auto reader = ring_.reader();
      reader.consume(reader.size());
    }
    queue_.clear();
    next_ = 0;
    is_in_ = closed_ = lied_ = false;
    Open();
  }

  bool is_in() const { return is_in_; }
  bool HasSomething() const { return !queue_.empty(); }
  // How it has ended, if it has.
  std::optional<RingWait> Ended() const {
    if (HasSomething() || (!closed_ && !lied_)) return std::nullopt;
    return lied_ ? RingWait::kDataLoss : RingWait::kClosed;
  }

 private:
  inline static const RingOptions kOptions = {
      .arena = nullptr, .line_ownership = LineOwnership::kOff};

  void Open() { writer_.emplace(ring_.writer()); }

  typename Kind::Ring ring_;
  std::optional<typename Kind::Writer> writer_;
  std::deque<uint64_t> queue_;  // Numbers that were not taken.
  uint64_t next_ = 0;
  bool is_in_ = false;
  bool closed_ = false;
  bool lied_ = false;
};

template <class Kind>
class Driver {
 public:
  static constexpr size_t kProducers = 5;

  ~Driver() {
    { Lanes<typename Kind::Reader> ended = std::move(lanes_); }
    for (Producer<Kind>& producer : Producers()) producer.Reset();
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte() % 32;
    if (op < 10) return Producers()[Choose(input)].Put(input.Byte() % 16);
    if (op < 22) return Turn(op, input);
    if (op < 25) return Add(Choose(input));
    if (op < 27) return Close(Choose(input));
    if (op < 28) return Lie(Choose(input));
    if (op < 30) return Wait();
    RemoveEnded();
  }

  // Takes all there is, in turns.
  void Finish() {
    while (Turn(1)) {
    }
    for (Lane& lane : model_) {
      Require(!Of(lane).HasSomething(), "nothing is lost");
      if (!Of(lane).Ended()) Of(lane).Close();
    }
    Wait();
    RemoveEnded();
    Require(lanes_.size() == 0, "all have ended");
  }

 private:
  struct Lane {
    size_t producer;
    size_t number;
    uint64_t turn = 0;   // When it had its last one.
    uint64_t since = 0;  // When it came to have something, if it has.
    bool had_something = false;
  };

  static std::array<Producer<Kind>, kProducers>& Producers() {
    static auto* const producers = new std::array<Producer<Kind>, kProducers>;
    return *producers;
  }
  static Producer<Kind>& Of(const Lane& lane) {
    return Producers()[lane.producer];
  }

  static size_t Choose(Input& input) { return input.Byte() % kProducers; }

  void Add(size_t producer) {
    if (Producers()[producer].is_in()) return;
    const absl::StatusOr<size_t> number =
        lanes_.Add(Producers()[producer].Join());
    Require(number.ok() && *number == next_number_, "each has its number");
    model_.push_back({.producer = producer, .number = next_number_++});
  }

  void Close(size_t producer) {
    if (Producers()[producer].is_in()) Producers()[producer].Close();
  }

  void Lie(size_t producer) {
    if (Producers()[producer].is_in()) Producers()[producer].Lie();
  }

  void Turn(uint8_t op, Input& input) { Turn(op < 14 ? op - 9 : input.Byte()); }

  // Takes up to n in a lane's turn. Whether there was one.
  bool Turn(uint64_t n) {
    ++now_;
    for (Lane& lane : model_) {
      const bool has_something = Of(lane).HasSomething();
      if (has_something && !lane.had_something) lane.since = now_;
      lane.had_something = has_something;
    }
    typename Kind::Reader* const reader = lanes_.Next();
    const bool any = std::ranges::any_of(
        model_, [](const Lane& lane) { return lane.had_something; });
    Require((reader != nullptr) == any, "a lane has something");
    if (reader == nullptr) return false;
    const auto lane =
        std::ranges::find(model_, lanes_.current(), &Lane::number);
    Require(lane != model_.end() && lane->had_something, "it is this one");
    for (const Lane& other : model_) {
      const bool waited = other.had_something && other.since <= lane->turn;
      Require(!waited || other.turn >= lane->turn, "no lane has two turns");
    }
    lane->turn = now_;
    for (uint64_t i = 0; i < n; ++i) {
      if (!Of(*lane).Take(*reader)) break;
    }
    if (n % 4 != 0) Kind::Release(*reader);
    return true;
  }

  void Wait() {
    const bool any = std::ranges::any_of(
        model_, [](const Lane& lane) { return Of(lane).HasSomething(); });
    const bool ended =
        model_.empty() || std::ranges::any_of(model_, [](const Lane& lane) {
          return Of(lane).Ended().has_value();
        });
    Require(lanes_.wait(kAtOnce) == (any     ? RingWait::kReady
                                     : ended ? RingWait::kClosed
                                             : RingWait::kDeadlineExceeded),
            "how the wait ends");
  }

  void RemoveEnded() {
    std::vector<std::pair<size_t, RingWait>> expected;
    std::vector<size_t> producers;
    std::erase_if(model_, [&](const Lane& lane) {
      const std::optional<RingWait> why = Of(lane).Ended();
      if (!why) return false;
      expected.push_back({lane.number, *why});
      producers.push_back(lane.producer);
      return true;
    });
    const auto ended = lanes_.RemoveEnded();
    Require(ended.size() == expected.size(), "so many have ended");
    for (size_t i = 0; i < ended.size(); ++i) {
      Require(ended[i].lane == expected[i].first &&
                  ended[i].why == expected[i].second,
              "which, and why");
    }
    for (const size_t producer : producers) Producers()[producer].Reset();
    Require(lanes_.size() == model_.size(), "size");
  }

  Lanes<typename Kind::Reader> lanes_;
  std::vector<Lane> model_;
  size_t next_number_ = 0;
  uint64_t now_ = 0;  // Turns.
};

template <class Kind>
void Run(Input& input) {
  Driver<Kind> driver;
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using doppel::fuzz::Input;
  using doppel::fuzz::Items;
  using doppel::fuzz::Messages;
  using doppel::fuzz::Run;
  Input input(data, size);
  input.Byte() % 2 == 0 ? Run<Items>(input) : Run<Messages>(input);
  return 0;
}
