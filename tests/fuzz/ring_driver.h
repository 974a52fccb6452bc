// SPDX-License-Identifier: Apache-2.0
//
// Operations on the two handles of a ring, and on the model; both must agree.
//
//   input ──▶ Step ──▶ RingWriter, RingReader ──▶ results ─┐
//                 └──▶ RingModel ────────────────▶ results ─┴─▶ Require
//
// Invariants:
//   1. Every result is compared: counts, contents, full and empty, where a span begins,
//      how long it is, how a wait ends, all statistics.
//   2. After Finish the ring is empty and whole: it serves for the next input.
//
// A Host has the ring: writer() and reader() make handles, Rearrange(input) moves the
// ring about, Ring() is an object to ask, EventsWork() whether both sides' events do.
//
// Thread safety: one thread.
// Errors: Require ends the process.
//
// Example:
//   RingDriver<int, Host> driver(host, model, places);
//   driver.Start(input);
//   while (!input.empty()) driver.Step(input);
//   driver.Finish();

#ifndef DOPPEL_TESTS_FUZZ_RING_DRIVER_H_
#define DOPPEL_TESTS_FUZZ_RING_DRIVER_H_

#include <poll.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/ring_writer.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"
#include "doppel/tests/fuzz/ring_model.h"

namespace doppel::fuzz {

// What goes on from one input to the next.
struct RingRecord {
  RingRecord(uint64_t capacity, uint64_t memory_bytes)
      : model(capacity), memory_bytes(memory_bytes) {}

  RingModel model;
  uint64_t memory_bytes;
  uint64_t next = 0;  // Number of the next item: no input sees another's items.
  // Where the memory begins, as each side showed it first.
  const std::byte* written_at = nullptr;
  const std::byte* read_at = nullptr;
};

template <class T, class Host>
class RingDriver {
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;
  static constexpr bool kMirrored = kBytes && internal::Mirror::kMaxViews == 2;

 public:
  RingDriver(Host& host, RingRecord& record)
      : host_(host), record_(record), model_(record.model) {
    OpenWriter();
    OpenReader();
  }

  // Goes on to the offset that the input says: what it does must not depend on where
  // the one before left the ring. Items lie alike again after some laps.
  void Start(Input& input) {
    const uint64_t lap = LapBytes();
    const uint64_t period = lap / std::gcd(lap, uint64_t{sizeof(T)});
    const uint64_t near = input.Byte();
    const uint64_t wanted =
        near < 128 ? (period - std::min(near % 32, period)) % period
                   : period * (near - 128) / 128;
    uint64_t steps = (wanted + period - model_.published() % period) % period;
    while (steps > 0) {
      const uint64_t n = std::min(steps, model_.capacity());
      Pass(n);
      steps -= n;
    }
  }

  void Step(Input& input) {
    const uint8_t op = input.Byte() % 64;
    if (op < 32) {
      if (model_.writer().closed) OpenWriter();
      StepWriter(op, input);
    } else if (op < 60) {
      if (model_.reader().closed) OpenReader();
      StepReader(op, input);
    } else if (op == 60) {
      StepEvents(input);
    } else if (op == 61) {
      Rearrange(input);
    } else {
      CheckStatistics();
    }
    Require(host_.Ring().size() == model_.size(), "size");
  }

  // Drops the handles, takes what is left, and checks that this was all.
  void Finish() {
    writer_.reset();
    OpenReader();
    TakeAll();
    CheckStatistics();
    Require(host_.Ring().empty(), "empty");
    Require(reader_->status().ok(), "status");
    reader_.reset();
    model_.Empty();
    model_.Open(model_.writer());
    model_.Open(model_.reader());
  }

 private:
  // Goes on by n items that nobody looks at. REQUIRES: the ring is empty.
  void Pass(uint64_t n) {
    model_.Available(model_.writer(), n);
    if constexpr (kBytes) {
      writer_->reserve(n);
      writer_->commit(n);
    } else {
      for (uint64_t i = 0; i < n; ++i) writer_->emplace();
    }
    Staged(record_.next, n);
    model_.Publish();
    Require(reader_->size() == model_.Look(model_.reader()), "size");
    reader_->consume(n);
    model_.Finish(n);
    model_.Release();
  }

