// SPDX-License-Identifier: Apache-2.0
//
// How fast who sleeps is woken: a token goes to another thread and back, and each side
// sleeps in the kernel until it comes. The floor is a bare futex(2).

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "doppel/bench/support/support.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {
namespace {

SpscRing<uint64_t> MakeRing() {
  absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(1);
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  return *std::move(ring);
}

// A channel has Send() and Receive(), which sleeps until something was sent.
struct BareFutex {
  static constexpr char kName[] = "bare_futex";
  void Send() {
    word.store(1, std::memory_order_release);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
  void Receive() {
    while (word.load(std::memory_order_acquire) == 0) {
      syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
    }
    word.store(0, std::memory_order_relaxed);
  }
  std::atomic<uint32_t> word{0};
};

class RingSleep {
 public:
  static constexpr char kName[] = "doppel_ring";
  void Send() { writer_.try_push(1); }
  void Receive() {
    reader_.wait(1, {.spin = absl::ZeroDuration()});
    reader_.pop();
  }

 private:
  SpscRing<uint64_t> ring_ = MakeRing();
  SpscRing<uint64_t>::Writer writer_ = ring_.writer();
  SpscRing<uint64_t>::Reader reader_ = ring_.reader();
};

class RingEvent {
 public:
  static constexpr char kName[] = "doppel_event";
  void Send() { writer_.try_push(1); }
  void Receive() {
    pollfd polled = {.fd = *event_, .events = POLLIN, .revents = 0};
    while (reader_.arm() == RingWait::kArmed) poll(&polled, 1, -1);
    reader_.try_pop();
  }

 private:
  SpscRing<uint64_t> ring_ = MakeRing();
  SpscRing<uint64_t>::Writer writer_ = ring_.writer();
  SpscRing<uint64_t>::Reader reader_ = ring_.reader();
  absl::StatusOr<int> event_ = reader_.event();
};

class MpscSleep {
 public:
  static constexpr char kName[] = "doppel_mpsc";
  void Send() {
    const std::array<std::byte, 8> message = {};
    if (producer_.push(message) != RingRoom::kRoom) {
      throw std::runtime_error("full");
    }
  }
  void Receive() {
    consumer_.wait({.spin = absl::ZeroDuration()});
    consumer_.next();
    consumer_.release();
  }

 private:
  MpscRing ring_ = *MpscRing::Create(1);
  MpscRing::Producer producer_ = ring_.producer();
  MpscRing::Consumer consumer_ = ring_.consumer();
};

class BroadcastSleep {
 public:
  static constexpr char kName[] = "doppel_broadcast";
  void Send() { writer_.try_push(1); }
  void Receive() {
    reader_.wait(1, {.spin = absl::ZeroDuration()});
    reader_.try_pop();
  }

 private:
  using Ring = BroadcastRing<uint64_t>;
  Ring ring_ = *Ring::Create(1);
  Ring::Writer writer_ = ring_.writer();
  Ring::Reader reader_ = *ring_.reader();
};

class EventFd {
 public:
  static constexpr char kName[] = "eventfd";
  ~EventFd() { close(fd_); }
  void Send() {
    const uint64_t one = 1;
    if (write(fd_, &one, sizeof(one)) < 0) throw std::runtime_error("write");
  }
  void Receive() {
    uint64_t count = 0;
    if (read(fd_, &count, sizeof(count)) < 0) throw std::runtime_error("read");
  }

 private:
  int fd_ = eventfd(0, EFD_CLOEXEC);
};

class ConditionVariable {
 public:
  static constexpr char kName[] = "condition_variable";
  void Send() {
    {
      const std::lock_guard lock(mutex_);
      sent_ = true;
    }
    condition_.notify_one();
  }
  void Receive() {
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return std::exchange(sent_, false); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool sent_ = false;
};

constexpr int kTrips = 256;

template <class Channel>
void Wake(benchmark::State& state) {
  Channel there;
  Channel back;
  std::atomic<bool> stop{false};
  std::thread partner([&] {
    PinThread(1);
    for (;;) {
      there.Receive();
      if (stop.load(std::memory_order_relaxed)) return;
      back.Send();
    }
  });
  for (auto _ : state) {
    for (int i = 0; i < kTrips; ++i) {
      there.Send();
      back.Receive();
    }
  }
  stop.store(true, std::memory_order_relaxed);
  there.Send();
  partner.join();
  state.SetItemsProcessed(state.iterations() * kTrips);
}

template <class Channel>
void Register() {
  benchmark::RegisterBenchmark((std::string("wake/") + Channel::kName).c_str(),
                               Wake<Channel>)
      ->Arg(kTrips)
      ->UseRealTime();
}

const bool kRegistered = [] {
  Register<RingSleep>();
  Register<RingEvent>();
  Register<MpscSleep>();
  Register<BroadcastSleep>();
  Register<BareFutex>();
  Register<EventFd>();
  Register<ConditionVariable>();
  return true;
}();

}  // namespace
}  // namespace doppel::bench
