// SPDX-License-Identifier: Apache-2.0
//
// What an extent costs: the bookkeeping alone, and with its pages.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"

namespace doppel {
namespace {

constexpr uint64_t kPage = 4096;

// --- extent: taken and given back, no page touched ---

void ExtentFromArena(benchmark::State& state) {
  const auto arena = *Arena::Create(
      {.page_size = PageSize::Base(), .retain_bytes = UINT64_MAX});
  const auto bytes = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    const auto extent = arena->Allocate(bytes);
    benchmark::DoNotOptimize(extent->offset_bytes());
  }
}
BENCHMARK(ExtentFromArena)
    ->Name("extent/doppel_arena")
    ->Arg(4 << 10)
    ->Arg(64 << 10)
    ->Arg(2 << 20);

void ExtentFromMmap(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    benchmark::DoNotOptimize(at);
    munmap(at, bytes);
  }
}
BENCHMARK(ExtentFromMmap)
    ->Name("extent/mmap")
    ->Arg(4 << 10)
    ->Arg(64 << 10)
    ->Arg(2 << 20);

// A descriptor for each, as libraries of mirrored buffers do it.
void ExtentFromOwnMemfd(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = memfd_create("extent", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, state.range(0)) != 0) {
      state.SkipWithError("memfd_create or ftruncate failed");
      return;
    }
    close(fd);
  }
}
BENCHMARK(ExtentFromOwnMemfd)
    ->Name("extent/memfd_each")
    ->Arg(4 << 10)
    ->Arg(64 << 10)
    ->Arg(2 << 20);

// --- extent_churn: one of `live` extents of 1 to 64 pages is replaced ---

template <class Take>
void Churn(benchmark::State& state, Take take) {
  std::mt19937 random(1);
  std::vector<decltype(take(kPage))> live;
  for (int64_t i = 0; i < state.range(0); ++i) {
    live.push_back(take((random() % 64 + 1) * kPage));
  }
  for (auto _ : state) {
    auto& one = live[random() % live.size()];
    one = {};
    one = take((random() % 64 + 1) * kPage);
  }
  state.SetItemsProcessed(state.iterations());
}

void ChurnOfArena(benchmark::State& state) {
  const auto arena = *Arena::Create(
      {.page_size = PageSize::Base(), .retain_bytes = UINT64_MAX});
  Churn(state, [&](uint64_t bytes) { return *arena->Allocate(bytes); });
}
BENCHMARK(ChurnOfArena)
    ->Name("extent_churn/doppel_arena")
    ->Arg(100)
    ->Arg(10'000);

struct Free {
  void operator()(void* block) const { std::free(block); }
};

void ChurnOfMalloc(benchmark::State& state) {
  Churn(state, [](uint64_t bytes) {
    return std::unique_ptr<void, Free>(std::malloc(bytes));
  });
}
BENCHMARK(ChurnOfMalloc)->Name("extent_churn/malloc")->Arg(100)->Arg(10'000);

// --- extent_pages: taken, shown, every page written, given back ---

void WritePages(std::byte* data, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kPage) data[at] = std::byte{1};
  benchmark::ClobberMemory();
}

void PagesOfArena(benchmark::State& state, uint64_t retain_bytes) {
  const auto arena = *Arena::Create(
      {.page_size = PageSize::Base(), .retain_bytes = retain_bytes});
  const auto bytes = static_cast<uint64_t>(state.range(0));
  Mapping mapping = *Mapping::Reserve(bytes);
  for (auto _ : state) {
    auto extent = arena->Allocate(bytes);
    if (!extent.ok() || !mapping.Show(*extent, 0, {.populate = true}).ok()) {
      state.SkipWithError("no pages");
      return;
    }
    WritePages(mapping.data(), bytes);
    extent->Reset();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(PagesOfArena, punched, 0)
    ->Name("extent_pages/doppel_given_back")
    ->Arg(64 << 10)
    ->Arg(2 << 20);
BENCHMARK_CAPTURE(PagesOfArena, retained, uint64_t{64} << 20)
    ->Name("extent_pages/doppel_retained")
    ->Arg(64 << 10)
    ->Arg(2 << 20);

void PagesOfMmap(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) {
      state.SkipWithError("no pages");
      return;
    }
    WritePages(static_cast<std::byte*>(at), bytes);
    munmap(at, bytes);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(PagesOfMmap)->Name("extent_pages/mmap")->Arg(64 << 10)->Arg(2 << 20);

}  // namespace
}  // namespace doppel
