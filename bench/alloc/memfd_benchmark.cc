// SPDX-License-Identifier: Apache-2.0
//
// A memfd's calls beside the bare system calls that they wrap.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "benchmark/benchmark.h"
#include "doppel/alloc/memfd.h"

namespace doppel {
namespace {

void Create(benchmark::State& state) {
  for (auto _ : state) {
    auto memfd = Memfd::Create({.name = "bench"});
    benchmark::DoNotOptimize(memfd);
  }
}

void CreateBare(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    benchmark::DoNotOptimize(fd);
    close(fd);
  }
}

void Resize(benchmark::State& state) {
  Memfd memfd = *Memfd::Create({});
  uint64_t bytes = 0;
  for (auto _ : state) {
    bytes ^= 1 << 20;
    benchmark::DoNotOptimize(memfd.Resize(bytes).ok());
  }
}

void ResizeBare(benchmark::State& state) {
  Memfd memfd = *Memfd::Create({});
  off_t bytes = 0;
  for (auto _ : state) {
    bytes ^= 1 << 20;
    benchmark::DoNotOptimize(ftruncate(memfd.fd(), bytes));
  }
}

void PunchHole(benchmark::State& state) {
  Memfd memfd = *Memfd::Create({});
  for (auto _ : state) {
    benchmark::DoNotOptimize(memfd.Reserve(0, 1 << 20).ok());
    benchmark::DoNotOptimize(memfd.PunchHole(0, 1 << 20).ok());
  }
}

void PunchHoleBare(benchmark::State& state) {
  Memfd memfd = *Memfd::Create({});
  for (auto _ : state) {
    benchmark::DoNotOptimize(fallocate(memfd.fd(), 0, 0, 1 << 20));
    benchmark::DoNotOptimize(fallocate(
        memfd.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
  }
}

BENCHMARK(Create)->Name("memfd_create/doppel_memfd/1");
BENCHMARK(CreateBare)->Name("memfd_create/system_call/1");
BENCHMARK(Resize)->Name("memfd_resize/doppel_memfd/1048576");
BENCHMARK(ResizeBare)->Name("memfd_resize/system_call/1048576");
BENCHMARK(PunchHole)->Name("memfd_punch/doppel_memfd/1048576");
BENCHMARK(PunchHoleBare)->Name("memfd_punch/system_call/1048576");

}  // namespace
}  // namespace doppel
