// SPDX-License-Identifier: Apache-2.0
//
// An epoll loop that serves a ring and a timer alike: it takes what the ring has, asks
// to be told of more, and sleeps until something happens.

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <optional>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/spsc_ring.h"

namespace {

constexpr int kSamples = 1000;

void Produce(doppel::SpscRing<int>::Writer writer) {
  for (int i = 0; i < kSamples; ++i) {
    while (!writer.try_push(i)) {
      if (writer.wait() != doppel::RingWait::kReady) return;  // It has closed.
    }
    if (i % 100 == 0) absl::SleepFor(absl::Milliseconds(2));
  }
  writer.close();
}

bool Watch(int epoll, int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

int main() {
  absl::StatusOr<doppel::SpscRing<int>> ring =
      doppel::SpscRing<int>::Create(256);
  if (!ring.ok()) {
    std::fprintf(stderr, "%s\n", ring.status().ToString().c_str());
    return 1;
  }
  auto reader = ring->reader();
  const absl::StatusOr<int> event = reader.event();
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const itimerspec every_5_ms = {{0, 5'000'000}, {0, 5'000'000}};
  if (!event.ok() || timerfd_settime(timer, 0, &every_5_ms, nullptr) != 0 ||
      !Watch(epoll, *event) || !Watch(epoll, timer)) {
    std::fprintf(stderr, "no event, timer or epoll\n");
    return 1;
  }
  std::thread producer(Produce, ring->writer());

  int samples = 0;
  int wakes = 0;
  uint64_t ticks = 0;
  for (;;) {
    while (reader.try_pop().has_value()) ++samples;
    // Armed: the event will tell of more. Anything else is to be dealt with now.
    const doppel::RingWait armed = reader.arm();
    if (armed == doppel::RingWait::kReady) continue;
    if (armed == doppel::RingWait::kClosed) break;
    epoll_event ready = {};
    if (epoll_wait(epoll, &ready, 1, /*timeout=*/-1) != 1) continue;
    ++wakes;
    uint64_t expired = 0;
    if (ready.data.fd == timer &&
        read(timer, &expired, sizeof(expired)) == sizeof(expired)) {
      ticks += expired;
    }
  }
  producer.join();
  close(epoll);
  close(timer);
  std::printf("%d samples, %d wakes, %llu ticks of the timer\n", samples, wakes,
              static_cast<unsigned long long>(ticks));
}
