// SPDX-License-Identifier: Apache-2.0
//
// push_back of 8-byte numbers from 1000 bytes to 4 GiB: the whole time, memory
// given back included; the worst single push; the peak of memory over the data.
// Then a vector of one element, iteration, and reads at random.

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/alloc/arena.h"
#include "doppel/bench/support/support.h"
#include "doppel/containers/vector.h"

namespace doppel {
namespace {

using Clock = std::chrono::steady_clock;

// From here on one repetition is long enough, and others' pages matter.
constexpr size_t kLargeBytes = size_t{16} << 20;

// What is read by iteration and at random: more than the caches hold.
constexpr size_t kReadBytes = size_t{64} << 20;

constexpr char kNoPool[] = "the hugetlb pool of 2 MiB pages is too small";

struct StdVector {
  static constexpr char kName[] = "std_vector";
  using Container = std::vector<uint64_t>;
  static std::optional<Container> Make(size_t /*bytes*/) { return Container(); }
};

struct StdDeque {
  static constexpr char kName[] = "std_deque";
  using Container = std::deque<uint64_t>;
  static std::optional<Container> Make(size_t /*bytes*/) { return Container(); }
};

struct Transparent {
  static constexpr char kName[] = "doppel_vector";
  using Container = Vector<uint64_t>;
  static std::optional<Container> Make(size_t /*bytes*/) { return Container(); }
};

struct Base {
  static constexpr char kName[] = "doppel_vector_4k";
  using Container = Vector<uint64_t>;
  static std::optional<Container> Make(size_t /*bytes*/) {
    static const auto arena = *Arena::Create(
        {.page_size = PageSize::Base(), .retain_bytes = 64 << 20});
    return Container({.arena = arena});
  }
};

struct Hugetlb {
  static constexpr char kName[] = "doppel_vector_hugetlb";
  using Container = Vector<uint64_t>;
  static std::optional<Container> Make(size_t bytes) {
    auto arena = Arena::Create({.page_size = PageSize::Huge2MiB(),
                                .expected_bytes = bytes + bytes / 16});
    if (!arena.ok()) return std::nullopt;
    return Container({.arena = *arena});
  }
};

struct Extremes {
  double worst_ns;
  double peak_over_data;
};

// In a pass of its own: the longest of all steps of 64 pushes (reading the clock
// costs more than a push), and the peak of resident memory. One step more than
// `count`: at a power of two a vector that doubles looks best, and behind it worst.
template <class Subject>
Extremes MeasureExtremes(size_t count) {
  // What malloc kept of the passes before would hide what this one needs.
  malloc_trim(0);
  auto container = Subject::Make(count * sizeof(uint64_t));
  const uint64_t before = bench::ResetPeakBytes();
  Clock::duration worst{0};
  for (size_t i = 0; i <= count; i += 64) {
    const Clock::time_point begin = Clock::now();
    for (size_t j = 0; j < 64; ++j) container->push_back(i + j);
    worst = std::max(worst, Clock::now() - begin);
  }
  benchmark::DoNotOptimize(container->back());
  return {
      .worst_ns = std::chrono::duration<double, std::nano>(worst).count(),
      .peak_over_data =
          static_cast<double>(bench::PeakBytes() - before) /
          static_cast<double>(container->size() * sizeof(uint64_t)),
  };
}

template <class Subject>
void PushBack(benchmark::State& state, size_t bytes) {
  const size_t count = bytes / sizeof(uint64_t);
  if (!Subject::Make(bytes)) {
    state.SkipWithError(kNoPool);
    return;
  }
  // As much as the peak of the one that copies.
  if (bytes >= kLargeBytes) bench::WarmHostMemory(3 * bytes);
  for (auto _ : state) {
    auto container = Subject::Make(bytes);
    for (size_t i = 0; i < count; ++i) container->push_back(i);
    benchmark::DoNotOptimize(container->back());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
  if (bytes < kLargeBytes) return;
  const Extremes extremes = MeasureExtremes<Subject>(count);
  state.counters["worst_ns"] = extremes.worst_ns;
  // hugetlb pages are not resident memory to the kernel's counters.
  if (std::string(Subject::kName) != Hugetlb::kName) {
    state.counters["peak_over_data"] = extremes.peak_over_data;
  }
}

// A vector of one number, made and destroyed: what a mapping of its own costs.
template <class Subject>
void Create(benchmark::State& state) {
  if (!Subject::Make(sizeof(uint64_t))) {
    state.SkipWithError(kNoPool);
    return;
  }
  for (auto _ : state) {
    auto container = Subject::Make(sizeof(uint64_t));
    container->push_back(1);
    benchmark::DoNotOptimize(container->back());
  }
  state.SetItemsProcessed(state.iterations());
}

template <class Subject>
auto Filled(size_t count) {
  auto container = Subject::Make(count * sizeof(uint64_t));
  if (container) {
    for (size_t i = 0; i < count; ++i) container->push_back(i);
  }
  return container;
}

template <class Subject>
void Iterate(benchmark::State& state, size_t bytes) {
  const auto container = Filled<Subject>(bytes / sizeof(uint64_t));
  if (!container) {
    state.SkipWithError(kNoPool);
    return;
  }
  for (auto _ : state) {
    uint64_t sum = 0;
    for (const uint64_t number : *container) sum += number;
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

// Independent reads of random elements. REQUIRES: a power of two of them.
template <class Subject>
void RandomRead(benchmark::State& state, size_t bytes) {
  constexpr int kReads = 1 << 16;
  const size_t count = bytes / sizeof(uint64_t);
  const auto container = Filled<Subject>(count);
  if (!container) {
    state.SkipWithError(kNoPool);
    return;
  }
  uint64_t random = 88172645463325252;
  uint64_t sum = 0;
  for (auto _ : state) {
    for (int i = 0; i < kReads; ++i) {
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      sum += (*container)[random & (count - 1)];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * kReads);
}

std::string Name(const char* workload, const char* subject, size_t argument) {
  return std::string(workload) + "/" + subject + "/" + std::to_string(argument);
}

template <class Subject>
void RegisterRest() {
  benchmark::RegisterBenchmark(Name("vector_create", Subject::kName, 1).c_str(),
                               Create<Subject>);
  benchmark::RegisterBenchmark(
      Name("vector_iterate", Subject::kName, kReadBytes).c_str(),
      Iterate<Subject>, kReadBytes);
  benchmark::RegisterBenchmark(
      Name("vector_random_read", Subject::kName, kReadBytes).c_str(),
      RandomRead<Subject>, kReadBytes);
}

template <class Subject>
void RegisterPushBack() {
  for (const size_t bytes :
       {size_t{1000}, size_t{64} << 10, size_t{1} << 20, size_t{16} << 20,
        size_t{32} << 20, size_t{256} << 20, size_t{1} << 30,
        size_t{4} << 30}) {
    auto* benchmark = benchmark::RegisterBenchmark(
        Name("push_back", Subject::kName, bytes).c_str(), PushBack<Subject>,
        bytes);
    benchmark->UseRealTime();
    if (bytes >= kLargeBytes) benchmark->Iterations(1);
  }
}

// All subjects of a workload stand together.
template <class... Subjects>
bool RegisterAll() {
  (RegisterPushBack<Subjects>(), ...);
  (RegisterRest<Subjects>(), ...);
  return true;
}

const bool kRegistered =
    RegisterAll<Transparent, Base, Hugetlb, StdVector, StdDeque>();

}  // namespace
}  // namespace doppel
