// SPDX-License-Identifier: Apache-2.0
//
// A producer and a consumer, zero-copy: each span is contiguous, also at the wrap.

#include <cstddef>
#include <cstdio>
#include <numeric>
#include <span>
#include <thread>

#include "doppel/containers/spsc_ring.h"

int main() {
  absl::StatusOr<doppel::SpscRing<int>> ring =
      doppel::SpscRing<int>::Create(1000);
  if (!ring.ok()) {
    std::fprintf(stderr, "%s\n", ring.status().ToString().c_str());
    return 1;
  }
  constexpr int kItems = 1'000'000;
  std::thread producer([writer = ring->writer()]() mutable {
    for (int sent = 0; sent < kItems;) {
      const std::span<int> span = writer.reserve(100);
      if (span.empty()) continue;  // Full: the consumer is behind.
      std::iota(span.begin(), span.end(), sent);
      writer.commit(span.size());
      sent += static_cast<int>(span.size());
    }
  });
  long long sum = 0;
  auto reader = ring->reader();
  for (int received = 0; received < kItems;) {
    const auto span = reader.peek();
    sum = std::accumulate(span.begin(), span.end(), sum);
    reader.consume(span.size());
    received += static_cast<int>(span.size());
  }
  producer.join();
  std::printf("the ring holds %zu items; the sum is %lld\n", ring->capacity(),
              sum);
}
