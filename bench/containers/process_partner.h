// SPDX-License-Identifier: Apache-2.0
//
// Partner (ring_harness.h) as a process of its own: the same two words, in memory that
// both processes map.
//
//   benchmark's process (processor 0)      child (processor 1)
//     push ... push ───────────────────────▶ pop ... pop
//     WaitFor(sent)  ◀── Report(received) ──  when it finds nothing
//
// Invariants:
//   1. As Partner's; the child ends with this object, whatever it does.
//
// Thread safety: as the picture says.
// Errors: without memory or a process, std::runtime_error.
//
// Example:
//   ProcessPartner partner([&](ProcessPartner::Side& self) { ... self.GoesOn(n); });

#ifndef DOPPEL_BENCH_CONTAINERS_PROCESS_PARTNER_H_
#define DOPPEL_BENCH_CONTAINERS_PROCESS_PARTNER_H_

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <new>
#include <stdexcept>

#include "absl/base/attributes.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/support/support.h"

namespace doppel::bench {

class ProcessPartner {
 public:
  // What both processes have.
  class Side {
   public:
    void Report(uint64_t received) {
      received_.store(received, std::memory_order_release);
    }
    bool GoesOn(uint64_t received) {
      Report(received);
      Pause();
      return !stop_.load(std::memory_order_relaxed);
    }

   private:
    friend class ProcessPartner;
    alignas(128) std::atomic<uint64_t> received_{0};
    alignas(128) std::atomic<bool> stop_{false};
  };

  // Runs body(side) in a child that is pinned to the second processor.
  template <class Body>
  explicit ProcessPartner(Body body) {
    void* memory = mmap(nullptr, sizeof(Side), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap");
    side_ = new (memory) Side;
    child_ = fork();
    if (child_ < 0) throw std::runtime_error("fork");
    if (child_ == 0) {
      PinThread(1);
      Run(body, *side_);
      _exit(0);
    }
  }
  ~ProcessPartner() {
    side_->stop_.store(true, std::memory_order_relaxed);
    waitpid(child_, nullptr, 0);
    munmap(side_, sizeof(Side));
  }
  ProcessPartner(const ProcessPartner&) = delete;
  ProcessPartner& operator=(const ProcessPartner&) = delete;

  void WaitFor(uint64_t sent) const {
    while (side_->received_.load(std::memory_order_acquire) != sent) Pause();
  }

 private:
  // A function of its own, as a thread's is: its loop has all registers.
  template <class Body>
  ABSL_ATTRIBUTE_NOINLINE static void Run(Body& body, Side& side) {
    body(side);
  }

  Side* side_;
  pid_t child_;
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_PROCESS_PARTNER_H_
