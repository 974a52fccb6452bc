// SPDX-License-Identifier: Apache-2.0
//
// doppel's ring beside a queue, a plain ring of indices and the kernel's channels:
// single items, batches, messages, a text, and the way there and back. The argument
// is the ring's size in bytes. The limits run along: the round trip of one bare cache
// line, the bare hand-over of lines from core to core, and memcpy.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/bench/support/support.h"

namespace doppel::bench {
namespace {

// How much an iteration sends: far more than the rings hold, and less where each
// item is a system call.
template <class Subject>
constexpr uint64_t kItems =
    Subject::kBlocks ? uint64_t{1} << 14 : uint64_t{1} << 22;
template <class Subject>
constexpr uint64_t kMessages =
    Subject::kBlocks ? uint64_t{1} << 14 : uint64_t{1} << 16;
constexpr uint64_t kRoundTrips = 1 << 12;
constexpr size_t kPieceBytes = 16 << 10;  // Of the text, sent at once.

// 0 + 1 + ... + (count - 1), modulo 2^64. REQUIRES: count is even.
uint64_t SumBelow(uint64_t count) { return count / 2 * (count - 1); }

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

void Check(benchmark::State& state, bool right) {
  if (!right) state.SkipWithError("what arrived is not what was sent");
}

template <class Subject>
void Items(benchmark::State& state) {
  uint64_t sent = 0;
  const uint64_t sum = Transfer<Subject>(
      state, sent,
      [](auto& writer, uint64_t first) {
        for (uint64_t i = 0; i < kItems<Subject>; ++i) {
          while (!writer.Push(first + i)) Pause();
        }
        return kItems<Subject>;
      },
      [](auto& reader, uint64_t& sum_so_far) {
        uint64_t item = 0;
        if (!reader.Pop(item)) return 0;
        sum_so_far += item;
        return 1;
      });
  Check(state, sum == SumBelow(sent));
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}

template <class Subject>
void Batches(benchmark::State& state) {
  uint64_t sent = 0;
  const uint64_t sum = Transfer<Subject>(
      state, sent,
      [](auto& writer, uint64_t first) {
        // A queue may take less than a batch, and then the next one starts there.
        uint64_t next = first;
        while (next - first < kItems<Subject>) {
          const size_t n = writer.Fill(next);
          next += n;
          if (n == 0) Pause();
        }
        // The sum is checked by an even count.
        while ((next - first) % 2 != 0) next += writer.Fill(next);
        return next - first;
      },
      [](auto& reader, uint64_t& sum_so_far) {
        return reader.Drain(sum_so_far);
      });
  Check(state, sum == SumBelow(sent));
  state.SetItemsProcessed(static_cast<int64_t>(sent));
}

// Messages of 16 to 4096 bytes, all lengths alike, from random bytes.
class Messages {
 public:
  static constexpr size_t kCount = 4096;

