// SPDX-License-Identifier: Apache-2.0
//
// Line ownership on, off and as the ring decides: 4 KiB at a time from thread to
// thread. The argument is the ring's size in bytes.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

constexpr size_t kPieceBytes = 4 << 10;
constexpr uint64_t kBytes = uint64_t{64} << 20;

uint64_t SumOfLines(std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  for (size_t at = 0; at < bytes.size(); at += 64) {
    sum += static_cast<uint64_t>(bytes[at]);
  }
  return sum;
}

void Pieces(benchmark::State& state, LineOwnership ownership) {
  absl::StatusOr<SpscRing<>> ring = SpscRing<>::Create(
      static_cast<size_t>(state.range(0)), {.line_ownership = ownership});
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  uint64_t sent = 0;
  uint64_t sum = 0;
  {
    Partner partner([&](Partner& self) {
      auto reader = ring->reader();
      uint64_t received = 0;
      uint64_t own_sum = 0;
      do {
        for (;;) {
          const std::span<const std::byte> bytes = reader.peek(kPieceBytes);
          if (bytes.empty()) break;
          own_sum += SumOfLines(bytes.first(kPieceBytes));
          reader.consume(kPieceBytes);
          received += kPieceBytes;
        }
      } while (self.GoesOn(received));
      sum = own_sum;
    });
    auto writer = ring->writer();
    for (auto _ : state) {
      for (uint64_t i = 0; i < kBytes; i += kPieceBytes) {
        std::span<std::byte> piece = writer.reserve(kPieceBytes);
        for (; piece.empty(); piece = writer.reserve(kPieceBytes)) Pause();
        std::memset(piece.data(), 1, piece.size());
        writer.commit(piece.size());
      }
      sent += kBytes;
      partner.WaitFor(sent);
    }
  }
  if (sum != sent / 64)
    state.SkipWithError("what arrived is not what was sent");
  state.SetBytesProcessed(static_cast<int64_t>(sent));
}

const bool kRegistered = [] {
  const std::pair<const char*, LineOwnership> kSubjects[] = {
      {"on", LineOwnership::kOn},
      {"off", LineOwnership::kOff},
      {"auto", LineOwnership::kAuto}};
  for (const auto& [name, ownership] : kSubjects) {
    benchmark::RegisterBenchmark(
        (std::string("ring_ownership/") + name).c_str(),
        [ownership = ownership](benchmark::State& state) {
          Pieces(state, ownership);
        })
        ->Arg(64 << 10)
        ->Arg(512 << 10)
        ->Arg(4 << 20)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace doppel::bench
