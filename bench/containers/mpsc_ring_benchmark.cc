// SPDX-License-Identifier: Apache-2.0
//
// doppel's ring of many producers beside boost's queue, moodycamel's and queues under a
// mutex: items of 8 bytes and messages of 16 to 512, from one producer and from two. The
// argument is the ring's size in bytes.
//
// On a machine of two processors the second producer shares the first one's: what is
// measured then is what producers cost that take turns on one core, not what they cost
// when they claim at the same moment. Who finds the ring full gives the core up.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/moodycamel_subjects.h"
#include "doppel/bench/containers/mpsc_subjects.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/bench/support/support.h"

namespace doppel::bench {
namespace {

constexpr uint64_t kItems = 1 << 17;  // That each producer sends an iteration.
constexpr uint64_t kMessages = 1 << 15;  // The same.

// A producer besides the benchmark's own thread: sends a load each time it is told.
class Helper {
 public:
  template <class Body>
  explicit Helper(Body body)
      : thread_([this, body = std::move(body)]() mutable {
          PinThread(2);
          body(*this);
        }) {}
  ~Helper() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  // Benchmark's side. Whoever waits gives the core up: the helper may need it.
  void Start() { round_.fetch_add(1, std::memory_order_release); }
  void WaitForEnd() const {
    while (done_.load(std::memory_order_acquire) !=
           round_.load(std::memory_order_relaxed)) {
      std::this_thread::yield();
    }
  }

  // Helper's side: waits for the next round; false at the end.
  bool NextRound() {
    done_.store(own_done_, std::memory_order_release);
    while (round_.load(std::memory_order_acquire) == own_done_) {
      if (stop_.load(std::memory_order_relaxed)) return false;
      std::this_thread::yield();
    }
    ++own_done_;
    return true;
  }

