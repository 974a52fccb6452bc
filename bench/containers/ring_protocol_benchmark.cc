// SPDX-License-Identifier: Apache-2.0
//
// What handing over costs when nothing is handed over: the two cursors alone, in one
// thread and in two. The argument is the capacity in items.

#include <cstdint>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/support/support.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::bench {
namespace {

constexpr uint64_t kItems = 1 << 20;

struct Positions {
  explicit Positions(benchmark::State& state)
      : pacing(8, static_cast<uint64_t>(state.range(0)) * 8,
               ::doppel::internal::MeasurePauseNs()),
        writer_watch(RingWatch<>::Writer(
            &writer, &reader, static_cast<uint64_t>(state.range(0)), pacing)),
        reader_watch(RingWatch<>::Reader(
            &reader, &writer, static_cast<uint64_t>(state.range(0)), pacing)) {}

  ::doppel::internal::RingPacing pacing;
  RingSide<> writer;
  RingSide<> reader;
  RingWatch<> writer_watch;
  RingWatch<> reader_watch;
};

bool Push(RingCursor<>& cursor) {
  if (cursor.AvailableFor(1) == 0) return false;
  cursor.Stage(1);
  return !cursor.Publish();
}

bool Pop(RingCursor<>& cursor) {
  if (cursor.AvailableFor(1) == 0) return false;
  cursor.Take(1);
  return !cursor.Publish();
}

void OneThread(benchmark::State& state) {
  Positions positions(state);
  RingCursor<> writer(&positions.writer_watch);
  RingCursor<> reader(&positions.reader_watch);
  for (auto _ : state) {
    for (uint64_t i = 0; i < kItems;) {
      while (Push(writer)) ++i;
      while (Pop(reader)) {
      }
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(writer.position()));
}

void TwoThreads(benchmark::State& state) {
  Positions positions(state);
  uint64_t sent = 0;
  {
    Partner partner([&](Partner& self) {
      RingCursor<> reader(&positions.reader_watch);
      do {
        while (Pop(reader)) {
        }
      } while (self.GoesOn(reader.position()));
    });
    RingCursor<> writer(&positions.writer_watch);
    for (auto _ : state) {
      for (uint64_t i = 0; i < kItems; ++i) {
        while (!Push(writer)) Pause();
      }
      sent += kItems;
      partner.WaitFor(sent);
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}

BENCHMARK(OneThread)
    ->Name("ring_positions/one_thread")
    ->Arg(1 << 10)
    ->UseRealTime();
BENCHMARK(TwoThreads)
    ->Name("ring_positions/two_threads")
    ->Arg(1 << 10)
    ->Arg(1 << 16)
    ->UseRealTime();

}  // namespace
}  // namespace doppel::bench
