// SPDX-License-Identifier: Apache-2.0
//
// The main of every benchmark: pinned before anything is measured.

#include "benchmark/benchmark.h"
#include "doppel/bench/support/support.h"

int main(int argc, char** argv) {
  doppel::bench::PinThread(0);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
