// SPDX-License-Identifier: Apache-2.0
//
// doppel's ring of many readers beside a queue for each of them, filled in turn:
// boost's, moodycamel's, and a std::deque under a mutex. Items of 8 bytes, one by one
// and in batches of 64, to one consumer and to two. The argument is the ring's size in
// bytes; of the others that of each queue.
//
// An item counts once, however many consumers get it. On a machine of two processors
// two consumers share one of them (broadcast_workloads.h).

#include "benchmark/benchmark.h"
#include "doppel/bench/containers/broadcast_subjects.h"
#include "doppel/bench/containers/broadcast_workloads.h"

namespace doppel::bench {
namespace {

constexpr int64_t kRingBytes = 64 << 10;

const bool kRegistered = [] {
  RegisterSpread<DoppelBroadcast>("ring_broadcast", kRingBytes);
  RegisterSpread<BoostEach>("ring_broadcast", kRingBytes);
  RegisterSpread<MoodycamelEach>("ring_broadcast", kRingBytes);
  RegisterSpread<MutexEach<false>>("ring_broadcast", kRingBytes);
  return true;
}();

}  // namespace
}  // namespace doppel::bench
