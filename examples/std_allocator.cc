// SPDX-License-Identifier: Apache-2.0
//
// A request's containers on one region: bump allocation, all freed at once.

#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "doppel/alloc/allocator.h"
#include "doppel/alloc/region.h"

int main() {
  absl::StatusOr<doppel::Region> region = doppel::Region::Create();
  if (!region.ok()) {
    std::fprintf(stderr, "%s\n", region.status().ToString().c_str());
    return 1;
  }
  using Pair = std::pair<const int, int>;
  using Map = std::map<int, int, std::less<>, doppel::Allocator<Pair>>;
  for (int request = 0; request < 3; ++request) {
    {
      Map squares{doppel::Allocator<Pair>(*region)};
      for (int i = 0; i < 1000; ++i) squares[i] = i * i;
      std::printf("request %d: %zu nodes in %llu bytes\n", request,
                  squares.size(),
                  static_cast<unsigned long long>(region->used_bytes()));
    }
    region->Reset();  // The pages stay for the next request.
  }
}