  uint64_t LapBytes() const {
    return kMirrored ? record_.memory_bytes : model_.capacity() * sizeof(T);
  }

  void OpenWriter() {
    writer_.reset();
    model_.Open(model_.writer());
    writer_.emplace(host_.writer());
    Require(writer_->capacity() == model_.capacity(), "capacity");
  }

  void OpenReader() {
    reader_.reset();
    model_.Open(model_.reader());
    reader_.emplace(host_.reader());
    Require(reader_->capacity() == model_.capacity(), "capacity");
  }

  void StepWriter(uint8_t op, Input& input) {
    switch (op) {
      case 0:
      case 1:
      case 2:
      case 3:
        return PushOne(op);
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
        return Push(CountOf(model_.writer(), input));
      case 9:
        writer_->publish();
        return model_.Publish();
      case 10:
        return Require(writer_->free() == model_.Look(model_.writer()), "free");
      case 11:
        return Wait(*writer_, model_.writer(), input);
      case 12:
        return OpenWriter();  // What is staged is gone.
      case 13:
        writer_->close();
        return model_.Close(model_.writer());
      case 14:
        return MoveHandle(writer_);
      case 15:
        Require(writer_->closed() == model_.reader().closed, "closed");
        return Require(writer_->status().ok(), "status");
      default:
        if constexpr (kBytes) {
          Reserve(op, input);
        } else {
          PushOne(op);
        }
    }
  }

  void PushOne(uint8_t op) {
    T item = ItemOf<T>(record_.next);
    const bool fits = model_.Available(model_.writer(), 1) >= 1;
    bool pushed;
    if (op % 3 == 0) {
      pushed = writer_->try_push(item);
    } else if (op % 3 == 1) {
      pushed = writer_->try_push(std::move(item));
    } else {
      pushed = writer_->emplace(item);
    }
    Require(pushed == fits, "try_push says whether there was room");
    if (!pushed) {
      Require(item == ItemOf<T>(record_.next), "what is refused is as it was");
      return;
    }
    Staged(record_.next, 1);
    model_.Publish();
  }

  void Push(uint64_t n) {
    items_.resize(n);
    StoreItems(items_.data(), record_.next, n);
    const uint64_t fit = std::min(n, model_.Available(model_.writer(), n));
    Require(writer_->push(items_) == fit, "push says how many");
    if (fit == 0) return;
    Staged(record_.next, fit);
    model_.Publish();
  }

  void Reserve(uint8_t op, Input& input) requires kBytes {
    const uint64_t n = CountOf(model_.writer(), input);
    const bool fits = model_.Available(model_.writer(), n) >= n;
    const std::span<T> slots = writer_->reserve(n);
    Require(slots.size() == (fits ? n : 0), "reserve gives all or nothing");
    if (slots.empty()) return;
    CheckPlace(record_.written_at, slots.data(), n, model_.written());
    StoreItems(slots.data(), record_.next, n);
    const uint64_t first = record_.next;
    record_.next += n;
    if (op == 16) return;  // Abandoned.
    // Mostly all of them.
    const uint64_t byte = op % 2 == 0 ? 255 : input.Byte();
    const uint64_t kept = byte >= 128 ? n : byte % (n + 1);
    model_.Stage(first, kept);
    if (op < 24) {
      writer_->stage(kept);
    } else {
      writer_->commit(kept);
      model_.Publish();
    }
  }

  void Staged(uint64_t first, uint64_t n) {
    model_.Stage(first, n);
    record_.next = first + n;
  }

