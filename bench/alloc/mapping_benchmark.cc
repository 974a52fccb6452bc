// SPDX-License-Identifier: Apache-2.0
//
// What addresses cost: reserving, showing, hiding, moving, a second alias.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "benchmark/benchmark.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"

namespace doppel {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr char kNoPages[] = "the pool of this page size is too small";

// An extent with all its pages, shown at 0 of a mapping with room for two.
struct Populated {
  Extent extent;
  Mapping mapping;

  static std::optional<Populated> Make(PageSize page_size, uint64_t bytes) {
    auto arena =
        Arena::Create({.page_size = page_size, .expected_bytes = bytes});
    if (!arena.ok()) return std::nullopt;
    auto extent = (*arena)->Allocate(bytes);
    auto mapping = Mapping::Reserve(2 * bytes, (*arena)->huge_unit_bytes());
    if (!extent.ok() || !mapping.ok() ||
        !mapping->Show(*extent, 0, {.populate = true}).ok()) {
      return std::nullopt;
    }
    return Populated{*std::move(extent), *std::move(mapping)};
  }
};

// --- reserve ---

void Reserve(benchmark::State& state) {
  const auto bytes = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    const auto mapping = Mapping::Reserve(bytes);
    benchmark::DoNotOptimize(mapping->data());
  }
}
BENCHMARK(Reserve)
    ->Name("reserve/doppel_mapping")
    ->Arg(64 << 10)
    ->Arg(32L << 30);

void ReserveRaw(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    void* const at = mmap(nullptr, bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    benchmark::DoNotOptimize(at);
    munmap(at, bytes);
  }
}
BENCHMARK(ReserveRaw)->Name("reserve/mmap")->Arg(64 << 10)->Arg(32L << 30);

// --- show_hide: a second alias comes and goes, untouched ---

void ShowHide(benchmark::State& state, PageSize page_size, uint64_t bytes) {
  auto populated = Populated::Make(page_size, bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  for (auto _ : state) {
    const bool ok = populated->mapping.Show(populated->extent, bytes).ok() &&
                    populated->mapping.Hide(bytes, bytes).ok();
    if (!ok) state.SkipWithError("show or hide failed");
  }
}

// --- alias: a second alias is made ready for use ---

enum class Ready { kTouch, kPopulateRead, kPopulateWrite };

void Alias(benchmark::State& state, PageSize page_size, Ready ready,
           uint64_t bytes) {
  auto populated = Populated::Make(page_size, bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  Mapping& mapping = populated->mapping;
  for (auto _ : state) {
    bool ok = mapping.Show(populated->extent, bytes).ok();
    switch (ready) {
      case Ready::kTouch:
        for (uint64_t at = bytes; at < 2 * bytes; at += kPage) {
          mapping.data()[at] = std::byte{1};
        }
        break;
      case Ready::kPopulateRead:
        ok = ok && mapping.Populate(bytes, bytes, Protection::kRead).ok();
        break;
      case Ready::kPopulateWrite:
        ok = ok && mapping.Populate(bytes, bytes).ok();
        break;
    }
    if (!ok) state.SkipWithError("the alias cannot be had");
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

// --- move: a populated range to another place, and read there ---

void ReadPages(const std::byte* data, uint64_t bytes) {
  unsigned sum = 0;
  for (uint64_t at = 0; at < bytes; at += kPage) {
    sum += std::to_integer<unsigned>(data[at]);
  }
  benchmark::DoNotOptimize(sum);
}

void MoveByMremap(benchmark::State& state, PageSize page_size, uint64_t bytes) {
  auto populated = Populated::Make(page_size, bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  Mapping& mapping = populated->mapping;
  uint64_t from = 0;
  for (auto _ : state) {
    const uint64_t to = bytes - from;
    if (!mapping.Move(from, bytes, mapping, to).ok()) {
      state.SkipWithError("move failed");
      return;
    }
    ReadPages(mapping.data() + to, bytes);
    from = to;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

void MoveByShowing(benchmark::State& state, PageSize page_size,
                   uint64_t bytes) {
  auto populated = Populated::Make(page_size, bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  Mapping& mapping = populated->mapping;
  uint64_t from = 0;
  for (auto _ : state) {
    const uint64_t to = bytes - from;
    if (!mapping.Show(populated->extent, to).ok() ||
        !mapping.Hide(from, bytes).ok()) {
      state.SkipWithError("show or hide failed");
      return;
    }
    ReadPages(mapping.data() + to, bytes);
    from = to;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

void MoveByCopy(benchmark::State& state, PageSize page_size, uint64_t bytes) {
  auto populated = Populated::Make(page_size, 2 * bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  std::byte* const data = populated->mapping.data();
  uint64_t from = 0;
  for (auto _ : state) {
    const uint64_t to = bytes - from;
    std::memcpy(data + to, data + from, bytes);
    ReadPages(data + to, bytes);
    from = to;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

// --- protect: read-only and back ---

void Protect(benchmark::State& state, PageSize page_size, uint64_t bytes) {
  auto populated = Populated::Make(page_size, bytes);
  if (!populated) {
    state.SkipWithError(kNoPages);
    return;
  }
  for (auto _ : state) {
    const bool ok =
        populated->mapping.Protect(0, bytes, Protection::kRead).ok() &&
        populated->mapping.Protect(0, bytes, Protection::kReadWrite).ok();
    if (!ok) state.SkipWithError("protect failed");
  }
}

template <class... Arguments>
void Register(const char* workload, const std::string& subject, uint64_t bytes,
              void (*function)(benchmark::State&, Arguments...),
              std::type_identity_t<Arguments>... arguments) {
  const std::string name =
      std::string(workload) + "/" + subject + "/" + std::to_string(bytes);
  benchmark::RegisterBenchmark(name.c_str(), function, arguments...);
}

const bool kRegistered = [] {
  const std::pair<const char*, PageSize> kinds[] = {
      {"4k", PageSize::Base()},
      {"transparent", PageSize::Transparent()},
      {"hugetlb_2m", PageSize::Huge2MiB()}};
  for (const uint64_t bytes : {2 * kMiB, 32 * kMiB}) {
    for (const auto& [kind, size] : kinds) {
      const std::string doppel = std::string("doppel_") + kind;
      Register("show_hide", doppel, bytes, ShowHide, size, bytes);
      Register("protect", doppel, bytes, Protect, size, bytes);
      Register("alias", doppel + "_touch", bytes, Alias, size, Ready::kTouch,
               bytes);
      Register("alias", doppel + "_populate_read", bytes, Alias, size,
               Ready::kPopulateRead, bytes);
      Register("alias", doppel + "_populate_write", bytes, Alias, size,
               Ready::kPopulateWrite, bytes);
      // Kernels cannot move hugetlb pages: Mapping::Move refuses them.
      if (!size.is_hugetlb()) {
        Register("move", doppel + "_mremap", bytes, MoveByMremap, size, bytes);
      }
      Register("move", doppel + "_show", bytes, MoveByShowing, size, bytes);
      Register("move", std::string("memcpy_") + kind, bytes, MoveByCopy, size,
               bytes);
    }
  }
  return true;
}();

}  // namespace
}  // namespace doppel
