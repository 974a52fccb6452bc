// SPDX-License-Identifier: Apache-2.0
//
// Small objects: pairs of allocate and free, batches, and a server's request.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory_resource>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/alloc/region.h"

namespace doppel {
namespace {

// Requests of 50-200 objects of 16-512 bytes: the sizes one after the other, a 0
// ends a request.
const std::vector<uint16_t>& RequestSizes() {
  static const std::vector<uint16_t>& sizes = *new std::vector<uint16_t>([] {
    std::mt19937 random(1);
    std::vector<uint16_t> all;
    for (int request = 0; request < 200; ++request) {
      const auto objects = 50 + random() % 151;
      for (unsigned i = 0; i < objects; ++i) {
        all.push_back(static_cast<uint16_t>(16 + random() % 497));
      }
      all.push_back(0);
    }
    return all;
  }());
  return sizes;
}

// The same loop for every subject: allocate, write the first word, free all.
template <class Allocate, class EndRequest>
void RunRequests(benchmark::State& state, Allocate allocate,
                 EndRequest end_request) {
  int64_t objects = 0;
  for (auto _ : state) {
    for (const uint16_t bytes : RequestSizes()) {
      if (bytes == 0) {
        end_request();
        continue;
      }
      void* object = allocate(bytes);
      *static_cast<uint64_t*>(object) = bytes;
      benchmark::DoNotOptimize(object);
      ++objects;
    }
  }
  state.SetItemsProcessed(objects);
}

void RequestRegion(benchmark::State& state) {
  Region region = *Region::Create();
  RunRequests(
      state, [&](size_t bytes) { return region.Allocate(bytes); },
      [&] { region.Reset(); });
}

void RequestMalloc(benchmark::State& state) {
  std::vector<void*> objects;
  objects.reserve(256);
  RunRequests(
      state,
      [&](size_t bytes) {
        objects.push_back(std::malloc(bytes));
        return objects.back();
      },
      [&] {
        for (void* object : objects) std::free(object);
        objects.clear();
      });
}

void RequestMonotonic(benchmark::State& state) {
  // As its users do: over a buffer that is there from the start.
  std::vector<std::byte> buffer(256 << 10);
  std::pmr::monotonic_buffer_resource resource(buffer.data(), buffer.size());
  RunRequests(
      state, [&](size_t bytes) { return resource.allocate(bytes); },
      [&] { resource.release(); });
}

void RequestPool(benchmark::State& state) {
  std::pmr::unsynchronized_pool_resource resource;
  struct Object {
    void* at;
    size_t bytes;
  };
  std::vector<Object> objects;
  objects.reserve(256);
  RunRequests(
      state,
      [&](size_t bytes) {
        objects.push_back({resource.allocate(bytes), bytes});
        return objects.back().at;
      },
      [&] {
        for (const Object& object : objects) {
          resource.deallocate(object.at, object.bytes);
        }
        objects.clear();
      });
}

BENCHMARK(RequestRegion)->Name("request/doppel_region/150");
BENCHMARK(RequestMalloc)->Name("request/malloc/150");
BENCHMARK(RequestMonotonic)->Name("request/pmr_monotonic/150");
BENCHMARK(RequestPool)->Name("request/pmr_pool/150");

// One object of 64 bytes, allocated and freed at once.
void PairRegion(benchmark::State& state) {
  Region region = *Region::Create();
  for (auto _ : state) {
    void* object = region.Allocate(64, 16);
    benchmark::DoNotOptimize(object);
    region.Deallocate(object, 64, 16);
  }
  state.SetItemsProcessed(state.iterations());
}

void PairMalloc(benchmark::State& state) {
  for (auto _ : state) {
    void* object = std::malloc(64);
    benchmark::DoNotOptimize(object);
    std::free(object);
  }
  state.SetItemsProcessed(state.iterations());
}

// A monotonic resource takes nothing back: it has no pairs.
void PairPool(benchmark::State& state) {
  std::pmr::unsynchronized_pool_resource resource;
  for (auto _ : state) {
    void* object = resource.allocate(64, 16);
    benchmark::DoNotOptimize(object);
    resource.deallocate(object, 64, 16);
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(PairRegion)->Name("pair/doppel_region/64");
BENCHMARK(PairMalloc)->Name("pair/malloc/64");
BENCHMARK(PairPool)->Name("pair/pmr_pool/64");

// Batches of 1000 objects of 64 bytes, freed in the opposite order.
constexpr int kBatch = 1000;

void BatchRegion(benchmark::State& state) {
  Region region = *Region::Create();
  std::vector<void*> objects(kBatch);
  for (auto _ : state) {
    for (void*& object : objects) object = region.Allocate(64, 16);
    benchmark::DoNotOptimize(objects.data());
    for (int i = kBatch; i-- > 0;) region.Deallocate(objects[i], 64, 16);
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

void BatchMalloc(benchmark::State& state) {
  std::vector<void*> objects(kBatch);
  for (auto _ : state) {
    for (void*& object : objects) object = std::malloc(64);
    benchmark::DoNotOptimize(objects.data());
    for (int i = kBatch; i-- > 0;) std::free(objects[i]);
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

void BatchPool(benchmark::State& state) {
  std::pmr::unsynchronized_pool_resource resource;
  std::vector<void*> objects(kBatch);
  for (auto _ : state) {
    for (void*& object : objects) object = resource.allocate(64, 16);
    benchmark::DoNotOptimize(objects.data());
    for (int i = kBatch; i-- > 0;) resource.deallocate(objects[i], 64, 16);
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK(BatchRegion)->Name("batch_lifo/doppel_region/1000");
BENCHMARK(BatchMalloc)->Name("batch_lifo/malloc/1000");
BENCHMARK(BatchPool)->Name("batch_lifo/pmr_pool/1000");

// The same batches freed as a whole: what a region and a monotonic resource are for,
// and what malloc has to do one by one.
void BatchRewind(benchmark::State& state) {
  Region region = *Region::Create();
  std::vector<void*> objects(kBatch);
  for (auto _ : state) {
    const Region::Mark mark = region.mark();
    for (void*& object : objects) object = region.Allocate(64, 16);
    benchmark::DoNotOptimize(objects.data());
    region.Rewind(mark);
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

void BatchRelease(benchmark::State& state) {
  std::vector<std::byte> buffer(kBatch * 64 + 64);
  std::pmr::monotonic_buffer_resource resource(buffer.data(), buffer.size());
  std::vector<void*> objects(kBatch);
  for (auto _ : state) {
    for (void*& object : objects) object = resource.allocate(64, 16);
    benchmark::DoNotOptimize(objects.data());
    resource.release();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK(BatchRewind)->Name("batch_at_once/doppel_region/1000");
BENCHMARK(BatchRelease)->Name("batch_at_once/pmr_monotonic/1000");
BENCHMARK(BatchMalloc)->Name("batch_at_once/malloc/1000");

}  // namespace
}  // namespace doppel
