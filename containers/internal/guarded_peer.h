// SPDX-License-Identifier: Apache-2.0
//
// The other process's file of a guarded ring: what is checked before it is mapped.
//
//   descriptor ─▶ seals ─▶ identity ─▶ size ─▶ header page, mapped for reading
//
// Invariants:
//   1. The seals come first: what is checked after them cannot change any more, so that
//      no access to the page, nor to items that the identity speaks of, faults later.
//   2. The identity is the copy that was checked.
//
// Thread safety: a value type; the memory is guarded by the protocol.
// Errors: ShowPeer says; the file is closed then.
//
// Example:
//   absl::StatusOr<GuardedPeer> peer = ShowPeer(
//       *std::move(memfd), {.item_bytes = 8, .sides = kWriterHere}, /*lock=*/false);

#ifndef DOPPEL_CONTAINERS_INTERNAL_GUARDED_PEER_H_
#define DOPPEL_CONTAINERS_INTERNAL_GUARDED_PEER_H_

#include "absl/status/statusor.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/ring_file.h"
#include "doppel/containers/internal/ring_identity.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// Of each side's file: nobody else writes to it.
inline constexpr Seal kGuardedRingSeals = kRingFileSeals | Seal::kFutureWrite;

struct GuardedPeer {
  Memfd file;
  Mapping page;
  RingIdentity identity;
  const RingHeader<>* header = nullptr;  // In the page; null: there is no peer.
};

// FailedPrecondition for seals that are not exactly right, InvalidArgument for what is
// not the file of such a ring; else what the kernel reports.
absl::StatusOr<GuardedPeer> ShowPeer(Memfd file, const IdentityDemand& demand,
                                     bool lock);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_GUARDED_PEER_H_
