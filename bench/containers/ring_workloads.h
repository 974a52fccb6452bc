// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of rings share: how a load is sent and taken, and the load of
// messages.
//
//   benchmark's thread                        partner
//     send(writer, so far) ──── subject ────▶  take(reader, result)
//        an iteration's load                     until told to stop
//
// Invariants:
//   1. What the partner made of all that was sent is checked: a subject that loses or
//      changes something fails.
//
// Thread safety: as ring_harness.h says.
// Errors: a wrong result is an error of the benchmark (SkipWithError).
//
// Example:
//   Register("ring_messages", Pipe::kName, {1 << 20}, SendMessages<Pipe, 4096>);

#ifndef DOPPEL_BENCH_CONTAINERS_RING_WORKLOADS_H_
#define DOPPEL_BENCH_CONTAINERS_RING_WORKLOADS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_subjects.h"

namespace doppel::bench {

// How much an iteration sends: far more than the rings hold, and less where each
// message is a system call.
template <class Subject>
inline constexpr uint64_t kMessages =
    Subject::kBlocks ? uint64_t{1} << 14 : uint64_t{1} << 16;

// Takes with `take(total)`, which says how much it took, until told to stop.
template <class Subject, class Take>
void TakeAll(Partner& self, Take take) {
  uint64_t received = 0;
  do {
    while (const uint64_t n = take()) {
      received += n;
      // Who blocks cannot report when it finds nothing.
      if constexpr (Subject::kBlocks) self.Report(received);
    }
  } while (self.GoesOn(received));
}

// Runs `send(writer, so far)`, which sends an iteration's load and says how much it
// was, against a partner that takes by `take(reader, result)`. Returns what the
// partner made of it all.
template <class Subject, class Send, class Take>
uint64_t Transfer(benchmark::State& state, uint64_t& sent, Send send,
                  Take take) {
  Subject subject(static_cast<size_t>(state.range(0)));
  uint64_t result = 0;
  {
    Partner partner([&](Partner& self) {
      auto reader = subject.reader();
      uint64_t own_result = 0;  // Not shared while it changes.
      TakeAll<Subject>(self, [&] { return take(reader, own_result); });
      result = own_result;
    });
    // Ends before the partner: descriptors are closed, and it wakes.
    auto writer = subject.writer();
    for (auto _ : state) {
      sent += send(writer, sent);
      partner.WaitFor(sent);
    }
  }
  return result;
}

inline void Check(benchmark::State& state, bool right) {
  if (!right) state.SkipWithError("what arrived is not what was sent");
}

// Messages of 16 to `max_bytes`, all lengths alike, from random bytes.
class Messages {
 public:
  static constexpr size_t kCount = 4096;

  explicit Messages(size_t max_bytes) : source_(kSourceBytes) {
    std::mt19937_64 random(1);
    for (std::byte& byte : source_) byte = static_cast<std::byte>(random());
    std::uniform_int_distribution<size_t> lengths(16, max_bytes);
    for (std::span<const std::byte>& message : messages_) {
      const size_t bytes = lengths(random);
      message = std::span(source_).subspan(
          random() % (kSourceBytes - bytes) / 8 * 8, bytes);
      bytes_ += bytes;
      digest_ += Digest(message.data(), bytes);
    }
  }
  std::span<const std::byte> operator[](size_t i) const {
    return messages_[i % kCount];
  }
  // Of one round of all messages.
  uint64_t bytes() const { return bytes_; }
  uint64_t digest() const { return digest_; }

 private:
  static constexpr size_t kSourceBytes = 64 << 10;
  std::vector<std::byte> source_;
  std::array<std::span<const std::byte>, kCount> messages_;
  uint64_t bytes_ = 0;
  uint64_t digest_ = 0;
};

template <class Subject, size_t kMaxBytes>
void SendMessages(benchmark::State& state) {
  static const Messages& messages = *new Messages(kMaxBytes);
  constexpr uint64_t kRounds = kMessages<Subject> / Messages::kCount;
  static_assert(kRounds > 0);
  uint64_t sent_bytes = 0;
  const uint64_t digest = Transfer<Subject>(
      state, sent_bytes,
      [](auto& writer, uint64_t /*so_far*/) {
        for (uint64_t i = 0; i < kRounds * Messages::kCount; ++i) {
          while (!writer.Send(messages[i])) Pause();
        }
        return kRounds * messages.bytes();
      },
      [](auto& reader, uint64_t& digest_so_far) {
        return reader.Receive(digest_so_far);
      });
  const uint64_t rounds = sent_bytes / messages.bytes();
  Check(state, digest == rounds * messages.digest());
  state.SetBytesProcessed(static_cast<int64_t>(sent_bytes));
}

using Workload = void (*)(benchmark::State&);

inline void Register(const std::string& workload, const char* subject,
                     std::initializer_list<int64_t> ring_bytes, Workload run) {
  for (const int64_t bytes : ring_bytes) {
    benchmark::RegisterBenchmark((workload + "/" + subject).c_str(), run)
        ->Arg(bytes)
        ->UseRealTime();
  }
}

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_RING_WORKLOADS_H_