  Messages() : source_(kSourceBytes) {
    std::mt19937_64 random(1);
    for (std::byte& byte : source_) byte = static_cast<std::byte>(random());
    std::uniform_int_distribution<size_t> lengths(16, kMaxMessageBytes);
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

template <class Subject>
void SendMessages(benchmark::State& state) {
  static const Messages& messages = *new Messages();
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

// The text in pieces of kPieceBytes; the partner counts its lines.
template <class Subject>
void StreamText(benchmark::State& state) {
  const std::string& text = Corpus();
  if (text.empty()) {
    state.SkipWithError("no text: set DOPPEL_BENCH_TEXT");
    return;
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  uint64_t sent_bytes = 0;
  const uint64_t lines = Transfer<Subject>(
      state, sent_bytes,
      [bytes](auto& writer, uint64_t /*so_far*/) {
        for (size_t done = 0; done < bytes.size();) {
          const size_t n = writer.Stream(
              bytes.subspan(done, std::min(kPieceBytes, bytes.size() - done)));
          if (n == 0) Pause();
          done += n;
        }
        return uint64_t{bytes.size()};
      },
      [](auto& reader, uint64_t& lines_so_far) {
        return reader.Take([&lines_so_far](std::span<const std::byte> piece) {
          lines_so_far += static_cast<uint64_t>(
              std::count(piece.begin(), piece.end(), std::byte{'\n'}));
        });
      });
  static const auto expected =
      static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  Check(state, lines == sent_bytes / text.size() * expected);
  state.SetBytesProcessed(static_cast<int64_t>(sent_bytes));
}

// One item there by one ring, and back by another.
template <class Subject>
void RoundTrip(benchmark::State& state) {
  Subject there(static_cast<size_t>(state.range(0)));
  Subject back(static_cast<size_t>(state.range(0)));
  uint64_t trips = 0;
  bool right = true;
  {
    Partner partner([&](Partner& self) {
      auto reader = there.reader();
      auto writer = back.writer();
      uint64_t item = 0;
      do {
        while (reader.Pop(item)) writer.Push(item + 1);
      } while (self.GoesOn(0));
    });
    auto reader = back.reader();
    auto writer = there.writer();
    for (auto _ : state) {
      for (uint64_t i = 0; i < kRoundTrips; ++i) {
        uint64_t answer = 0;
        writer.Push(i);
        while (!reader.Pop(answer)) Pause();
        right &= answer == i + 1;
      }
      trips += kRoundTrips;
    }
  }
  Check(state, right);
  state.SetItemsProcessed(static_cast<int64_t>(trips));
}

// The limit of all round trips: one word, stored in turns.
void BareLineRoundTrip(benchmark::State& state) {
  alignas(128) std::atomic<uint64_t> word{0};
  uint64_t trips = 0;
  {
    Partner partner([&word](Partner& self) {
      uint64_t seen = 0;
      do {
        uint64_t now = word.load(std::memory_order_acquire);
        while (now != seen) {
          seen = now + 1;
          word.store(seen, std::memory_order_release);
          now = word.load(std::memory_order_acquire);
        }
      } while (self.GoesOn(0));
    });
    uint64_t turn = 0;
    for (auto _ : state) {
      for (uint64_t i = 0; i < kRoundTrips; ++i, turn += 2) {
        word.store(turn + 1, std::memory_order_release);
        while (word.load(std::memory_order_acquire) != turn + 2) Pause();
      }
      trips += kRoundTrips;
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(trips));
}

// The limit of all that passes lines to another core: blocks are written whole, a
// word of each line is read, and two counters are all that is shared besides.
void BareHandover(benchmark::State& state) {
  constexpr size_t kBlockBytes = 64 << 10;
  const uint64_t blocks = static_cast<uint64_t>(state.range(0)) / kBlockBytes;
  const std::vector<std::byte> from(kBlockBytes, std::byte{1});
  std::vector<std::byte> memory(blocks * kBlockBytes);
  alignas(128) std::atomic<uint64_t> written{0};
  alignas(128) std::atomic<uint64_t> read{0};
  const auto block = [&](uint64_t i) {
    return memory.data() + i % blocks * kBlockBytes;
  };
  uint64_t sent = 0;
  uint64_t digest = 0;
  {
    Partner partner([&](Partner& self) {
      uint64_t done = 0;
      uint64_t own_digest = 0;
      do {
        while (written.load(std::memory_order_acquire) != done) {
          own_digest += Digest(block(done), kBlockBytes);
          read.store(++done, std::memory_order_release);
        }
      } while (self.GoesOn(done));
      digest = own_digest;
    });
    for (auto _ : state) {
      for (const uint64_t end = sent + 16 * blocks; sent < end;) {
        while (sent == read.load(std::memory_order_acquire) + blocks) Pause();
        std::memcpy(block(sent), from.data(), kBlockBytes);
        written.store(++sent, std::memory_order_release);
      }
      partner.WaitFor(sent);
    }
  }
  Check(state, digest == sent * Digest(from.data(), kBlockBytes));
  state.SetBytesProcessed(static_cast<int64_t>(sent * kBlockBytes));
}

// The limit of all copying: one thread, source and target of half the size each.
void Memcpy(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0)) / 2;
  const std::vector<std::byte> from(bytes, std::byte{1});
  std::vector<std::byte> to(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes) * state.iterations());
}

using Workload = void (*)(benchmark::State&);

void Register(const std::string& workload, const char* subject,
              std::initializer_list<int64_t> ring_bytes, Workload run) {
  for (const int64_t bytes : ring_bytes) {
    benchmark::RegisterBenchmark((workload + "/" + subject).c_str(), run)
        ->Arg(bytes)
        ->UseRealTime();
  }
}

constexpr int64_t kKiB = 1 << 10;
constexpr int64_t kMiB = 1 << 20;

template <class Subject>
void RegisterItems(std::initializer_list<int64_t> ring_bytes) {
  Register("ring_items", Subject::kName, ring_bytes, Items<Subject>);
}

template <class Subject>
void RegisterBatches() {
  Register("ring_batches", Subject::kName, {512 * kKiB}, Batches<Subject>);
}

template <class Subject>
void RegisterBytes() {
  Register("ring_messages", Subject::kName, {kMiB}, SendMessages<Subject>);
  Register("ring_text", Subject::kName, {kMiB}, StreamText<Subject>);
}

template <class Subject>
void RegisterRoundTrip() {
  Register("round_trip", Subject::kName, {4 * kKiB}, RoundTrip<Subject>);
}

const bool kRegistered = [] {
  const std::initializer_list<int64_t> sizes = {8 * kKiB, 64 * kKiB, 512 * kKiB,
                                                4 * kMiB};
  RegisterItems<DoppelItems>(sizes);
  RegisterItems<BoostItems>(sizes);
  RegisterItems<IndexItems>(sizes);
  RegisterItems<Pipe>({64 * kKiB});
  RegisterItems<SocketPair>({64 * kKiB});

  RegisterBatches<DoppelItems>();
  RegisterBatches<DoppelItemsCopied>();
  RegisterBatches<BoostItems>();
  RegisterBatches<IndexItems>();
  RegisterBatches<Pipe>();
  RegisterBatches<SocketPair>();

  RegisterBytes<DoppelBytes>();
  RegisterBytes<BoostBytes>();
  RegisterBytes<IndexBytes>();
  RegisterBytes<Pipe>();
  RegisterBytes<SocketPair>();
  Register("ring_messages", "limit_handover", {kMiB}, BareHandover);
  Register("ring_messages", "limit_memcpy", {kMiB}, Memcpy);

  RegisterRoundTrip<DoppelItems>();
  RegisterRoundTrip<BoostItems>();
  RegisterRoundTrip<IndexItems>();
  RegisterRoundTrip<Pipe>();
  RegisterRoundTrip<SocketPair>();
  Register("round_trip", "bare_line", {4 * kKiB}, BareLineRoundTrip);
  return true;
}();

}  // namespace
}  // namespace doppel::bench
