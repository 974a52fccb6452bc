// SPDX-License-Identifier: Apache-2.0
//
// Operations on a BroadcastRing: one writer, and readers that join, lag and leave. Both
// sides wait, with a deadline that has passed, and are told by events.

#include <poll.h>

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
#include "absl/time/time.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"

namespace doppel::fuzz {
namespace {

constexpr size_t kReaders = 3;
constexpr bool kMirrored = internal::Mirror::kMaxViews == 2;

template <class T>
struct BroadcastRecord {
  BroadcastRecord()
      : ring(*BroadcastRing<T>::Create(1, {.max_readers = kReaders})) {}

  BroadcastRing<T> ring;
  uint64_t position = 0;  // What was published since it was made.
  uint64_t next = 0;      // Number of the next item.
};

template <class T>
class BroadcastDriver {
 public:
  explicit BroadcastDriver(BroadcastRecord<T>& record)
      : record_(record), capacity_(record.ring.capacity()) {
    OpenWriter();
  }

  // Goes on to the offset that the input says, unseen by any reader.
  void Start(Input& input) {
    const uint64_t lap =
        kMirrored ? record_.ring.memory_bytes() : capacity_ * sizeof(T);
    const uint64_t period = lap / std::gcd(lap, uint64_t{sizeof(T)});
    const uint64_t near = input.Byte();
    const uint64_t wanted = near < 128 ? (period - near % 32) % period
                                       : period * (near - 128) / 128;
    uint64_t steps = (wanted + period - record_.position % period) % period;
    while (steps > 0) {
      const uint64_t n = std::min(steps, capacity_);
      Require(writer_->reserve(n).size() == n, "there is room for nobody");
      writer_->commit(n);
      record_.position += n;
      steps -= n;
    }
    OpenWriter();
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte();
    const size_t i = op / 32 % kReaders;
    switch (op % 32) {
      case 0:
        return JoinOrLeave(i);
      case 1:
        return MoveHandles(i);
      case 2:
        return OpenWriter();
      case 3:
        writer_->close();
        closed_ = true;
        return TellReaders();
      case 4:
        return CheckRing();
      case 5:
        writer_->publish();
        return Publish();
      case 6:
      case 7:
        return PushOne();
      case 8:
      case 9:
      case 10:
        return Push(CountFor(Room(), input));
      case 11:
        return StepWritersWait(op, input);
      case 12:
      case 13:
      case 14:
      case 15:
        return Reserve(op % 32, input);
      default:
        readers_[i] ? StepReader(op % 32, *readers_[i], input) : JoinOrLeave(i);
    }
  }

  void Finish() {
    OpenWriter();
    for (auto& side : readers_) {
      if (!side) continue;
      while (Peek(*side, 1) > 0) Consume(*side, side->known);
      Require(side->finished == record_.position, "each item was seen");
    }
    CheckRing();
    for (auto& side : readers_) side.reset();
    Require(record_.ring.readers() == 0, "all have left");
    Require(record_.ring.size() == 0, "nobody is behind");
  }

 private:
  using Ring = BroadcastRing<T>;

  struct Side {
    typename Ring::Reader handle;
    uint64_t finished;  // Positions.
    uint64_t released;
    uint64_t known = 0;
    NumberQueue items = {};  // Published and not finished.
    bool armed = false;      // Its event is to tell of what comes,
    bool due = false;        // and has.
  };

  // What the slowest reader has not handed back, of all that is published.
  uint64_t Behind() const {
    uint64_t behind = 0;
    for (const auto& side : readers_) {
      if (side) behind = std::max(behind, record_.position - side->released);
    }
    return behind;
  }

  uint64_t Room() const { return capacity_ - Behind() - staged_.size(); }

  uint64_t CountFor(uint64_t available, Input& input) const {
    return input.Count(available, capacity_);
  }

  void OpenWriter() {
    writer_.reset();
    writer_.emplace(record_.ring.writer());
    staged_.Clear();
    known_ = 0;
    closed_ = false;
    armed_at_.reset();
  }

  uint64_t Available(uint64_t wanted) {
    if (known_ < wanted) known_ = Room();
    return known_;
  }

  void Stage(uint64_t first, uint64_t n) {
    staged_.Push(first, n);
    known_ -= n;
    record_.next = std::max(record_.next, first + n);
  }

  void TellReaders() {
    for (auto& side : readers_) {
      if (side) side->due |= std::exchange(side->armed, false);
    }
  }

