// SPDX-License-Identifier: Apache-2.0
//
// What the pages cost: first touch, and random access once they are there.

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "benchmark/benchmark.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/bench/support/support.h"

namespace doppel {
namespace {

// Memory of `bytes`, from doppel by page size or from malloc; freed at the end.
class Memory {
 public:
  Memory(size_t bytes, std::optional<PageSize> page_size) {
    if (!page_size) {
      // Mapped anew each time: otherwise malloc keeps what was freed, and there is
      // no first touch (mallopt(3): a threshold that is set does not adapt).
      mallopt(M_MMAP_THRESHOLD, 128 << 10);
      data_ = static_cast<std::byte*>(std::malloc(bytes));
      from_malloc_ = true;
      return;
    }
    auto arena =
        Arena::Create({.page_size = *page_size, .expected_bytes = bytes});
    if (!arena.ok()) return;
    auto memory = GrowingMapping::Create(
        {.arena = *std::move(arena), .reserve_bytes = bytes + bytes / 8});
    if (!memory.ok() || !memory->Grow(bytes).ok()) return;
    doppel_.emplace(*std::move(memory));
    data_ = doppel_->data();
  }
  ~Memory() {
    if (from_malloc_) std::free(data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::optional<GrowingMapping> doppel_;
  std::byte* data_ = nullptr;
  bool from_malloc_ = false;
};

constexpr char kNoPages[] = "the pool of this page size is too small";

void FirstTouch(benchmark::State& state, size_t bytes,
                std::optional<PageSize> page_size) {
  bench::WarmHostMemory(2 * bytes);
  for (auto _ : state) {
    Memory memory(bytes, page_size);
    if (memory.data() == nullptr) {
      state.SkipWithError(kNoPages);
      return;
    }
    std::byte* const data = memory.data();
    for (size_t at = 0; at < bytes; at += 4096) data[at] = std::byte{1};
    benchmark::DoNotOptimize(memory.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

constexpr int kAccesses = 1 << 20;

// Independent reads at random places: what the TLB misses cost.
void RandomAccess(benchmark::State& state, size_t bytes,
                  std::optional<PageSize> page_size) {
  Memory memory(bytes, page_size);
  if (memory.data() == nullptr) {
    state.SkipWithError(kNoPages);
    return;
  }
  auto* const words = reinterpret_cast<uint64_t*>(memory.data());
  for (size_t at = 0; at < bytes / 8; at += 512) words[at] = at;
  const uint64_t mask = bytes / 8 - 1;
  uint64_t random = 88172645463325252;
  uint64_t sum = 0;
  for (auto _ : state) {
    for (int i = 0; i < kAccesses; ++i) {
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      sum += words[random & mask];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * kAccesses);
}

// Each read says where the next one is: a cycle through one word of every line.
void Chase(benchmark::State& state, size_t bytes,
           std::optional<PageSize> page_size) {
  Memory memory(bytes, page_size);
  if (memory.data() == nullptr) {
    state.SkipWithError(kNoPages);
    return;
  }
  auto* const words = reinterpret_cast<uint64_t*>(memory.data());
  // A full-period linear congruential sequence over the lines (Knuth, 3.2.1.2).
  const uint64_t lines = bytes / 64;
  for (uint64_t line = 0; line < lines; ++line) {
    words[line * 8] = ((line * 2862933555777941757 + 3037000493) % lines) * 8;
  }
  uint64_t at = 0;
  for (auto _ : state) {
    // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): each line is set.
    for (int i = 0; i < kAccesses; ++i) at = words[at];
    benchmark::DoNotOptimize(at);
  }
  state.SetItemsProcessed(state.iterations() * kAccesses);
}

struct Kind {
  const char* name;
  std::optional<PageSize> page_size;
};

const Kind kKinds[] = {{"doppel_transparent", PageSize::Transparent()},
                       {"doppel_4k", PageSize::Base()},
                       {"doppel_hugetlb_2m", PageSize::Huge2MiB()},
                       {"doppel_hugetlb_1g", PageSize::Huge1GiB()},
                       {"default_malloc", std::nullopt}};

const bool kRegistered = [] {
  for (const Kind& kind : kKinds) {
    const auto name = [&](const char* workload, size_t bytes) {
      return std::string(workload) + "/" + kind.name + "/" +
             std::to_string(bytes);
    };
    for (const size_t bytes :
         {size_t{1} << 20, size_t{16} << 20, size_t{1} << 30}) {
      if (kind.page_size == PageSize::Huge1GiB() && bytes < size_t{1} << 30) {
        continue;
      }
      benchmark::RegisterBenchmark(name("first_touch", bytes).c_str(),
                                   FirstTouch, bytes, kind.page_size)
          ->UseRealTime();
    }
    for (const size_t bytes :
         {size_t{64} << 20, size_t{1} << 30, size_t{4} << 30}) {
      if (kind.page_size == PageSize::Huge1GiB() && bytes < size_t{1} << 30) {
        continue;
      }
      benchmark::RegisterBenchmark(name("random_access", bytes).c_str(),
                                   RandomAccess, bytes, kind.page_size);
      benchmark::RegisterBenchmark(name("random_access_chased", bytes).c_str(),
                                   Chase, bytes, kind.page_size);
    }
  }
  return true;
}();

}  // namespace
}  // namespace doppel
