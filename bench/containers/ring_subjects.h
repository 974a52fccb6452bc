// SPDX-License-Identifier: Apache-2.0
//
// The rings and channels that are compared, each behind the same few functions.
//
//   subject(bytes) ─┬─ writer() ─ Push, Fill, Send, Stream    (benchmark's thread)
//                   └─ reader() ─ Pop, Drain, Receive, Take   (partner)
//
//   Push / Pop          one item of 8 bytes
//   Fill / Drain        up to kBatch items of 8 bytes: produced and summed
//   Send / Receive      one message with its length before it
//   Stream / Take       some of a stream of bytes
//
// Invariants:
//   1. Each subject is used as its documentation shows it at its best: a ring with
//      spans is written and read in place, others through the copies they ask for.
//   2. Push and Pop are no calls, for any subject: what is compared is the rings.
//   3. Functions return 0 or false for "not now"; they never wait, but for those of
//      descriptors, which block (kBlocks).
//
// Thread safety: one thread a side.
// Errors: a subject that cannot be made throws std::runtime_error.
//
// Example:
//   DoppelItems ring(4096);
//   auto writer = ring.writer();
//   while (!writer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_

#include "doppel/bench/containers/channel_subjects.h"  // IWYU pragma: export
#include "doppel/bench/containers/doppel_subjects.h"   // IWYU pragma: export
#include "doppel/bench/containers/queue_subjects.h"    // IWYU pragma: export

#endif  // DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_
