// SPDX-License-Identifier: Apache-2.0
//
// Pages of an arena in which another process goes on with a ring that has ended here.
// They are given back to the arena once no process has a side.
//
//   ring ends ── has another process a side? ── no ──▶ the arena
//                             │ yes                       ▲
//                             ▼                           │ nobody has a side any more
//                         orphans ── looked at when a ring of an arena is made or ends
//
// Invariants:
//   1. What an orphan holds is handed out to nobody while a process has a side; and
//      before it is, the ring's number becomes 0, so that nobody takes a side any more.
//   2. A child of fork(2) gives back nothing: the pages are its parent's arena's.
//   3. Nothing here takes memory but for the orphan itself, and nobody waits.
//
// Thread safety: all functions.
// Errors: none. Without memory for an orphan its pages are lost to the arena.
//
// Example:
//   const absl::StatusOr<SharedLocks::Turn> turn = locks.TakeTurn();
//   if (!turn.ok() || !EndRingIfFree(locks, words)) KeepUntilFree(std::move(pages));

#ifndef DOPPEL_CONTAINERS_INTERNAL_SHARED_ORPHANS_H_
#define DOPPEL_CONTAINERS_INTERNAL_SHARED_ORPHANS_H_

#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/containers/internal/shared_locks.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// In the order in which they are to end, from the last to the first.
struct SharedPages {
  Extent items;
  Extent header;
  Mapping header_page;  // Shows the header.
  RingHeader<>* words = nullptr;
};

// Keeps the pages of a ring, of which this process has no side any more, until no process
// has one.
void KeepUntilFree(SharedPages pages) noexcept;

// Gives back the pages of those rings that no process has any more. A few system calls a
// ring.
void GiveBackOrphans() noexcept;

// Makes the ring one that nobody takes a side of any more, unless another process has
// one. Whether it is. REQUIRES: in a turn of these locks.
bool EndRingIfFree(const SharedLocks& locks, RingHeader<>& words);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SHARED_ORPHANS_H_
