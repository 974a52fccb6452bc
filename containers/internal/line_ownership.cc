// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/line_ownership.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel::internal {
namespace {

// What /sys says, as "2048K"; 0 if it says nothing.
uint64_t CacheBytesOfSys() {
  const absl::StatusOr<std::string> size =
      sys::ReadFile("/sys/devices/system/cpu/cpu0/cache/index2/size");
  if (!size.ok()) return 0;
  absl::string_view digits = absl::StripSuffix(*size, "\n");
  const bool kibibytes = absl::ConsumeSuffix(&digits, "K");
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number)) return 0;
  return kibibytes ? number << 10 : number;
}

// A ring whose pieces fit its lap, so that its memory needs no mirror.
struct Trial {
  static constexpr uint64_t kLapBytes = 64 << 10;
  static constexpr uint64_t kPieceBytes = 4 << 10;
  static constexpr uint64_t kPieces = 64;

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

// The time of the faster of a few runs; ZeroDuration: undecided.
absl::Duration TimeOf(Trial& trial, bool owns_lines, absl::Time limit) {
  trial.stop.store(false, std::memory_order_relaxed);
  std::thread partner([&] { TakePieces(trial, owns_lines); });
  absl::Duration least = absl::InfiniteDuration();
  // The first run waits for the thread to begin.
  for (int run = 0; run < 4 && least != absl::ZeroDuration(); ++run) {
    least = std::min(least, PassPieces(trial, limit));
  }
  trial.stop.store(true, std::memory_order_relaxed);
  partner.join();
  return least;
}

}  // namespace

uint64_t CacheBytes() {
  static const uint64_t bytes = [] {
    const uint64_t of_libc = sys::Level2CacheBytes();
    if (of_libc > 0) return of_libc;
    const uint64_t of_sys = CacheBytesOfSys();
    return of_sys > 0 ? of_sys : kUnknownCacheBytes;
  }();
  return bytes;
}

double MeasureOwnershipGain() {
  if (std::thread::hardware_concurrency() < 2) return 0;
  const absl::Time limit = absl::Now() + kCalibrationLimit;
  const std::unique_ptr<Trial> trial(new (std::nothrow) Trial);
  if (trial == nullptr) return 0;
  try {
    const absl::Duration with = TimeOf(*trial, true, limit);
    const absl::Duration without = TimeOf(*trial, false, limit);
    if (with == absl::ZeroDuration() || without == absl::ZeroDuration()) {
      return 0;
    }
    return absl::FDivDuration(without, with);
  } catch (const std::system_error&) {
    return 0;  // No thread to be had.
  }
}

bool OwnsLines(LineOwnership asked, uint64_t footprint_bytes) {
  if (asked != LineOwnership::kAuto) return asked == LineOwnership::kOn;
  if (footprint_bytes > CacheBytes()) return false;
  static const bool pays = MeasureOwnershipGain() >= kWorthwhileGain;
  return pays;
}

}  // namespace doppel::internal
