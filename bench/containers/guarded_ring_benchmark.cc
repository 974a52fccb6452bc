// SPDX-License-Identifier: Apache-2.0
//
// What it costs not to trust: the ring of two files beside the ring of one, between two
// processes. The argument is the ring's size in bytes.

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/bench/containers/process_partner.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"

namespace doppel::bench {
namespace {

constexpr uint64_t kItems = uint64_t{1} << 22;

// Its result is moved to a local variable where it is a handle (ring_writer.h).
template <class T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

struct Trusting {
  static constexpr char kName[] = "shared";
  explicit Trusting(size_t bytes)
      : ring(Value(SharedRing<uint64_t>::Create(bytes / 8))),
        invitation(Value(ring.Invite())) {}
  void Accept() { invitation.reset(); }
  auto writer() { return Value(ring.writer()); }
  auto reader() {
    ring = Value(SharedRing<uint64_t>::Attach(*std::move(invitation)));
    return Value(ring.reader());
  }
  SharedRing<uint64_t> ring;
  std::optional<RingInvitation> invitation;
};

struct Guarded {
  static constexpr char kName[] = "doppel_guarded";
  explicit Guarded(size_t bytes)
      : producer(Value(GuardedProducer<uint64_t>::Create(bytes / 8))),
        invitation(Value(producer.Invite())) {}
  void Accept() {
    invitation.reset();
    if (!producer.Accept().ok()) throw std::runtime_error("not accepted");
  }
  auto writer() { return Value(producer.writer()); }
  auto reader() {
    consumer = Value(GuardedConsumer<uint64_t>::Attach(*std::move(invitation)));
    return Value(consumer->reader());
  }
  GuardedProducer<uint64_t> producer;
  std::optional<GuardedConsumer<uint64_t>> consumer;
  std::optional<RingInvitation> invitation;
};

// Each item is its number: a wrong one stops the count, and the run.
template <class Ring>
void Items(benchmark::State& state) {
  Ring ring(static_cast<size_t>(state.range(0)));
  uint64_t sent = 0;
  {
    ProcessPartner partner([&](ProcessPartner::Side& self) {
      auto made = ring.reader();
      auto reader = std::move(made);
      uint64_t received = 0;
      do {
        uint64_t item = 0;
        while (reader.try_pop(item) && item == received) ++received;
      } while (self.GoesOn(received));
    });
    ring.Accept();
    auto made = ring.writer();
    auto writer = std::move(made);
    for (auto _ : state) {
      for (const uint64_t end = sent + kItems; sent < end; ++sent) {
        while (!writer.try_push(sent)) Pause();
      }
      partner.WaitFor(sent);
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}

template <class Ring>
void Register() {
  benchmark::RegisterBenchmark(
      (std::string("ring_trust_items/") + Ring::kName).c_str(), Items<Ring>)
      ->Arg(64 << 10)
      ->Arg(512 << 10)
      ->UseRealTime();
}

const bool kRegistered = [] {
  Register<Guarded>();
  Register<Trusting>();
  return true;
}();

}  // namespace
}  // namespace doppel::bench
