// SPDX-License-Identifier: Apache-2.0
//
// Node containers built and destroyed, and real text split into words that are
// counted, over std::allocator (whichever malloc the process has), doppel's, and
// std::pmr's.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "benchmark/benchmark.h"
#include "doppel/alloc/allocator.h"
#include "doppel/alloc/region.h"
#include "doppel/bench/support/support.h"

namespace doppel {
namespace {

// A source of allocators for T, made anew for each container's life.
struct Malloc {
  static constexpr char kName[] = "malloc";
  template <class T>
  using For = std::allocator<T>;
  template <class T>
  std::allocator<T> Get() {
    return {};
  }
  void End() {}
};

struct OverRegion {
  static constexpr char kName[] = "doppel_allocator";
  template <class T>
  using For = Allocator<T>;
  template <class T>
  Allocator<T> Get() {
    return Allocator<T>(region);
  }
  void End() { region.Reset(); }
  Region region = *Region::Create();
};

struct Monotonic {
  static constexpr char kName[] = "pmr_monotonic";
  template <class T>
  using For = std::pmr::polymorphic_allocator<T>;
  template <class T>
  std::pmr::polymorphic_allocator<T> Get() {
    return &resource;
  }
  void End() { resource.release(); }
  std::pmr::monotonic_buffer_resource resource;
};

struct Pool {
  static constexpr char kName[] = "pmr_pool";
  template <class T>
  using For = std::pmr::polymorphic_allocator<T>;
  template <class T>
  std::pmr::polymorphic_allocator<T> Get() {
    return &resource;
  }
  void End() { resource.release(); }
  std::pmr::unsynchronized_pool_resource resource;
};

using Pair = std::pair<const uint64_t, uint64_t>;

const std::vector<uint64_t>& Keys(size_t count) {
  static std::vector<uint64_t>& keys = *new std::vector<uint64_t>;
  std::mt19937_64 random(keys.size() + 1);
  while (keys.size() < count) keys.push_back(random());
  return keys;
}

// More than any of the containers needs an element while it grows.
constexpr size_t kWarmBytesAnElement = 128;

template <class Source>
void BuildList(benchmark::State& state, size_t count) {
  bench::WarmHostMemory(count * kWarmBytesAnElement);
  Source source;
  for (auto _ : state) {
    {
      std::list<uint64_t, typename Source::template For<uint64_t>> list(
          source.template Get<uint64_t>());
      for (size_t i = 0; i < count; ++i) list.push_back(i);
      benchmark::DoNotOptimize(list.back());
    }
    source.End();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * count));
}

template <class Map, class Source>
void BuildMap(benchmark::State& state, size_t count) {
  const std::vector<uint64_t>& keys = Keys(count);
  bench::WarmHostMemory(count * kWarmBytesAnElement);
  Source source;
  for (auto _ : state) {
    {
      Map map(source.template Get<Pair>());
      for (size_t i = 0; i < count; ++i) map.emplace(keys[i], i);
      benchmark::DoNotOptimize(map.size());
    }
    source.End();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * count));
}

template <class Source>
using Tree = std::map<uint64_t, uint64_t, std::less<>,
                      typename Source::template For<Pair>>;
template <class Source>
using Hash =
    std::unordered_map<uint64_t, uint64_t, std::hash<uint64_t>, std::equal_to<>,
                       typename Source::template For<Pair>>;
template <class Source>
using FlatHash =
    absl::flat_hash_map<uint64_t, uint64_t, absl::Hash<uint64_t>,
                        std::equal_to<>, typename Source::template For<Pair>>;
template <class Source>
using NodeHash =
    absl::node_hash_map<uint64_t, uint64_t, absl::Hash<uint64_t>,
                        std::equal_to<>, typename Source::template For<Pair>>;
template <class Source>
using Btree = absl::btree_map<uint64_t, uint64_t, std::less<>,
                              typename Source::template For<Pair>>;

// Words as strings of the same source: the key allocates as the node does.
template <class Source>
using Word = std::basic_string<char, std::char_traits<char>,
                               typename Source::template For<char>>;

struct WordHash {
  template <class W>
  size_t operator()(const W& word) const {
    return absl::Hash<absl::string_view>()(
        absl::string_view(word.data(), word.size()));
  }
};

template <class Source>
using WordPair = std::pair<const Word<Source>, uint64_t>;
template <class Source>
using WordsByNode =
    std::unordered_map<Word<Source>, uint64_t, WordHash, std::equal_to<>,
                       typename Source::template For<WordPair<Source>>>;
template <class Source>
using WordsFlat =
    absl::flat_hash_map<Word<Source>, uint64_t, WordHash, std::equal_to<>,
                        typename Source::template For<WordPair<Source>>>;

template <class Map, class Source>
void CountWords(benchmark::State& state) {
  const std::string& text = bench::Corpus();
  if (text.empty()) {
    state.SkipWithError("DOPPEL_BENCH_TEXT names no text");
    return;
  }
  bench::WarmHostMemory(4 * text.size());
  Source source;
  for (auto _ : state) {
    {
      Map counts(source.template Get<WordPair<Source>>());
      for (const absl::string_view word : bench::Words(text)) {
        ++counts[Word<Source>(word.data(), word.size(),
                              source.template Get<char>())];
      }
      benchmark::DoNotOptimize(counts.size());
    }
    source.End();
  }
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * text.size()));
}

template <class Source>
void Register() {
  const auto name = [](const char* workload, size_t count) {
    return std::string(workload) + "/" + Source::kName + "/" +
           std::to_string(count);
  };
  for (const size_t count :
       {size_t{100'000}, size_t{1'000'000}, size_t{10'000'000}}) {
    benchmark::RegisterBenchmark(name("list", count).c_str(), BuildList<Source>,
                                 count);
    benchmark::RegisterBenchmark(name("map", count).c_str(),
                                 BuildMap<Tree<Source>, Source>, count);
    benchmark::RegisterBenchmark(name("unordered_map", count).c_str(),
                                 BuildMap<Hash<Source>, Source>, count);
    if (count > 1'000'000) continue;
    benchmark::RegisterBenchmark(name("node_hash_map", count).c_str(),
                                 BuildMap<NodeHash<Source>, Source>, count);
    // A few large arrays or blocks instead of nodes: what malloc does best.
    benchmark::RegisterBenchmark(name("flat_hash_map", count).c_str(),
                                 BuildMap<FlatHash<Source>, Source>, count);
    benchmark::RegisterBenchmark(name("btree_map", count).c_str(),
                                 BuildMap<Btree<Source>, Source>, count);
  }
  benchmark::RegisterBenchmark(name("text_unordered_map", 1).c_str(),
                               CountWords<WordsByNode<Source>, Source>)
      ->Iterations(1);
  benchmark::RegisterBenchmark(name("text_flat_hash_map", 1).c_str(),
                               CountWords<WordsFlat<Source>, Source>)
      ->Iterations(1);
}

const bool kRegistered = [] {
  Register<Malloc>();
  Register<OverRegion>();
  Register<Monotonic>();
  Register<Pool>();
  return true;
}();

}  // namespace
}  // namespace doppel
