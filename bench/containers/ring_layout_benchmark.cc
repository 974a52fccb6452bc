// SPDX-License-Identifier: Apache-2.0
//
// Why positions are 128 bytes apart: two threads store to a word each, at distances of
// 8, 64 and 128 bytes. The argument is the distance.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/support/support.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::bench {
namespace {

void Neighbours(benchmark::State& state) {
  constexpr uint64_t kStores = 1 << 16;
  alignas(2 * kRingLineBytes) std::byte memory[2 * kRingLineBytes] = {};
  auto* mine = new (memory) std::atomic<uint64_t>(0);
  auto* theirs = new (memory + state.range(0)) std::atomic<uint64_t>(0);
  {
    Partner partner([theirs](Partner& self) {
      uint64_t stores = 0;
      do {
        for (int i = 0; i < 1000; ++i) {
          theirs->store(++stores, std::memory_order_release);
        }
      } while (self.GoesOn(stores));
    });
    for (auto _ : state) {
      for (uint64_t i = 0; i < kStores; ++i) {
        mine->store(i, std::memory_order_release);
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kStores));
}
BENCHMARK(Neighbours)
    ->Name("ring_layout/stores")
    ->Arg(8)
    ->Arg(64)
    ->Arg(kRingLineBytes)
    ->UseRealTime();

}  // namespace
}  // namespace doppel::bench