 private:
  alignas(128) std::atomic<uint64_t> round_{0};
  alignas(128) std::atomic<uint64_t> done_{0};
  uint64_t own_done_ = 0;  // The helper's.
  alignas(128) std::atomic<bool> stop_{false};
  alignas(128) std::thread thread_;  // Last: it uses the others.
};

// Each of `producers` threads (1 or 2) runs `send(producer, wait)`, an iteration's load
// of `load` things, against a partner that takes by `take(consumer, result)`. Returns
// what the partner made of it all.
template <class Subject, class Send, class Take>
uint64_t Gather(benchmark::State& state, int producers, uint64_t load,
                Send send, Take take) {
  Subject subject(static_cast<size_t>(state.range(0)));
  uint64_t result = 0;
  {
    Partner partner([&](Partner& self) {
      auto made = subject.consumer();
      auto consumer = std::move(made);  // ring_writer.h says why.
      uint64_t received = 0;
      uint64_t own_result = 0;  // Not shared while it changes.
      do {
        while (const uint64_t n = take(consumer, own_result)) received += n;
      } while (self.GoesOn(received));
      result = own_result;
    });
    std::optional<Helper> helper;
    if (producers == 2) {
      helper.emplace([&](Helper& self) {
        auto made = subject.producer();
        auto producer = std::move(made);
        while (self.NextRound()) {
          send(producer, [] { std::this_thread::yield(); });
        }
      });
    }
    auto made = subject.producer();
    auto producer = std::move(made);
    uint64_t sent = 0;
    for (auto _ : state) {
      if (helper) {
        helper->Start();
        send(producer, [] { std::this_thread::yield(); });
        helper->WaitForEnd();
      } else {
        send(producer, [] { Pause(); });
      }
      sent += load * static_cast<uint64_t>(producers);
      partner.WaitFor(sent);
    }
  }
  return result;
}

void Check(benchmark::State& state, bool right) {
  if (!right) state.SkipWithError("what arrived is not what was sent");
}

template <class Subject, int kProducers>
void Items(benchmark::State& state) {
  const uint64_t sum = Gather<Subject>(
      state, kProducers, kItems,
      [](auto& producer, auto wait) {
        for (uint64_t i = 0; i < kItems; ++i) {
          while (!producer.Push(i)) wait();
        }
      },
      [](auto& consumer, uint64_t& sum_so_far) {
        return consumer.PopSome(sum_so_far);
      });
  const uint64_t loads = static_cast<uint64_t>(state.iterations()) * kProducers;
  Check(state, sum == loads * (kItems / 2 * (kItems - 1)));
  state.SetItemsProcessed(static_cast<int64_t>(loads * kItems));
}

// Messages of 16 to 512 bytes, all lengths alike, from random bytes.
class Messages {
 public:
  Messages() : source_(kSourceBytes) {
    std::mt19937_64 random(1);
    for (std::byte& byte : source_) byte = static_cast<std::byte>(random());
    std::uniform_int_distribution<size_t> lengths(16, kMaxMpscMessageBytes);
    for (std::span<const std::byte>& message : messages_) {
      const size_t bytes = lengths(random);
      message = std::span(source_).subspan(
          random() % (kSourceBytes - bytes) / 8 * 8, bytes);
      bytes_ += bytes;
      digest_ += Digest(message.data(), bytes);
    }
  }
  static constexpr size_t kCount = 4096;
  const auto& all() const { return messages_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t digest() const { return digest_; }

 private:
  static constexpr size_t kSourceBytes = 16 << 10;
  std::vector<std::byte> source_;
  std::array<std::span<const std::byte>, kCount> messages_;
  uint64_t bytes_ = 0;
  uint64_t digest_ = 0;
};

template <class Subject, int kProducers>
void SendMessages(benchmark::State& state) {
  static const Messages& messages = *new Messages();
  constexpr uint64_t kRounds = kMessages / Messages::kCount;
  const uint64_t digest = Gather<Subject>(
      state, kProducers, kMessages,
      [](auto& producer, auto wait) {
        for (uint64_t round = 0; round < kRounds; ++round) {
          for (const std::span<const std::byte> message : messages.all()) {
            while (!producer.Send(message)) wait();
          }
        }
      },
      [](auto& consumer, uint64_t& digest_so_far) {
        return consumer.TakeSome(digest_so_far);
      });
  const uint64_t rounds =
      static_cast<uint64_t>(state.iterations()) * kProducers * kRounds;
  Check(state, digest == rounds * messages.digest());
  state.SetBytesProcessed(static_cast<int64_t>(rounds * messages.bytes()));
}

using Workload = void (*)(benchmark::State&);

void Register(const std::string& workload, const char* subject,
              int64_t ring_bytes, Workload run) {
  benchmark::RegisterBenchmark((workload + "/" + subject).c_str(), run)
      ->Arg(ring_bytes)
      ->UseRealTime();
}

constexpr int64_t kItemsRingBytes = 64 << 10;
constexpr int64_t kMessagesRingBytes = 1 << 20;

// The subject for one producer and that for two may differ by their bounds.
template <class From1, class From2 = From1>
void RegisterItems() {
  Register("ring_mpsc_items_from_1", From1::kName, kItemsRingBytes,
           Items<From1, 1>);
  Register("ring_mpsc_items_from_2", From2::kName, kItemsRingBytes,
           Items<From2, 2>);
}

template <class From1, class From2 = From1>
void RegisterMessages() {
  Register("ring_mpsc_messages_from_1", From1::kName, kMessagesRingBytes,
           SendMessages<From1, 1>);
  Register("ring_mpsc_messages_from_2", From2::kName, kMessagesRingBytes,
           SendMessages<From2, 2>);
}

const bool kRegistered = [] {
  RegisterItems<DoppelMpsc>();
  RegisterItems<BoostQueue>();
  RegisterItems<MoodycamelMpsc<kItemsRingBytes, 1>,
                MoodycamelMpsc<kItemsRingBytes, 2>>();
  RegisterItems<MutexDeque>();
  RegisterItems<MutexVector>();
  RegisterMessages<DoppelMpsc>();
  RegisterMessages<MoodycamelVectors<kMessagesRingBytes, 1>,
                   MoodycamelVectors<kMessagesRingBytes, 2>>();
  RegisterMessages<MoodycamelBlocks<kMessagesRingBytes, 1>,
                   MoodycamelBlocks<kMessagesRingBytes, 2>>();
  RegisterMessages<MutexVector>();
  return true;
}();

}  // namespace
}  // namespace doppel::bench