  void StepReader(uint8_t op, Input& input) {
    switch (op) {
      case 32:
      case 33:
        return PopOptional();
      case 34:
      case 35:
        return PopTo();
      case 36:
      case 37:
        return PopFront();
      case 38:
      case 39:
      case 40:
      case 41:
        return Pop(CountOf(model_.reader(), input));
      case 42:
        reader_->release();
        return model_.Release();
      case 43:
        return Require(reader_->size() == model_.Look(model_.reader()), "size");
      case 44:
        return Wait(*reader_, model_.reader(), input);
      case 45:
        return OpenReader();  // What is finished is gone.
      case 46:
        reader_->close();
        return model_.Close(model_.reader());
      case 47:
        return MoveHandle(reader_);
      case 48:
        Require(reader_->closed() == model_.writer().closed, "closed");
        return Require(reader_->status().ok(), "status");
      default:
        Peek(op, input);
    }
  }

  uint64_t Oldest() const {
    uint64_t number = 0;
    model_.readable().ForEachRun(
        1, [&](uint64_t, uint64_t first, uint64_t) { number = first; });
    return number;
  }

  void PopOptional() {
    const bool any = model_.Available(model_.reader(), 1) >= 1;
    const std::optional<T> item = reader_->try_pop();
    Require(item.has_value() == any, "try_pop says whether there was one");
    if (item) Popped(*item);
  }

  void PopTo() {
    const bool any = model_.Available(model_.reader(), 1) >= 1;
    T item = ItemOf<T>(record_.next);
    Require(reader_->try_pop(item) == any,
            "try_pop says whether there was one");
    if (any) {
      Popped(item);
    } else {
      Require(item == ItemOf<T>(record_.next), "nothing is stored");
    }
  }

  void PopFront() {
    const bool any = model_.Available(model_.reader(), 1) >= 1;
    const T* const item = reader_->front();
    Require((item != nullptr) == any, "front says whether there is one");
    if (!any) return;
    CheckPlace(record_.read_at, item, 1, model_.finished());
    const T copy = *item;
    reader_->pop();
    Popped(copy);
  }

  void Popped(const T& item) {
    Require(item == ItemOf<T>(Oldest()), "the oldest item");
    model_.Finish(1);
    model_.Release();
  }

  void Pop(uint64_t n) {
    items_.resize(n);
    const uint64_t some = std::min(n, model_.Available(model_.reader(), n));
    Require(reader_->pop(items_) == some, "pop says how many");
    if (some == 0) return;
    CheckItems(items_.data(), some);
    model_.Finish(some);
    model_.Release();
  }

  void Peek(uint8_t op, Input& input) {
    const uint64_t at_least = CountOf(model_.reader(), input);
    const auto items = PeekAt(at_least);
    if (op == 49) return;
    const uint64_t byte = op % 2 == 0 ? 255 : input.Byte();
    const uint64_t n = byte >= 128 ? items.size() : byte % (items.size() + 1);
    model_.Finish(n);
    if (op < 54) return reader_->finish(n);
    reader_->consume(n);
    model_.Release();
  }

  auto PeekAt(uint64_t at_least) {
    uint64_t expected = model_.Available(model_.reader(), at_least);
    if (expected < at_least) expected = 0;
    if constexpr (!kBytes) {
      const uint64_t to_wrap =
          model_.capacity() - model_.finished() % model_.capacity();
      expected = std::min(expected, to_wrap);
    }
    const auto items = reader_->peek(at_least);
    Require(items.size() == expected, "peek shows all that is known");
    if (!items.empty()) {
      CheckPlace(record_.read_at, items.data(), items.size(),
                 model_.finished());
      CheckItems(items.data(), items.size());
    }
    return items;
  }

  // Takes out all that is published, through the handle that is there.
  void TakeAll() {
    while (reader_->size() > 0) {
      model_.Look(model_.reader());
      const size_t n = PeekAt(1).size();
      model_.Finish(n);
      reader_->consume(n);
      model_.Release();
    }
    model_.Look(model_.reader());
    reader_->release();
    model_.Release();
    Require(model_.readable().size() == 0, "nothing is lost");
  }

