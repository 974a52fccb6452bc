// SPDX-License-Identifier: Apache-2.0
//
// Items from one producer through lanes of which the others are empty: what merging
// costs over the ring alone. The argument is the number of lanes.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/containers/lanes.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

using Ring = SpscRing<uint64_t>;

void Merge(benchmark::State& state) {
  constexpr uint64_t kItems = 1 << 20;
  std::vector<std::unique_ptr<Ring>> rings;
  for (int64_t i = 0; i < state.range(0); ++i) {
    absl::StatusOr<Ring> ring = Ring::Create(8192);
    if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
    rings.push_back(std::make_unique<Ring>(*std::move(ring)));
  }
  uint64_t sent = 0;
  {
    Partner partner([&](Partner& self) {
      Lanes<RingReader<uint64_t>> lanes;
      for (const auto& ring : rings) {
        if (!lanes.Add(ring->reader()).ok()) return;
      }
      uint64_t received = 0;
      do {
        while (RingReader<uint64_t>* reader = lanes.Next()) {
          uint64_t item = 0;
          for (int i = 0; i < 64 && reader->try_pop(item); ++i) ++received;
        }
      } while (self.GoesOn(received));
    });
    auto writer = rings[0]->writer();
    for (auto _ : state) {
      for (uint64_t i = 0; i < kItems; ++i) {
        while (!writer.try_push(i)) Pause();
      }
      sent += kItems;
      partner.WaitFor(sent);
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}
BENCHMARK(Merge)
    ->Name("ring_lanes/items")
    ->Arg(1)
    ->Arg(8)
    ->Arg(64)
    ->UseRealTime();

}  // namespace
}  // namespace doppel::bench
