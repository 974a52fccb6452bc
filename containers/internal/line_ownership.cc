// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/line_ownership.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/cache_size.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel::internal {
namespace {

// A ring whose pieces fit its lap, so that its memory needs no mirror.
struct Trial {
  static constexpr uint64_t kLapBytes = 64 << 10;
  static constexpr uint64_t kPieceBytes = 4 << 10;
  static constexpr uint64_t kPieces = 64;
  static constexpr int kRuns = 24;

  RingSide<> writer;
  RingSide<> reader;
  RingWatch<> writer_watch = RingWatch<>::Writer(&writer, &reader, kLapBytes);
  RingWatch<> reader_watch = RingWatch<>::Reader(&reader, &writer, kLapBytes);
  RingSeat writer_seat{.watch = &writer_watch, .other = &reader_seat};
  RingSeat reader_seat{.watch = &reader_watch, .other = &writer_seat};
  std::atomic<bool> stop{false};
  alignas(4096) std::byte data[kLapBytes] = {};

  RingEnd End(RingSeat* seat, bool owns_lines) {
    return {.seat = seat,
            .data = data,
            .lap_bytes = kLapBytes,
            .item_bytes = 1,
            .owns_lines = owns_lines};
  }
};

void TakePieces(Trial& trial, bool owns_lines) {
  RingReader<> reader(trial.End(&trial.reader_seat, owns_lines));
  uint64_t sum = 0;
  while (!trial.stop.load(std::memory_order_relaxed)) {
    if (reader.known(Trial::kPieceBytes) < Trial::kPieceBytes) {
      Pause();
      continue;
    }
    // No piece reaches over the end. All that is there might: not peek.
    const std::span<const std::byte> piece =
        reader.peek_at(0, Trial::kPieceBytes);
    for (uint64_t at = 0; at < piece.size(); at += kCacheLineBytes) {
      sum += static_cast<uint64_t>(piece[at]);
    }
    reader.consume(piece.size());
  }
  // The loads must not be left out.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  trial.data[0] = static_cast<std::byte>(sum);
}

// Nothing once `limit` has passed.
absl::Duration PassPieces(Trial& trial, absl::Time limit) {
  RingWriter<> writer(trial.End(&trial.writer_seat, false));
  const absl::Time begin = absl::Now();
  if (begin > limit) return absl::ZeroDuration();
  for (uint64_t i = 0; i < Trial::kPieces;) {
    const std::span<std::byte> piece = writer.reserve(Trial::kPieceBytes);
    if (piece.empty()) {
      if (absl::Now() > limit) return absl::ZeroDuration();
      continue;
    }
    std::memset(piece.data(), static_cast<int>(i), piece.size());
    writer.commit(piece.size());
    ++i;
  }
  return absl::Now() - begin;
}

// The median time of some runs; ZeroDuration: undecided. Not the least: the lines keep
// for a while what the runs before made of them.
absl::Duration TimeOf(Trial& trial, bool owns_lines, int processor,
                      absl::Time limit) {
  trial.stop.store(false, std::memory_order_relaxed);
  std::thread partner([&] { TakePieces(trial, owns_lines); });
  const bool apart =
      sys::KeepOn(partner.native_handle(),
                  sys::ProcessorSet().set(static_cast<size_t>(processor)));
  std::array<absl::Duration, Trial::kRuns> runs;
  for (absl::Duration& run : runs) {
    run = apart ? PassPieces(trial, limit) : absl::ZeroDuration();
  }
  trial.stop.store(true, std::memory_order_relaxed);
  // Back to where this thread may run: what it was sent to may never be free.
  sys::KeepOn(partner.native_handle(), sys::AllowedProcessors());
  partner.join();
  const auto median = runs.begin() + Trial::kRuns / 2;
  std::nth_element(runs.begin(), median, runs.end());
  return *median;
}

// Before main: whoever pins a thread does so later.
// NOLINTNEXTLINE(cert-err58-cpp): throws nothing.
const sys::ProcessorSet g_processors_at_start = sys::AllowedProcessors();

}  // namespace

int OtherProcessor() {
  const int here = sys::CurrentProcessor();
  if (here < 0) return -1;
  const std::string core = sys::ThreadsOfCore(here);
  int other = -1;
  for (int i = 0; i < static_cast<int>(g_processors_at_start.size()); ++i) {
    if (!g_processors_at_start[static_cast<size_t>(i)] || i == here) continue;
    other = i;
    if (sys::ThreadsOfCore(i) != core) break;
  }
  return other;
}

double MeasureOwnershipGain() {
  const absl::Time limit = absl::Now() + kCalibrationLimit;
  try {
    const int other = OtherProcessor();
    if (other < 0) return 0;
    const auto trial = std::make_unique<Trial>();
    const absl::Duration with = TimeOf(*trial, true, other, limit);
    if (with == absl::ZeroDuration()) return 0;
    const absl::Duration without = TimeOf(*trial, false, other, limit);
    return absl::FDivDuration(without, with);  // 0 if the second was not told.
  } catch (const std::exception&) {
    return 0;  // No thread to be had, or no memory for one.
  }
}

bool OwnsLines(LineOwnership asked, uint64_t footprint_bytes) {
  if (asked != LineOwnership::kAuto) return asked == LineOwnership::kOn;
  if (footprint_bytes > CacheBytes()) return false;
  static const double gain = MeasureOwnershipGain();
  return gain == 0 || gain >= kWorthwhileGain;
}

}  // namespace doppel::internal
