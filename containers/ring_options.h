// SPDX-License-Identifier: Apache-2.0
//
// What a ring is made with.
//
// Line ownership. If the reader only reads, each line of items stays in both caches,
// and each store of the writer's next lap waits until the reader's cache has given the
// line up. If the reader writes a byte to each line that it has consumed, before it
// hands it back, the line is in one cache only, and the writer takes it in one
// transfer. What that is worth depends on the processor: from a tenth lost to many
// times gained.
//
// Invariants:
//   1. kAuto is on unless passing data to another core is not a fifth faster with it,
//      which the process measures when it makes its first ring (about 2 ms, and a
//      thread that ends before). What cannot be measured within 20 ms (no other
//      processor, or none that is free) is on.
//
// Thread safety: values.
// Errors: none.
//
// Example:
//   SpscRing<int>::Create(1000, {.line_ownership = LineOwnership::kOff});

#ifndef DOPPEL_CONTAINERS_RING_OPTIONS_H_
#define DOPPEL_CONTAINERS_RING_OPTIONS_H_

#include <cstdint>
#include <memory>

#include "doppel/alloc/arena.h"

namespace doppel {

// Whether the consumer writes to the cache lines that it has read.
enum class LineOwnership : uint8_t { kAuto, kOn, kOff };

struct RingOptions {
  // Where the items' pages come from: their size, whether they are locked into memory,
  // and the descriptor that many rings share. nullptr: Arena::Default().
  std::shared_ptr<Arena> arena = nullptr;
  LineOwnership line_ownership = LineOwnership::kAuto;
};

// Of a process that attaches to a ring whose pages another one chose.
struct RingAttachOptions {
  LineOwnership line_ownership = LineOwnership::kAuto;
  // Whether what this process maps is locked into memory (mlock2(2)).
  bool lock = false;
};

// What happened to a ring since it was made. Numbers are of items.
struct RingStatistics {
  uint64_t pushed = 0;  // Published.
  uint64_t popped = 0;  // Released.
  // Calls that found too little room, or too few items, and how often that began. Of
  // single items push_refusals is what a producer that does not wait has dropped.
  uint64_t push_refusals = 0;
  uint64_t push_stalls = 0;
  uint64_t pop_refusals = 0;
  uint64_t pop_stalls = 0;
  // The most items that either side has found in the ring when it looked.
  uint64_t high_water = 0;
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_RING_OPTIONS_H_
