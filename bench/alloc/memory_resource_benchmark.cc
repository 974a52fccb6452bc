// SPDX-License-Identifier: Apache-2.0
//
// std::pmr containers over doppel's resource and over the standard's.

#include <cstddef>
#include <map>
#include <memory_resource>
#include <string>

#include "benchmark/benchmark.h"
#include "doppel/alloc/memory_resource.h"
#include "doppel/alloc/region.h"

namespace doppel {
namespace {

constexpr int kNodes = 1000;

void Build(std::pmr::memory_resource* resource) {
  std::pmr::map<int, std::pmr::string> map(resource);
  for (int i = 0; i < kNodes; ++i) map.emplace(i, "more than the small buffer");
  benchmark::DoNotOptimize(map.size());
}

void OverRegion(benchmark::State& state) {
  Region region = *Region::Create();
  MemoryResource resource(region);
  for (auto _ : state) {
    Build(&resource);
    region.Reset();
  }
  state.SetItemsProcessed(state.iterations() * kNodes);
}

void OverMonotonic(benchmark::State& state) {
  std::pmr::monotonic_buffer_resource resource;
  for (auto _ : state) {
    Build(&resource);
    resource.release();
  }
  state.SetItemsProcessed(state.iterations() * kNodes);
}

void OverPool(benchmark::State& state) {
  std::pmr::unsynchronized_pool_resource resource;
  for (auto _ : state) Build(&resource);
  state.SetItemsProcessed(state.iterations() * kNodes);
}

void OverNewDelete(benchmark::State& state) {
  for (auto _ : state) Build(std::pmr::new_delete_resource());
  state.SetItemsProcessed(state.iterations() * kNodes);
}

BENCHMARK(OverRegion)->Name("pmr_map/doppel_resource/1000");
BENCHMARK(OverMonotonic)->Name("pmr_map/pmr_monotonic/1000");
BENCHMARK(OverPool)->Name("pmr_map/pmr_pool/1000");
BENCHMARK(OverNewDelete)->Name("pmr_map/malloc/1000");

}  // namespace
}  // namespace doppel