  static bool IsReadable(const absl::StatusOr<int>& event) {
    Require(event.ok(), "event");
    pollfd polled = {.fd = *event, .events = POLLIN, .revents = 0};
    return poll(&polled, 1, 0) == 1;
  }

  void StepWritersWait(uint8_t op, Input& input) {
    const bool readable = IsReadable(writer_->event());
    // All have gone on as far as it asked.
    if (armed_at_ && record_.position - Behind() >= *armed_at_) {
      Require(readable, "the writer's event tells");
    }
    const uint64_t n = std::min(CountFor(Room(), input), capacity_);
    // It hands over what is staged.
    Publish();
    armed_at_.reset();
    if (op < 128) {
      const bool fits = Available(n) >= n;
      return Require(
          writer_->wait(n, {.deadline = absl::InfinitePast()}) ==
              (fits ? RingWait::kReady : RingWait::kDeadlineExceeded),
          "how the writer's wait ends");
    }
    known_ = Room();
    const RingWait expected = known_ >= n ? RingWait::kReady : RingWait::kArmed;
    Require(writer_->arm(n) == expected, "what the writer's arm finds");
    if (expected == RingWait::kArmed) {
      armed_at_ = record_.position + n - capacity_;
    }
  }

  void StepReadersWait(Side& side, Input& input) {
    const bool readable = IsReadable(side.handle.event());
    Require(!side.due || readable, "the reader's event tells");
    const uint64_t n = std::min(CountFor(side.items.size(), input), capacity_);
    const bool waits = input.Byte() % 2 == 0;
    // It hands back what is finished.
    side.released = side.finished;
    if (!waits || side.known < n) side.known = side.items.size();
    const auto ends = [&](RingWait otherwise) {
      if (side.known >= n) return RingWait::kReady;
      return closed_ ? RingWait::kClosed : otherwise;
    };
    if (waits) {
      return Require(side.handle.wait(n, {.deadline = absl::InfinitePast()}) ==
                         ends(RingWait::kDeadlineExceeded),
                     "how the reader's wait ends");
    }
    const RingWait expected = ends(RingWait::kArmed);
    Require(side.handle.arm(n) == expected, "what the reader's arm finds");
    side.armed = expected == RingWait::kArmed;
    side.due = false;
  }

  void Publish() {
    if (staged_.size() > 0) TellReaders();
    record_.position += staged_.size();
    for (auto& side : readers_) {
      if (!side) continue;
      staged_.ForEachRun(staged_.size(),
                         [&](uint64_t, uint64_t first, uint64_t n) {
                           side->items.Push(first, n);
                         });
    }
    staged_.Clear();
  }

  void PushOne() {
    const bool fits = Available(1) >= 1;
    Require(writer_->try_push(ItemOf<T>(record_.next)) == fits,
            "try_push says whether there was room");
    if (!fits) return;
    Stage(record_.next, 1);
    Publish();
  }

  void Push(uint64_t n) {
    const uint64_t fit = std::min(n, Available(n));
    const std::span<const T> items(ItemsFrom<T>(record_.next), n);
    Require(writer_->push(items) == fit, "push says how many");
    if (fit == 0) return;
    Stage(record_.next, fit);
    Publish();
  }

  void Reserve(uint8_t op, Input& input) {
    const uint64_t n = CountFor(Room(), input);
    const bool fits = Available(n) >= n;
    const std::span<T> slots = writer_->reserve(n);
    Require(slots.size() == (fits ? n : 0), "reserve gives all or nothing");
    if (slots.empty()) return;
    StoreItems(slots.data(), record_.next, n);
    const uint64_t first = record_.next;
    record_.next += n;
    if (op == 12 && n % 4 == 0) return;  // Abandoned.
    const uint64_t kept = op == 13 ? input.Byte() % (n + 1) : n;
    Stage(first, kept);
    if (op <= 13) return writer_->stage(kept);
    writer_->commit(kept);
    Publish();
  }

  void JoinOrLeave(size_t i) {
    if (readers_[i]) return readers_[i].reset();
    auto joined = record_.ring.reader();
    Require(joined.ok(), "there is a seat");
    // The one that is staged comes after it has joined.
    readers_[i].emplace(Side{.handle = *std::move(joined),
                             .finished = record_.position,
                             .released = record_.position});
    if (record_.ring.readers() < kReaders) return;
    Require(absl::IsResourceExhausted(record_.ring.reader().status()),
            "no more than max_readers");
  }

