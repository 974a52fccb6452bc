// SPDX-License-Identifier: Apache-2.0
//
// Sleeps until one of many events comes.
//
// Invariants:
//   1. It returns no later than the deadline, and for any reason before: whoever slept
//      looks again.
//
// Thread safety: all functions.
// Errors: where poll(2) fails, it sleeps for a millisecond in its place.
//
// Example:
//   PollAny(events, absl::InfiniteFuture());

#ifndef DOPPEL_CONTAINERS_INTERNAL_LANES_POLL_H_
#define DOPPEL_CONTAINERS_INTERNAL_LANES_POLL_H_

#include <span>

#include "absl/time/time.h"

namespace doppel::internal {

void PollAny(std::span<const int> events, absl::Time deadline);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_LANES_POLL_H_
