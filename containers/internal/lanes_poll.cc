// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/lanes_poll.h"

#include <algorithm>
#include <span>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/wait_pace.h"

namespace doppel::internal {

void PollAny(std::span<const int> events, absl::Time deadline) {
  if (sys::PollAny(events, deadline).ok()) return;
  absl::SleepFor(std::min(kBlindSleep, deadline - absl::Now()));
}

}  // namespace doppel::internal