  void MoveHandles(size_t i) {
    typename Ring::Writer writer(*std::move(writer_));
    *writer_ = std::move(writer);
    if (readers_[i]) {
      typename Ring::Reader reader(std::move(readers_[i]->handle));
      readers_[i]->handle = std::move(reader);
    }
    Ring ring(std::move(record_.ring));
    record_.ring = std::move(ring);
  }

  void StepReader(uint8_t op, Side& side, Input& input) {
    switch (op) {
      case 16:
      case 17:
        return PopOne(side);
      case 18:
      case 19:
        return Pop(side, CountFor(side.items.size(), input));
      case 20:
        return StepReadersWait(side, input);
      case 21:
        side.handle.release();
        side.released = side.finished;
        return;
      case 22:
        side.known = side.items.size();
        return Require(side.handle.size() == side.known, "size");
      case 23:
        Require(side.handle.closed() == closed_, "closed");
        return Require(side.handle.empty() == (AvailableTo(side, 1) == 0),
                       "empty");
      default: {
        const uint64_t shown = Peek(side, CountFor(side.items.size(), input));
        const uint64_t part = input.Byte();
        const uint64_t n = part >= 128 ? shown : part % (shown + 1);
        if (op < 28) {
          side.handle.finish(n);
          Finished(side, n);
        } else {
          Consume(side, n);
        }
      }
    }
  }

  uint64_t AvailableTo(Side& side, uint64_t wanted) const {
    if (side.known < wanted) side.known = side.items.size();
    return side.known;
  }

  static void Finished(Side& side, uint64_t n) {
    side.items.Pop(n);
    side.known -= n;
    side.finished += n;
  }

  void Consume(Side& side, uint64_t n) {
    side.handle.consume(n);
    Finished(side, n);
    side.released = side.finished;
  }

  static void Compare(const Side& side, const T* at, uint64_t n) {
    side.items.ForEachRun(
        n, [&](uint64_t index, uint64_t first, uint64_t some) {
          Require(AreItems(at + index, first, some), "contents");
        });
  }

  void PopOne(Side& side) {
    const bool any = AvailableTo(side, 1) >= 1;
    const std::optional<T> item = side.handle.try_pop();
    Require(item.has_value() == any, "try_pop says whether there was one");
    if (!any) return;
    Compare(side, &*item, 1);
    Finished(side, 1);
    side.released = side.finished;
  }

  void Pop(Side& side, uint64_t n) {
    static std::vector<T> items(kMostItems);
    const uint64_t some = std::min(n, AvailableTo(side, n));
    Require(side.handle.pop(std::span(items).first(n)) == some,
            "pop says how many");
    if (some == 0) return;
    Compare(side, items.data(), some);
    Finished(side, some);
    side.released = side.finished;
  }

  uint64_t Peek(Side& side, uint64_t at_least) {
    const uint64_t known = AvailableTo(side, at_least);
    const uint64_t expected = known < at_least ? 0 : known;
    const std::span<const T> items = side.handle.peek(at_least);
    Require(items.size() == expected, "peek shows all that is known");
    Compare(side, items.data(), items.size());
    return items.size();
  }

  void CheckRing() {
    Require(record_.ring.size() == Behind(), "size");
    Require(record_.ring.statistics().pushed == record_.position, "pushed");
    const auto joined =
        std::count_if(readers_.begin(), readers_.end(),
                      [](const auto& side) { return side.has_value(); });
    Require(record_.ring.readers() == joined, "readers");
    known_ = Room();
    Require(writer_->free() == known_, "free");
  }

  BroadcastRecord<T>& record_;
  uint64_t capacity_;
  std::optional<typename Ring::Writer> writer_;
  uint64_t known_ = 0;                // Free slots that the writer knows of.
  NumberQueue staged_;                // Written and not published.
  bool closed_ = false;               // Whether the writer has closed.
  std::optional<uint64_t> armed_at_;  // What all readers are to reach.
  std::array<std::optional<Side>, kReaders> readers_;
};

constexpr int kInputsPerRing = 4096;

template <class T>
void Run(Input& input) {
  static std::optional<BroadcastRecord<T>> record;
  static int inputs = 0;
  if (inputs++ % kInputsPerRing == 0) record.emplace();
  BroadcastDriver<T> driver(*record);
  driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace doppel::fuzz;
  Input input(data, size);
  input.Byte() % 2 == 0 ? Run<uint8_t>(input) : Run<Wide>(input);
  return 0;
}
