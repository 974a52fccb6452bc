// SPDX-License-Identifier: Apache-2.0
//
// Reads what a file says that it is, and believes nothing of it.
//
// Invariants:
//   1. The identity is read once, by pread(2), before the file is mapped. Whoever has
//      the result has a copy that nobody else can change.
//   2. After OK the header and all items lie within the file, whole pages each, and
//      every number that follows from the identity fits 64 bits.
//
// Thread safety: all functions.
// Errors: InvalidArgument says what does not fit.
//
// Example:
//   absl::StatusOr<RingIdentity> identity =
//       ReadIdentity(memfd, 0, {.item_bytes = 8, .sides = kWriterHere});

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_IDENTITY_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_IDENTITY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

struct IdentityDemand {
  uint64_t item_bytes = 1;
  uint32_t sides = 0;
  uint64_t max_capacity_bytes = UINT64_MAX;
  bool has_items = true;  // false: a file with words only (guarded_ring.h).
};

absl::StatusOr<RingIdentity> ReadIdentity(const Memfd& memfd,
                                          uint64_t offset_bytes,
                                          const IdentityDemand& demand);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_IDENTITY_H_
