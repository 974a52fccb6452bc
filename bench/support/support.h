// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks share: pinned threads, real text, the peak of memory.
//
// Invariants:
//   1. The real input is the file that DOPPEL_BENCH_TEXT names; without it a
//      benchmark skips with that as its reason.
//
// Thread safety: all functions.
// Errors: what cannot be had is false, empty or 0.
//
// Example:
//   PinThread(0);
//   for (std::string_view word : Words(Corpus())) ++counts[word];

#ifndef DOPPEL_BENCH_SUPPORT_SUPPORT_H_
#define DOPPEL_BENCH_SUPPORT_SUPPORT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace doppel::bench {
namespace internal {

// A delimiter of absl::StrSplit: every run of what is no letter.
struct NonLetters {
  absl::string_view Find(absl::string_view text, size_t from) const {
    while (from < text.size() && absl::ascii_isalpha(text[from])) ++from;
    size_t end = from;
    while (end < text.size() && !absl::ascii_isalpha(text[end])) ++end;
    return text.substr(from, end - from);
  }
};

}  // namespace internal

// Binds the calling thread to the n-th processor that the process may use, modulo
// their number (sched_setaffinity(2)).
bool PinThread(int nth);

// The text of DOPPEL_BENCH_TEXT, read once; empty without it.
const std::string& Corpus();

// The runs of letters, in order: a range of views, found as it is walked. It makes
// no allocation, so the walk can be a part of what is measured.
inline auto Words(absl::string_view text) {
  return absl::StrSplit(text, internal::NonLetters(), absl::SkipEmpty());
}

// Touches and frees `bytes` of memory. A hypervisor takes free memory from its guest
// (free page reporting) and gives it again at the first touch, at a cost that falls
// on whoever comes first after a pause: warming makes it nobody's.
void WarmHostMemory(size_t bytes);

// Forgets the process's peak of resident memory (proc(5), clear_refs) and returns
// what is resident now; PeakBytes is the peak since then (VmHWM).
uint64_t ResetPeakBytes();
uint64_t PeakBytes();

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_SUPPORT_SUPPORT_H_
