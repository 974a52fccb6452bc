// SPDX-License-Identifier: Apache-2.0
//
// doppel's ring that overwrites its oldest beside boost's circular buffer under a
// mutex, one for each consumer. Items of 8 bytes, one by one and in batches of 64, to
// one consumer and to two. The argument is the ring's size in bytes; of the others that
// of each buffer.
//
// Throughput is the producer's, until the last consumer has got or lost the last item;
// the counter says what part of all was lost. On a machine of two processors two
// consumers share one of them (broadcast_workloads.h).

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/broadcast_subjects.h"
#include "doppel/bench/containers/broadcast_workloads.h"

namespace doppel::bench {
namespace {

constexpr int64_t kRingBytes = 64 << 10;

const bool kRegistered = [] {
  RegisterSpread<DoppelOverwriting>("ring_overwriting", kRingBytes);
  RegisterSpread<MutexEach<true>>("ring_overwriting", kRingBytes);
  return true;
}();

}  // namespace
}  // namespace doppel::bench
