// SPDX-License-Identifier: Apache-2.0
//
// How long a campaign runs: short in `tests/run`, long in `tests/run --long`.
//
// Invariants:
//   1. The short form runs the same code as the long one, fewer times.
//
// Thread safety: reads the environment only.
// Errors: none.
//
// Example:
//   for (int i = 0; i < Scaled(1'000, 1'000'000); ++i) Step(i);

#ifndef DOPPEL_TESTS_SUPPORT_CAMPAIGN_H_
#define DOPPEL_TESTS_SUPPORT_CAMPAIGN_H_

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace doppel::testing {

// Whether DOPPEL_LONG=1 stands in the environment.
inline bool LongCampaign() {
  const char* value = std::getenv("DOPPEL_LONG");
  return value != nullptr && std::string_view(value) == "1";
}

inline int64_t Scaled(int64_t short_count, int64_t long_count) {
  return LongCampaign() ? long_count : short_count;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_CAMPAIGN_H_
