// SPDX-License-Identifier: Apache-2.0
//
// What the questions cost that a caller may ask at run time.

#include <cstddef>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/alloc/page_size.h"

namespace doppel {
namespace {

void Grant(benchmark::State& state) {
  for (auto _ : state) {
    auto grant = GrantPageSize(PageSize::BestAvailable(), 1 << 30);
    benchmark::DoNotOptimize(grant);
  }
}

void Residency(benchmark::State& state) {
  const std::vector<std::byte> memory(1 << 20, std::byte{1});
  for (auto _ : state) {
    auto residency = QueryResidency(memory.data(), memory.size());
    benchmark::DoNotOptimize(residency);
  }
}

BENCHMARK(Grant)->Name("page_size/doppel_grant/1");
BENCHMARK(Residency)->Name("page_size/doppel_residency/1048576");

}  // namespace
}  // namespace doppel
