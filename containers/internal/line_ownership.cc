// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/line_ownership.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/remembered.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/prefetch.h"
#include "doppel/containers/internal/ring_place.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {
namespace {

// A block that is written by one thread, then read by the other, and so on.
struct Trial {
  static constexpr size_t kBlockBytes = 32 << 10;
  static constexpr int kRounds = 32;

  // Even: the writer's. Odd: the reader's.
  alignas(kRingLineBytes) std::atomic<int> turn{0};
  alignas(kRingLineBytes) std::atomic<bool> stop{false};
  alignas(4096) std::array<std::byte, kBlockBytes> block = {};
};

void ReadBlocks(Trial& trial, bool owns_lines) {
  while (!trial.stop.load(std::memory_order_relaxed)) {
    const int turn = trial.turn.load(std::memory_order_acquire);
    if (turn % 2 == 0) {
      Pause();
      continue;
    }
    const volatile std::byte* const block = trial.block.data();
    for (size_t at = 0; at < Trial::kBlockBytes; at += kCacheLineBytes) {
      (void)block[at];
    }
    if (owns_lines) TakeLines(trial.block.data(), Trial::kBlockBytes);
    trial.turn.store(turn + 1, std::memory_order_release);
  }
}

// Until the reader has done; false once `limit` has passed.
bool WriteBlock(Trial& trial, absl::Time limit) {
  const int turn = trial.turn.load(std::memory_order_relaxed);
  volatile std::byte* const block = trial.block.data();
  for (size_t at = 0; at < Trial::kBlockBytes; at += kCacheLineBytes) {
    block[at] = static_cast<std::byte>(turn);
  }
  trial.turn.store(turn + 1, std::memory_order_release);
  while (trial.turn.load(std::memory_order_acquire) != turn + 2) {
    if (absl::Now() > limit) return false;
    Pause();
  }
  return true;
}

// The median time of a round; ZeroDuration: undecided. Not the least: the lines keep for
// a while what the rounds before made of them.
absl::Duration TimeOf(Trial& trial, bool owns_lines, int processor,
                      absl::Time limit) {
  trial.stop.store(false, std::memory_order_relaxed);
  std::thread partner([&] { ReadBlocks(trial, owns_lines); });
  bool told =
      sys::KeepOn(partner.native_handle(),
                  sys::ProcessorSet().set(static_cast<size_t>(processor)));
  std::array<absl::Duration, Trial::kRounds> rounds;
  for (absl::Duration& round : rounds) {
    const absl::Time begin = absl::Now();
    told = told && WriteBlock(trial, limit);
    round = absl::Now() - begin;
  }
  trial.stop.store(true, std::memory_order_relaxed);
  // Back to where this thread may run: what it was sent to may never be free.
  sys::KeepOn(partner.native_handle(), sys::AllowedProcessors());
  partner.join();
  const auto median = rounds.begin() + Trial::kRounds / 2;
  std::nth_element(rounds.begin(), median, rounds.end());
  return told ? *median : absl::ZeroDuration();
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
    trial->turn.store(0, std::memory_order_relaxed);
    const absl::Duration without = TimeOf(*trial, false, other, limit);
    return absl::FDivDuration(without, with);  // 0 if the second was not told.
  } catch (const std::exception&) {
    return 0;  // No thread to be had, or no memory for one.
  }
}

bool OwnsLines(LineOwnership asked) {
  if (asked != LineOwnership::kAuto) return asked == LineOwnership::kOn;
  static constinit Remembered<double> measured;
  const double gain = measured.Get(MeasureOwnershipGain);
  return gain == 0 || gain >= kWorthwhileGain;
}

}  // namespace doppel::internal
