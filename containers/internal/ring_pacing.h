// SPDX-License-Identifier: Apache-2.0
//
// When a side of a ring that runs at the other's heels waits a moment before it
// looks at the other's position.
//
//   reader looks:     ●       ●       ●       ●     each finds 1 item, and takes the
//   writer's line:  M─┴S──M─┴S──M─┴S──M─┴S──        line from the writer each time
//
//   reader waits:     ●···········●···········●     each finds what was written in a
//   writer's line:  M─┴S─MMMMMMMMM┴S─MMMMMMMMM┴S    whole interval
//
// A look moves the position's cache line to this core, and the other core's next
// store must fetch it back: some 60 to 350 ns on which nothing is handed over. A side
// that looks again at once finds one item, and both go at the pace of the line. So
// after two looks in a row that found little, the next one waits for kLookIntervalNs.
// That is the one wait in the ring: it is bounded, it is not a wait for the other
// side, and who finds nothing never waits, so it delays no item that comes alone.
//
// Where waiting brings nothing (both sides in one thread, or a slow other side), the
// next kRestLooks looks do not wait.
//
// Invariants:
//   1. pauses() is 0 after a look that found nothing, after one that found
//      kFewBytes or more, and after the first of a row that found less.
//   2. Of kRestLooks looks in a row that find less than a line each, at most one
//      waits.
//
// Thread safety: a value type; one belongs to one cursor.
// Errors: none.
//
// Example:
//   for (uint32_t i = pacing.pauses(); i > 0; --i) Pause();
//   pacing.Found(Look());

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_PACING_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_PACING_H_

#include <algorithm>
#include <cstdint>

namespace doppel::internal {

class RingPacing {
 public:
  // Longer than a line needs to the other core and back on one socket, and shorter
  // than a writer at full speed needs to fill a ring of two pages.
  static constexpr double kLookIntervalNs = 220;
  static constexpr uint64_t kFewBytes = 4096;
  static constexpr uint64_t kLineBytes = 64;
  static constexpr int32_t kRestLooks = 64;

  // Never waits.
  RingPacing() = default;

  // For items of `item_bytes`, on a processor whose Pause() takes `pause_ns`.
  RingPacing(uint64_t item_bytes, double pause_ns)
      : few_(kFewBytes / item_bytes),
        line_(std::max<uint64_t>(1, kLineBytes / item_bytes)),
        interval_(static_cast<uint32_t>(
            std::clamp(kLookIntervalNs / pause_ns, 1.0, 64.0))) {}

  // How often to pause before the next look.
  uint32_t pauses() const { return row_ >= 2 ? interval_ : 0; }

  // After each look: how many items, or free slots, it found.
  void Found(uint64_t n) {
    if (n == 0 || n >= few_) {
      row_ = 0;
    } else if (row_ >= 2 && n <= line_) {
      row_ = 2 - kRestLooks;
    } else {
      row_ = std::min(row_ + 1, 2);
    }
  }

 private:
  uint64_t few_ = 0;       // Items in kFewBytes.
  uint64_t line_ = 1;      // Items in kLineBytes, at least 1.
  uint32_t interval_ = 0;  // Pauses in kLookIntervalNs.
  int32_t row_ = 0;  // Looks in a row that found little; negative: at rest.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_PACING_H_
