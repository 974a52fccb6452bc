// SPDX-License-Identifier: Apache-2.0
//
// Two pinned threads for one benchmark: the benchmark's own, which produces, and the
// partner, which consumes.
//
//   benchmark's thread (processor 0)       partner (processor 1)
//     push ... push ─────────────────────▶  pop ... pop
//     WaitFor(sent)  ◀── Report(received) ──  when it finds nothing
//
// Invariants:
//   1. An iteration ends when the partner has taken all that was sent in it.
//   2. Waiting is one pause and another look, for every subject alike.
//   3. What the two share besides the subject stands on lines of its own, and is
//      written only when the partner has nothing to do.
//
// Thread safety: as the picture says.
// Errors: none.
//
// Example:
//   Partner partner([&](Partner& self) {
//     uint64_t received = 0;
//     do {
//       while (ring.Pop(item)) ++received;
//     } while (self.GoesOn(received));
//   });

#ifndef DOPPEL_BENCH_CONTAINERS_RING_HARNESS_H_
#define DOPPEL_BENCH_CONTAINERS_RING_HARNESS_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "doppel/bench/support/support.h"
#include "doppel/containers/internal/pause.h"

namespace doppel::bench {

using ::doppel::internal::Pause;

class Partner {
 public:
  // Runs body(*this) in a thread that is pinned to the second processor.
  template <class Body>
  explicit Partner(Body body)
      : thread_([this, body = std::move(body)]() mutable {
          PinThread(1);
          body(*this);
        }) {}
  ~Partner() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  Partner(const Partner&) = delete;
  Partner& operator=(const Partner&) = delete;

  // Partner's side: how much was taken in all.
  void Report(uint64_t received) {
    received_.store(received, std::memory_order_release);
  }

  // Partner's side, when it finds nothing: whether to look again.
  bool GoesOn(uint64_t received) {
    Report(received);
    Pause();
    return !stop_.load(std::memory_order_relaxed);
  }

  // Benchmark's side.
  void WaitFor(uint64_t sent) const {
    while (received_.load(std::memory_order_acquire) != sent) Pause();
  }

 private:
  alignas(128) std::atomic<uint64_t> received_{0};
  alignas(128) std::atomic<bool> stop_{false};
  alignas(128) std::thread thread_;  // Last: it uses the others.
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_RING_HARNESS_H_
