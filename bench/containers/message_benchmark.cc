// SPDX-License-Identifier: Apache-2.0
//
// Messages of 16 to 4096 bytes, and of 16 to 512, from thread to thread: message.h beside
// the ring's own spans, a queue, a plain ring of indices and the kernel's channels. The
// argument is the ring's size in bytes. The limits run along: the bare hand-over of lines
// from core to core, and memcpy.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/bench/containers/ring_workloads.h"
#include "doppel/containers/internal/ring_place.h"

namespace doppel::bench {
namespace {

using ::doppel::internal::TakeLines;

// The limits of all that passes lines to another core: blocks are written whole, a
// word of each line is read, and two counters are all that is shared besides. Who owns
// the lines stores to each that it has read (ring_options.h).
template <bool kOwnsLines>
void BareHandover(benchmark::State& state) {
  constexpr size_t kBlockBytes = 64 << 10;
  const uint64_t blocks = static_cast<uint64_t>(state.range(0)) / kBlockBytes;
  const std::vector<std::byte> from(kBlockBytes, std::byte{1});
  std::vector<std::byte> memory(blocks * kBlockBytes);
  alignas(128) std::atomic<uint64_t> written{0};
  alignas(128) std::atomic<uint64_t> read{0};
  const auto block = [&](uint64_t i) {
    return memory.data() + i % blocks * kBlockBytes;
  };
  uint64_t sent = 0;
  uint64_t digest = 0;
  {
    Partner partner([&](Partner& self) {
      uint64_t done = 0;
      uint64_t own_digest = 0;
      do {
        while (written.load(std::memory_order_acquire) != done) {
          own_digest += Digest(block(done), kBlockBytes);
          if (kOwnsLines) TakeLines(block(done), kBlockBytes);
          read.store(++done, std::memory_order_release);
        }
      } while (self.GoesOn(done));
      digest = own_digest;
    });
    for (auto _ : state) {
      for (const uint64_t end = sent + 16 * blocks; sent < end;) {
        while (sent == read.load(std::memory_order_acquire) + blocks) Pause();
        std::memcpy(block(sent), from.data(), kBlockBytes);
        written.store(++sent, std::memory_order_release);
      }
      partner.WaitFor(sent);
    }
  }
  Check(state, digest == sent * Digest(from.data(), kBlockBytes));
  state.SetBytesProcessed(static_cast<int64_t>(sent * kBlockBytes));
}

// The limit of all copying: one thread, source and target of half the size each.
void Memcpy(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0)) / 2;
  const std::vector<std::byte> from(bytes, std::byte{1});
  std::vector<std::byte> to(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
}

constexpr int64_t kMiB = 1 << 20;

template <class Subject>
void RegisterMessages() {
  Register("ring_messages", Subject::kName, {kMiB},
           SendMessages<Subject, kMaxMessageBytes>);
  Register("ring_messages_512", Subject::kName, {kMiB},
           SendMessages<Subject, 512>);
}

const bool kRegistered = [] {
  RegisterMessages<DoppelMessages>();
  RegisterMessages<DoppelBytes>();
  RegisterMessages<BoostBytes>();
  RegisterMessages<IndexBytes>();
  RegisterMessages<Pipe>();
  RegisterMessages<SocketPair>();
  Register("ring_messages", "limit_handover", {kMiB}, BareHandover<false>);
  Register("ring_messages", "limit_handover_owned", {kMiB}, BareHandover<true>);
  Register("ring_messages", "limit_memcpy", {kMiB}, Memcpy);
  return true;
}();

}  // namespace
}  // namespace doppel::bench
