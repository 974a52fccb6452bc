// SPDX-License-Identifier: Apache-2.0
//
// A ring between two processes beside one between two threads: single 8-byte items,
// batches of 64, messages, and the way there and back. The argument is the ring's size in
// bytes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/bench/containers/process_partner.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_load.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

constexpr uint64_t kItems = uint64_t{1} << 22;
constexpr uint64_t kMessages = 1 << 16;
constexpr uint64_t kRoundTrips = 1 << 12;

// Its result is moved to a local variable where it is a handle (ring_writer.h).
template <class T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

// Two threads of one process.
template <class T>
class Threads {
 public:
  static constexpr char kName[] = "threads";
  explicit Threads(size_t bytes)
      : ring_(Value(SpscRing<T>::Create(bytes / sizeof(T)))) {}
  auto writer() { return ring_.writer(); }
  auto reader() { return ring_.reader(); }
  auto PartnersWriter() { return ring_.writer(); }
  auto PartnersReader() { return ring_.reader(); }

  template <class Body>
  auto Start(Body body) {
    return bench::Partner(std::move(body));
  }

 private:
  SpscRing<T> ring_;
};

// Two processes: the partner maps the ring anew.
template <class T>
class Processes {
 public:
  static constexpr char kName[] = "doppel_processes";

  explicit Processes(size_t bytes)
      : ring_(Value(SharedRing<T>::Create(bytes / sizeof(T)))) {}
  auto writer() { return Value(ring_.writer()); }
  auto reader() { return Value(ring_.reader()); }
  auto PartnersWriter() {
    Attach();
    return writer();
  }
  auto PartnersReader() {
    Attach();
    return reader();
  }

  template <class Body>
  auto Start(Body body) {
    return ProcessPartner(std::move(body));
  }

 private:
  void Attach() {
    ring_ = Value(SharedRing<T>::Attach(
        Value(RingInvitation::WithoutLink(ring_.memfd().fd()))));
  }

  SharedRing<T> ring_;
};

// Counts what it takes and, in the last item, checks it: a process that finds a wrong
// sum does not go on.
template <class Place, class Send, class Take>
void Transfer(benchmark::State& state, Send send, Take take) {
  Place place(static_cast<size_t>(state.range(0)));
  uint64_t sent = 0;
  {
    auto partner = place.Start([&](auto& self) {
      auto made = place.PartnersReader();
      auto reader = std::move(made);
      uint64_t received = 0;
      do {
        while (take(reader, received)) {
        }
      } while (self.GoesOn(received));
    });
    auto made = place.writer();
    auto writer = std::move(made);
    for (auto _ : state) {
      const uint64_t end = sent + kItems;
      while (sent < end) {
        if (!send(writer, sent)) Pause();
      }
      partner.WaitFor(sent);
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}

// The next item is its own number: anything else stops the count, and the run.
template <class Place>
void Items(benchmark::State& state) {
  Transfer<Place>(
      state,
      [](auto& writer, uint64_t& sent) {
        if (!writer.try_push(sent)) return false;
        ++sent;
        return true;
      },
      [](auto& reader, uint64_t& received) {
        uint64_t item = 0;
        if (!reader.try_pop(item) || item != received) return false;
        ++received;
        return true;
      });
}

template <class Place>
void Batches(benchmark::State& state) {
  Transfer<Place>(
      state,
      [](auto& writer, uint64_t& sent) {
        const std::span<uint64_t> slots = writer.reserve(kBatch);
        if (slots.empty()) return false;
        std::iota(slots.begin(), slots.end(), sent);
        writer.commit(kBatch);
        sent += kBatch;
        return true;
      },
      [](auto& reader, uint64_t& received) {
        const std::span<const uint64_t> items = reader.peek();
        if (items.empty()) return false;
        const uint64_t n = items.size();
        // 0 + 1 + ... + (n - 1), and n times what came before.
        const uint64_t right = n * received + n * (n - 1) / 2;
        if (std::accumulate(items.begin(), items.end(), uint64_t{0}) != right) {
          return false;
        }
        reader.consume(n);
        received += n;
        return true;
      });
}

// Message i has the length of its number's, begins with its number, and is written whole.
constexpr size_t LengthOf(uint64_t i) { return 16 + i * 2654435761 % 4081; }

template <class Place>
void Messages(benchmark::State& state) {
  Place place(static_cast<size_t>(state.range(0)));
  const std::vector<std::byte> from(4096, std::byte{1});
  uint64_t sent = 0;
  uint64_t sent_bytes = 0;
  {
    auto partner = place.Start([&](auto& self) {
      MessageReader reader(place.PartnersReader());
      uint64_t received = 0;
      do {
        while (const auto message = reader.next()) {
          uint64_t number = 0;
          std::memcpy(&number, message->data(), sizeof(number));
          if (number != received || message->size() != LengthOf(number)) break;
          received += Digest(message->data() + 8, message->size() - 8) > 0;
          reader.release();
        }
      } while (self.GoesOn(received));
    });
    MessageWriter writer(place.writer());
    for (auto _ : state) {
      for (const uint64_t end = sent + kMessages; sent < end; ++sent) {
        const size_t length = LengthOf(sent);
        MessageReservation space = writer.reserve(length);
        for (; !space; space = writer.reserve(length)) Pause();
        std::memcpy(space.payload.data(), &sent, sizeof(sent));
        std::memcpy(space.payload.data() + 8, from.data(), length - 8);
        writer.commit(length);
        sent_bytes += length;
      }
      partner.WaitFor(sent);
    }
  }
  state.SetBytesProcessed(static_cast<int64_t>(sent_bytes));
}

template <class Place>
void RoundTrip(benchmark::State& state) {
  Place there(static_cast<size_t>(state.range(0)));
  Place back(static_cast<size_t>(state.range(0)));
  uint64_t trips = 0;
  {
    auto partner = there.Start([&](auto& self) {
      auto made_reader = there.PartnersReader();
      auto made_writer = back.PartnersWriter();
      auto reader = std::move(made_reader);
      auto writer = std::move(made_writer);
      do {
        uint64_t item = 0;
        while (reader.try_pop(item)) writer.try_push(item);
      } while (self.GoesOn(0));
    });
    auto made_writer = there.writer();
    auto made_reader = back.reader();
    auto writer = std::move(made_writer);
    auto reader = std::move(made_reader);
    for (auto _ : state) {
      for (uint64_t i = 0; i < kRoundTrips; ++i) {
        writer.try_push(i);
        uint64_t item = 0;
        while (!reader.try_pop(item)) Pause();
        if (item != i) state.SkipWithError("another item came back");
      }
      trips += kRoundTrips;
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(trips));
}

template <template <class> class Place>
void Register() {
  constexpr int64_t kKiB = 1 << 10;
  using Numbers = Place<uint64_t>;
  const auto add = [](const char* workload, auto run) {
    return benchmark::RegisterBenchmark(
               (std::string(workload) + "/" + Numbers::kName).c_str(), run)
        ->UseRealTime();
  };
  add("ring_between_items", Items<Numbers>)->Arg(64 * kKiB)->Arg(512 * kKiB);
  add("ring_between_batches", Batches<Numbers>)->Arg(512 * kKiB);
  add("ring_between_messages", Messages<Place<std::byte>>)->Arg(1024 * kKiB);
  add("ring_between_round_trip", RoundTrip<Numbers>)->Arg(4 * kKiB);
}

const bool kRegistered = [] {
  Register<Processes>();
  Register<Threads>();
  return true;
}();

}  // namespace
}  // namespace doppel::bench
