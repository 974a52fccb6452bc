// SPDX-License-Identifier: Apache-2.0
//
// The consumer's operations alone: 8-byte items out of a ring that one call fills, in
// one thread (see ring_writer_benchmark.cc).

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <stdexcept>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

constexpr size_t kItems = 512;
constexpr size_t kBatch = 64;

// Fills the ring and calls drain(reader), which returns the sum of kItems items.
template <class Drain>
void Consume(benchmark::State& state, Drain drain) {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(
      kItems, {.line_ownership = LineOwnership::kOff});
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  auto writer = ring->writer();
  auto reader = ring->reader();
  std::array<uint64_t, kItems> items;
  std::iota(items.begin(), items.end(), 0);
  const uint64_t sum = std::accumulate(items.begin(), items.end(), uint64_t{0});
  for (auto _ : state) {
    writer.push(items);
    if (drain(reader) != sum) state.SkipWithError("an item is wrong");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kItems));
}

void TryPop(benchmark::State& state) {
  Consume(state, [](auto& reader) {
    uint64_t sum = 0;
    uint64_t item = 0;
    while (reader.try_pop(item)) sum += item;
    return sum;
  });
}
BENCHMARK(TryPop)->Name("ring_reader/try_pop")->Arg(kItems);

void PopBatches(benchmark::State& state) {
  Consume(state, [](auto& reader) {
    std::array<uint64_t, kBatch> batch;
    uint64_t sum = 0;
    while (const size_t n = reader.pop(batch)) {
      sum = std::accumulate(batch.begin(), batch.begin() + n, sum);
    }
    return sum;
  });
}
BENCHMARK(PopBatches)->Name("ring_reader/pop_64")->Arg(kItems);

void Peek(benchmark::State& state) {
  Consume(state, [](auto& reader) {
    uint64_t sum = 0;
    for (std::span<const uint64_t> items = reader.peek(); !items.empty();
         items = reader.peek()) {
      sum = std::accumulate(items.begin(), items.end(), sum);
      reader.consume(items.size());
    }
    return sum;
  });
}
BENCHMARK(Peek)->Name("ring_reader/peek_all")->Arg(kItems);

}  // namespace
}  // namespace doppel::bench
