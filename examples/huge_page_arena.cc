// SPDX-License-Identifier: Apache-2.0
//
// Memory on the best pages that the machine has, and proof of what they are.

#include <cstdio>
#include <memory>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/region.h"

int main() {
  constexpr unsigned long long kBytes = 64 << 20;
  absl::StatusOr<std::shared_ptr<doppel::Arena>> arena =
      doppel::Arena::Create({.name = "table",
                             .page_size = doppel::PageSize::BestAvailable(),
                             .expected_bytes = kBytes + kBytes / 8});
  if (!arena.ok()) {
    std::fprintf(stderr, "%s\n", arena.status().ToString().c_str());
    return 1;
  }
  std::printf("granted: %s\n", (*arena)->grant().ToString().c_str());
  absl::StatusOr<doppel::Region> table =
      doppel::Region::Create({.arena = *arena, .initial_bytes = kBytes});
  if (!table.ok()) {
    std::fprintf(stderr, "%s\n", table.status().ToString().c_str());
    return 1;
  }
  const auto stats = (*arena)->Query();
  if (!stats.ok()) return 1;
  std::printf("%llu of %llu bytes are on huge pages\n",
              static_cast<unsigned long long>(stats->huge_bytes),
              static_cast<unsigned long long>(table->committed_bytes()));
}
