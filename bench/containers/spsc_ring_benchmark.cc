// SPDX-License-Identifier: Apache-2.0
//
// doppel's ring beside queues, a plain ring of indices and the kernel's channels:
// single items, batches, a text, and the way there and back. The argument is the ring's
// size in bytes. The limits of the last run along: bare lines of the
// cache. Messages are message_benchmark.cc's.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/bench/containers/ring_subjects.h"
#include "doppel/bench/containers/ring_workloads.h"
#include "doppel/bench/support/support.h"

namespace doppel::bench {
namespace {

// How much an iteration sends: far more than the rings hold, and less where each
// item is a system call.
template <class Subject>
constexpr uint64_t kItems =
    Subject::kBlocks ? uint64_t{1} << 14 : uint64_t{1} << 22;
constexpr uint64_t kRoundTrips = 1 << 12;
constexpr size_t kPieceBytes = 16 << 10;  // Of the text, sent at once.

// 0 + 1 + ... + (count - 1), modulo 2^64. REQUIRES: count is even.
uint64_t SumBelow(uint64_t count) { return count / 2 * (count - 1); }

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

// The limits of all round trips: a number goes there and comes back, higher by one. On
// one line, which both sides store to in turns; or on two, each of which only one side
// stores to, as the positions of any pair of rings are.
template <bool kOneLine>
void BareRoundTrip(benchmark::State& state) {
  alignas(128) std::atomic<uint64_t> first{0};
  alignas(128) std::atomic<uint64_t> second{0};
  std::atomic<uint64_t>& there = first;
  std::atomic<uint64_t>& back = kOneLine ? first : second;
  uint64_t trips = 0;
  {
    Partner partner([&](Partner& self) {
      uint64_t answered = 0;
      do {
        uint64_t asked = there.load(std::memory_order_acquire);
        while (asked != answered) {
          answered = kOneLine ? asked + 1 : asked;
          back.store(asked + 1, std::memory_order_release);
          asked = there.load(std::memory_order_acquire);
        }
      } while (self.GoesOn(0));
    });
    uint64_t turn = 0;
    for (auto _ : state) {
      for (uint64_t i = 0; i < kRoundTrips; ++i, turn += 2) {
        there.store(turn + 1, std::memory_order_release);
        while (back.load(std::memory_order_acquire) != turn + 2) Pause();
      }
      trips += kRoundTrips;
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(trips));
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
  Register("ring_text", Subject::kName, {kMiB}, StreamText<Subject>);
}

template <class Subject>
void RegisterRoundTrip() {
  Register("round_trip", Subject::kName, {4 * kKiB}, RoundTrip<Subject>);
}

const bool kRegistered = [] {
  const std::initializer_list<int64_t> sizes = {8 * kKiB, 64 * kKiB, 512 * kKiB,
                                                4 * kMiB, 64 * kMiB};
  RegisterItems<DoppelItems>(sizes);
  RegisterItems<BoostItems>(sizes);
  RegisterItems<MoodycamelItems>(sizes);
  RegisterItems<MoodycamelCircularItems>({64 * kKiB});
  RegisterItems<IndexItems>(sizes);
  RegisterItems<Pipe>({64 * kKiB});
  RegisterItems<SocketPair>({64 * kKiB});

  RegisterBatches<DoppelItems>();
  RegisterBatches<DoppelItemsCopied>();
  RegisterBatches<BoostItems>();
  RegisterBatches<MoodycamelItems>();
  RegisterBatches<IndexItems>();
  RegisterBatches<Pipe>();
  RegisterBatches<SocketPair>();

  RegisterBytes<DoppelBytes>();
  RegisterBytes<BoostBytes>();
  RegisterBytes<IndexBytes>();
  RegisterBytes<Pipe>();
  RegisterBytes<SocketPair>();

  RegisterRoundTrip<DoppelItems>();
  RegisterRoundTrip<BoostItems>();
  RegisterRoundTrip<MoodycamelItems>();
  RegisterRoundTrip<MoodycamelCircularItems>();
  RegisterRoundTrip<IndexItems>();
  RegisterRoundTrip<Pipe>();
  RegisterRoundTrip<SocketPair>();
  Register("round_trip", "bare_line", {4 * kKiB}, BareRoundTrip<true>);
  Register("round_trip", "bare_two_lines", {4 * kKiB}, BareRoundTrip<false>);
  return true;
}();

}  // namespace
}  // namespace doppel::bench
