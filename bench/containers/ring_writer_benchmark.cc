// SPDX-License-Identifier: Apache-2.0
//
// The producer's operations alone: 8-byte items into a ring that one call empties, in
// one thread, so that no line comes from another core. What they cost in instructions
// is the floor under every two-thread figure.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/containers/ring_writer.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

constexpr size_t kItems = 512;
constexpr size_t kBatch = 64;

// Calls fill(writer), which pushes kItems, and empties the ring.
template <class Fill>
void Produce(benchmark::State& state, Fill fill) {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(kItems);
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  auto writer = ring->writer();
  auto reader = ring->reader();
  for (auto _ : state) {
    fill(writer);
    if (reader.size() != kItems) state.SkipWithError("an item is missing");
    reader.consume(kItems);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kItems));
}

void TryPush(benchmark::State& state) {
  Produce(state, [](auto& writer) {
    for (uint64_t i = 0; i < kItems; ++i) {
      benchmark::DoNotOptimize(writer.try_push(i));
    }
  });
}
BENCHMARK(TryPush)->Name("ring_writer/try_push")->Arg(kItems);

void PushBatches(benchmark::State& state) {
  std::array<uint64_t, kBatch> batch = {};
  Produce(state, [&](auto& writer) {
    for (size_t i = 0; i < kItems / kBatch; ++i) {
      benchmark::DoNotOptimize(writer.push(batch));
    }
  });
}
BENCHMARK(PushBatches)->Name("ring_writer/push_64")->Arg(kItems);

void Commit(benchmark::State& state) {
  Produce(state, [](auto& writer) {
    for (size_t i = 0; i < kItems / kBatch; ++i) {
      std::ranges::fill(writer.reserve(kBatch), i);
      writer.commit(kBatch);
    }
  });
}
BENCHMARK(Commit)->Name("ring_writer/commit_64")->Arg(kItems);

void Stage(benchmark::State& state) {
  Produce(state, [](auto& writer) {
    for (size_t i = 0; i < kItems / kBatch; ++i) {
      for (size_t j = 0; j < kBatch; ++j) {
        writer.reserve(1)[0] = j;
        writer.stage(1);
      }
      writer.publish();
    }
  });
}
BENCHMARK(Stage)->Name("ring_writer/stage_64_times")->Arg(kItems);

}  // namespace
}  // namespace doppel::bench
