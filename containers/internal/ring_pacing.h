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
// store must fetch it back: some 60 to 600 ns on which nothing is handed over. A side
// that looks again at once finds one item, and both go at the pace of the line. So
// after two looks in a row that found little, the next one waits for kLookIntervalNs.
//
// What is found then says more. kWorthBytesPerNs or more: the other side runs at full
// speed but for the line, and the next wait is twice as long, until what is found takes
// this side about as long to use. Less: the other side has no more to give, a longer wait
// would only delay, and the next is half as long. How long a line takes is not measured:
// a hypervisor moves processors while a ring is used.
//
// That is the one wait in the ring: it is bounded, it is not a wait for the other
// side, and who finds nothing never waits, so it delays no item that comes alone.
//
// Where waiting brings nothing (both sides in one thread, or a slow other side), the
// next kRestLooks looks do not wait.
//
// Invariants:
//   1. pauses() is 0 after a look that found nothing, after one that found much
//      (kMuchBytes, or half of the ring), and after the first of a row that found less.
//   2. Of kRestLooks looks in a row that find less than a line each, at most one
//      waits.
//   3. A wait is of kLookIntervalNs, doubled kDoublings times at most, and no longer than
//      the other side needs to fill half of the ring at full speed.
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
  // Longer than a line needs to the other core and back on one socket.
  static constexpr double kLookIntervalNs = 220;
  static constexpr int kDoublings = 4;  // 3.5 us.
  static constexpr uint64_t kMuchBytes = 16 << 10;
  static constexpr uint64_t kLineBytes = 64;
  static constexpr int32_t kRestLooks = 64;
  static constexpr double kWorthBytesPerNs = 0.25;
  // What the fastest side of a ring passes item by item.
  static constexpr double kFullBytesPerNs = 8;

  // Never waits.
  RingPacing() = default;

  // For a ring of `ring_bytes` of items of `item_bytes`, on a processor whose Pause()
  // takes `pause_ns`.
  RingPacing(uint64_t item_bytes, uint64_t ring_bytes, double pause_ns)
      : much_(std::min(kMuchBytes, ring_bytes / 2) / item_bytes),
        line_(std::max<uint64_t>(1, kLineBytes / item_bytes)),
        worth_(std::max<uint64_t>(
            1, static_cast<uint64_t>(kLookIntervalNs * kWorthBytesPerNs) /
                   item_bytes)),
        interval_(static_cast<uint32_t>(
            std::clamp(kLookIntervalNs / pause_ns, 1.0, 64.0))) {
    const double longest_ns =
        static_cast<double>(ring_bytes) / 2 / kFullBytesPerNs;
    for (double ns = 2 * kLookIntervalNs;
         ns <= longest_ns && most_doublings_ < kDoublings; ns *= 2) {
      ++most_doublings_;
    }
  }

  // How often to pause before the next look.
  uint32_t pauses() const { return row_ >= 2 ? interval_ << doublings_ : 0; }

  // After each look: how many items, or free slots, it found.
  void Found(uint64_t n) {
    if (n == 0) {
      row_ = 0;
      doublings_ = 0;
    } else if (n >= much_) {
      row_ = 0;
    } else if (row_ < 2) {
      ++row_;
    } else if (n <= line_) {
      row_ = 2 - kRestLooks;
      doublings_ = 0;
    } else if (n >= worth_ << doublings_) {
      doublings_ = std::min(doublings_ + 1, most_doublings_);
    } else {
      doublings_ = std::max(doublings_ - 1, 0);
    }
  }

 private:
  uint64_t much_ = 0;      // Items.
  uint64_t line_ = 1;      // Items in kLineBytes, at least 1.
  uint64_t worth_ = 1;     // Items in an interval at kWorthBytesPerNs.
  uint32_t interval_ = 0;  // Pauses in kLookIntervalNs.
  int most_doublings_ = 0;
  int doublings_ = 0;  // Of the interval, now.
  int32_t row_ = 0;    // Looks in a row that found little; negative: at rest.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_PACING_H_
