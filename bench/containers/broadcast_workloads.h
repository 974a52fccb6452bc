// SPDX-License-Identifier: Apache-2.0
//
// How a load is given to several consumers: the threads that use the subjects of
// broadcast_subjects.h, and what is checked and counted.
//
//   benchmark's thread                        partner, second partner
//     send(writer, wait) ────── subject ──┬──▶  take(reader, sum)
//        an iteration's load              └──▶  take(reader, sum)
//
// Invariants:
//   1. An iteration ends when every consumer is behind its last item.
//   2. The sum of what arrived is checked, where nothing may be lost.
//   3. On a machine of two processors the second consumer shares the first one's: what
//      two cost then is what they cost one core that takes turns. Who finds nothing
//      gives the core up.
//
// Thread safety: as ring_harness.h says.
// Errors: a wrong sum is an error of the benchmark (SkipWithError).
//
// Example:
//   RegisterSpread<DoppelBroadcast>("ring_broadcast", 64 << 10);

#ifndef DOPPEL_BENCH_CONTAINERS_BROADCAST_WORKLOADS_H_
#define DOPPEL_BENCH_CONTAINERS_BROADCAST_WORKLOADS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_load.h"

namespace doppel::bench {

// What the consumers of a run made of it.
struct Spread {
  uint64_t sum = 0;   // Of all.
  uint64_t lost = 0;  // Of subjects that overwrite.
};

// Runs `send(writer, wait)`, an iteration's load of `load` items, against kConsumers
// partners that take by `take(reader, sum)`.
template <class Subject, int kConsumers, class Send, class Take>
Spread SpreadItems(benchmark::State& state, uint64_t load, Send send,
                   Take take) {
  Subject subject(static_cast<size_t>(state.range(0)), kConsumers);
  std::array<uint64_t, kConsumers> sums = {};
  {
    std::array<std::optional<Partner>, kConsumers> partners;
    for (int i = 0; i < kConsumers; ++i) {
      partners[i].emplace([&sum = sums[i], take,
                           reader = subject.reader(i)](Partner& self) mutable {
        // In the thread's own frame, and so in registers.
        auto own = std::move(reader);
        uint64_t own_sum = 0;
        uint64_t behind = 0;
        do {
          while (const uint64_t n = take(own, own_sum)) behind += n;
          if (kConsumers > 1) std::this_thread::yield();
        } while (self.GoesOn(behind));
        sum = own_sum;
      });
    }
    auto made = subject.writer();
    auto writer = std::move(made);
    uint64_t sent = 0;
    for (auto _ : state) {
      send(writer, [] { Pause(); });
      sent += load;
      for (const std::optional<Partner>& partner : partners) {
        partner->WaitFor(sent);
      }
    }
  }
  Spread spread = {.sum =
                       std::accumulate(sums.begin(), sums.end(), uint64_t{0})};
  if constexpr (requires { subject.lost(); }) spread.lost = subject.lost();
  return spread;
}

// kItems items one by one, or in batches.
template <class Subject, int kConsumers, bool kBatches>
Spread RunSpread(benchmark::State& state) {
  constexpr uint64_t kItems = 1 << 18;
  const Spread spread = SpreadItems<Subject, kConsumers>(
      state, kItems,
      [](auto& writer, auto wait) {
        if constexpr (kBatches) {
          for (uint64_t i = 0; i < kItems; i += kBatch) writer.Fill(i, wait);
        } else {
          for (uint64_t i = 0; i < kItems; ++i) writer.Push(i, wait);
        }
      },
      [](auto& reader, uint64_t& sum) {
        return kBatches ? reader.Drain(sum) : reader.Pop(sum);
      });
  const auto rounds = static_cast<uint64_t>(state.iterations());
  state.SetItemsProcessed(static_cast<int64_t>(rounds * kItems));
  if constexpr (requires(Subject & s) { s.lost(); }) {
    state.counters["lost"] = static_cast<double>(spread.lost) /
                             static_cast<double>(rounds * kItems * kConsumers);
  }
  if (spread.lost == 0 &&
      spread.sum != rounds * kConsumers * (kItems / 2 * (kItems - 1))) {
    state.SkipWithError("what arrived is not what was sent");
  }
  return spread;
}

template <class Subject>
void RegisterSpread(const std::string& workload, int64_t ring_bytes) {
  const auto add = [&](const char* load, void (*run)(benchmark::State&)) {
    benchmark::RegisterBenchmark(
        (workload + load + "/" + Subject::kName).c_str(), run)
        ->Arg(ring_bytes)
        ->UseRealTime();
  };
  add("_items_to_1", [](auto& state) { RunSpread<Subject, 1, false>(state); });
  add("_items_to_2", [](auto& state) { RunSpread<Subject, 2, false>(state); });
  add("_batches_to_1", [](auto& state) { RunSpread<Subject, 1, true>(state); });
  add("_batches_to_2", [](auto& state) { RunSpread<Subject, 2, true>(state); });
}

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_BROADCAST_WORKLOADS_H_
