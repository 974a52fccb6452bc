// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/pause.h"

#include <algorithm>
#include <chrono>

#include "doppel/alloc/internal/remembered.h"

namespace doppel::internal {

double MeasurePauseNs() {
  using Clock = std::chrono::steady_clock;
  constexpr int kTurns = 128;
  std::chrono::duration<double, std::nano> least = std::chrono::hours(1);
  // The least of a few: whoever is interrupted measures too much.
  for (int round = 0; round < 4; ++round) {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < kTurns; ++i) Pause();
    least = std::min<std::chrono::duration<double, std::nano>>(
        least, Clock::now() - begin);
  }
  return least.count() / kTurns;
}

double PauseNs() {
  static constinit Remembered<double> pause_ns;
  return pause_ns.Get(MeasurePauseNs);
}

}  // namespace doppel::internal
