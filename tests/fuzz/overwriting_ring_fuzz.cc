// SPDX-License-Identifier: Apache-2.0
//
// Operations on an OverwritingRing and up to three readers of it, against what its header
// promises: each item comes once, whole and in its order, or is counted as lost, and only
// what is old is lost.
//
//   reader       oldest        newest - (capacity - lead)         newest
//     │   lost     │   intact, for now   │        intact             │
//   ──┴────────────┴─────────────────────┴───────────────────────────┴──▶ position

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {
namespace {

constexpr uint32_t kReaders = 3;

template <class T>
class Driver {
  using Ring = OverwritingRing<T>;
  using From = typename Ring::Start;

  // A reader, and what the model knows of it.
  struct Listener {
    Listener(typename Ring::Reader reader, uint64_t position)
        : handle(std::move(reader)), begin(position), position(position) {}

    typename Ring::Reader handle;
    uint64_t begin;
    uint64_t position;  // Of the next item: all before it was got or lost.
    uint64_t got = 0;
  };

 public:
  Driver() { writer_.emplace(TheRing().writer()); }

  // Begins with a ring that was never full.
  static void MakeAnew() {
    TheRing() = Make();
    Written() = lost_ = overruns_ = 0;
  }

  // Goes on to the offset that the input says, and to where the writer is about to take
  // the next slots: what it does must not depend on what the one before left.
  void Start(Input& input) {
    const uint64_t lap = TheRing().memory_bytes();
    const uint64_t period = lap / std::gcd(lap, uint64_t{sizeof(T)});
    Require(period > 0, "a lap has items");
    const uint64_t wanted = period * input.Byte() / 256;
    const uint64_t n = (wanted + period - Written() % period) % period;
    for (uint64_t i = 0; i < n % Lead(); ++i) Push(1);
    for (uint64_t i = 0; i < n / Lead(); ++i) Push(Lead());
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte() % 32;
    if (op < 4) return Push(1);
    if (op < 10) {
      return Push(input.Count(Capacity(), 2 * Capacity()));
    }
    if (op < 12) return StepWriter(op, input);
    if (op < 15) return Join(op, input);
    std::optional<Listener>& listener = listeners_[input.Byte() % kReaders];
    if (listener) StepReader(op, *listener, listener, input);
    CheckRing();
  }

  // Each reader gets all that is left to it, and then all adds up.
  void Finish() {
    for (std::optional<Listener>& listener : listeners_) {
      if (!listener) continue;
      while (Pop(*listener, Capacity()) > 0) {
      }
      Require(listener->position == Written(), "nothing is left out");
    }
    CheckRing();
  }

 private:
  static Ring& TheRing() {
    static auto* const ring = new Ring(Make());
    return *ring;
  }
  static Ring Make() { return *Ring::Create(1, {.max_readers = kReaders}); }

  static uint64_t Capacity() { return TheRing().capacity(); }
  static uint64_t& Written() {
    static uint64_t written = 0;
    return written;
  }
  // So many slots does the producer take at a time.
  static uint64_t Lead() { return Capacity() / 16; }
  static uint64_t Sure() { return Capacity() - Lead(); }

  // How far back something may be intact, and how far back all is.
  static uint64_t OldestPossible() {
    return Written() - std::min(Written(), Capacity());
  }
  static uint64_t OldestSure() {
    return Written() - std::min(Written(), Sure());
  }

  void Push(uint64_t n) {
    if (n == 1) {
      writer_->push(ItemOf<T>(Written()));
    } else {
      items_.resize(n);
      StoreItems(items_.data(), Written(), n);
      writer_->push(items_);
    }
    Written() += n;
  }

  void StepWriter(uint8_t op, Input& input) {
    if (op % 2 == 0) {
      writer_->close();
      closed_ = true;
      return;
    }
    const uint8_t how = input.Byte();
    if (how % 2 == 0) {
      typename Ring::Writer moved(*std::move(writer_));
      *writer_ = std::move(moved);
      return;
    }
    writer_.reset();
    if (how % 4 == 1) {
      Ring moved(std::move(TheRing()));
      // Handles stay valid; those of the readers are there.
      TheRing() = std::move(moved);
    }
    writer_.emplace(TheRing().writer());
    closed_ = false;
  }

  void Join(uint8_t op, Input& input) {
    std::optional<Listener>& listener = listeners_[input.Byte() % kReaders];
    const bool all = std::ranges::all_of(
        listeners_, [](const auto& one) { return one.has_value(); });
    const From from = op % 2 == 0 ? From::kNewest : From::kOldest;
    if (listener && !all) return;
    absl::StatusOr<typename Ring::Reader> reader = TheRing().reader(from);
    if (all) {
      return Require(
          reader.status().code() == absl::StatusCode::kResourceExhausted,
          "there are as many as there may be");
    }
    Require(reader.ok(), "a reader");
    // What it has before it says where it begins.
    const uint64_t size = reader->size();
    const uint64_t position = Written() - size;
    if (from == From::kNewest) {
      Require(size == 0, "who begins with the newest has none yet");
    } else {
      Require(OldestPossible() <= position && position <= OldestSure(),
              "who begins with the oldest has all that is intact");
    }
    listener.emplace(*std::move(reader), position);
    Require(listener->handle.lost() == 0, "nothing is lost yet");
  }

  void StepReader(uint8_t op, Listener& listener,
                  std::optional<Listener>& place, Input& input) {
    switch (op) {
      case 15:
      case 16:
      case 17:
        return PopOptional(listener);
      case 18:
      case 19:
      case 20:
        return PopTo(listener);
      case 21:
        return Size(listener);
      case 22:
        // All that it says is there comes at once.
        Size(listener);
        return Require(Pop(listener, Capacity()) == said_, "size");
      case 23:
        return Require(listener.handle.closed() == closed_, "closed");
      case 24: {
        typename Ring::Reader moved(std::move(listener.handle));
        listener.handle = std::move(moved);
        return;
      }
      case 25:
        return place.reset();
      default:
        Pop(listener,
            input.Count(std::min(Written() - listener.position, Capacity()),
                        Capacity()));
    }
  }

  // What a reader lost since, that is allowed to.
  void Lost(Listener& listener) {
    const uint64_t lost = listener.handle.lost() -
                          (listener.position - listener.begin) + listener.got;
    if (lost == 0) return;
    ++overruns_;
    lost_ += lost;
    listener.position += lost;
    Require(listener.position >= OldestPossible(), "lost at least so many");
    Require(listener.position <= OldestSure(), "what is new is not lost");
  }

  void Got(Listener& listener, const T* items, uint64_t n) {
    Lost(listener);
    Require(listener.position + n <= Written(), "no more than were pushed");
    Require(AreItems(items, listener.position, n), "contents");
    listener.position += n;
    listener.got += n;
  }

  // Whether one must come.
  static bool IsAny(const Listener& listener) {
    return listener.position < Written();
  }

  void PopOptional(Listener& listener) {
    const bool any = IsAny(listener);
    const std::optional<T> item = listener.handle.try_pop();
    Require(item.has_value() == any, "try_pop says whether there was one");
    if (any) Got(listener, &*item, 1);
  }

  void PopTo(Listener& listener) {
    const bool any = IsAny(listener);
    T item = ItemOf<T>(Written());
    Require(listener.handle.try_pop(item) == any,
            "try_pop says whether there was one");
    if (any) return Got(listener, &item, 1);
    Require(item == ItemOf<T>(Written()), "nothing is stored");
  }

  uint64_t Pop(Listener& listener, uint64_t n) {
    items_.resize(n);
    const uint64_t before = listener.position;
    const uint64_t some = listener.handle.pop(items_);
    Require((some > 0) == (n > 0 && IsAny(listener)),
            "pop says whether there were any");
    Got(listener, items_.data(), some);
    const bool has_lost = listener.position - before > some;
    Require(some <= n && (has_lost || some == std::min(n, Written() - before)),
            "pop gives all that are there");
    return some;
  }

  void Size(Listener& listener) {
    said_ = listener.handle.size();
    Lost(listener);
    const uint64_t left = Written() - listener.position;
    Require(said_ <= std::min(left, Capacity()), "size, at most");
    Require(said_ >= std::min(left, Sure()), "size, at least");
  }

  void CheckRing() const {
    const auto said = TheRing().statistics();
    Require(said.pushed == Written(), "pushed");
    Require(said.lost == lost_, "lost");
    Require(said.overruns == overruns_, "overruns");
    Require(said.high_water <= std::min(Written(), Capacity()), "high_water");
    const auto readers = std::ranges::count_if(
        listeners_, [](const auto& one) { return one.has_value(); });
    Require(TheRing().readers() == static_cast<uint32_t>(readers), "readers");
  }

  std::optional<typename Ring::Writer> writer_;
  std::array<std::optional<Listener>, kReaders> listeners_;
  uint64_t said_ = 0;  // By the last size().
  bool closed_ = false;
  // Of all readers that there were. They go on from one input to the next, as the ring.
  inline static uint64_t lost_ = 0;
  inline static uint64_t overruns_ = 0;
  // Keeps its memory: the fuzzer takes growth for a leak.
  inline static std::vector<T> items_;
};

template <class T>
void Run(bool anew, Input& input) {
  if (anew) Driver<T>::MakeAnew();
  Driver<T> driver;
  if (!anew) driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using doppel::fuzz::Input;
  using doppel::fuzz::Run;
  using doppel::fuzz::Wide;
  Input input(data, size);
  const uint8_t kind = input.Byte();
  // That takes as long as an input.
  const bool anew = kind >= 240;
  switch (kind % 3) {
    case 0:
      Run<uint8_t>(anew, input);
      break;
    case 1:
      Run<uint64_t>(anew, input);
      break;
    default:
      Run<Wide>(anew, input);
  }
  return 0;
}