  template <class Handle>
  void Wait(Handle& handle, RingModel::Side& side, Input& input) {
    const uint64_t n = std::min(CountOf(side, input), model_.capacity());
    const RingWait expected = model_.Wait(side, n);
    Require(handle.wait(n, {.deadline = absl::InfinitePast()}) == expected,
            "how the wait ends");
  }

  // Arms a side's event, or looks whether it has come about.
  void StepEvents(Input& input) {
    const uint8_t what = input.Byte();
    if (what % 2 == 0) {
      if (model_.writer().closed) OpenWriter();
      StepEvent(*writer_, model_.writer(), what, input);
    } else {
      if (model_.reader().closed) OpenReader();
      StepEvent(*reader_, model_.reader(), what, input);
    }
  }

  template <class Handle>
  void StepEvent(Handle& handle, RingModel::Side& side, uint8_t what,
                 Input& input) {
    if (!host_.EventsWork()) return;
    const absl::StatusOr<int> event = handle.event();
    Require(event.ok(), "event");
    if (what >= 128) {
      if (!side.event_due) return;
      pollfd polled = {.fd = *event, .events = POLLIN, .revents = 0};
      Require(poll(&polled, 1, 0) == 1, "the event tells");
      return;
    }
    const uint64_t n = std::min(CountOf(side, input), model_.capacity());
    const RingWait expected = model_.Arm(side, n, handle.peer_gone());
    Require(handle.arm(n) == expected, "what arm finds");
  }

  template <class Handle>
  static void MoveHandle(std::optional<Handle>& handle) {
    Handle moved(*std::move(handle));
    handle.reset();
    handle.emplace(std::move(moved));
    Handle assigned(*std::move(handle));
    *handle = std::move(assigned);
  }

  // The host may ask for handles to be dropped first.
  void Rearrange(Input& input) {
    const auto drop = host_.Rearrange(input, record_);
    if (drop.writer) writer_.reset();
    if (drop.reader) reader_.reset();
    host_.Rearranged();
    if (drop.writer) OpenWriter();
    if (drop.reader) OpenReader();
  }

  uint64_t CountOf(RingModel::Side& side, Input& input) {
    const uint64_t size = model_.size();
    return input.Count(side.writes ? model_.capacity() - size : size,
                       model_.capacity());
  }

  void CheckItems(const T* at, uint64_t n) {
    model_.readable().ForEachRun(
        n, [&](uint64_t index, uint64_t first, uint64_t some) {
          Require(AreItems(at + index, first, some), "contents");
        });
  }

  // That the span of n items is where the one of that position always is.
  void CheckPlace(const std::byte*& memory, const T* at, uint64_t n,
                  uint64_t position) {
    const uint64_t offset = position * sizeof(T) % LapBytes();
    if (!kMirrored && offset + n * sizeof(T) > LapBytes()) return;  // A copy.
    const auto* const begin = reinterpret_cast<const std::byte*>(at) - offset;
    if (memory == nullptr) memory = begin;
    Require(begin == memory, "the span begins where its items are");
  }

  void CheckStatistics() const {
    const RingStatistics said = host_.Ring().statistics();
    const RingStatistics expected = model_.Statistics();
    Require(said.pushed == expected.pushed, "pushed");
    Require(said.popped == expected.popped, "popped");
    Require(said.push_refusals == expected.push_refusals, "push_refusals");
    Require(said.push_stalls == expected.push_stalls, "push_stalls");
    Require(said.pop_refusals == expected.pop_refusals, "pop_refusals");
    Require(said.pop_stalls == expected.pop_stalls, "pop_stalls");
    Require(said.high_water == expected.high_water, "high_water");
  }

  Host& host_;
  RingRecord& record_;
  RingModel& model_;  // The record's.
  std::optional<RingWriter<T>> writer_;
  std::optional<RingReader<T>> reader_;
  // Keeps its memory: the fuzzer takes growth for a leak.
  inline static std::vector<T> items_;
};

}  // namespace doppel::fuzz

#endif  // DOPPEL_TESTS_FUZZ_RING_DRIVER_H_
