// SPDX-License-Identifier: Apache-2.0
//
// The file in which a ring between processes stands, and how a process maps it.
//
//   file       │ header │ items ...          │
//                  │        └──────┬──────────────┐
//   addresses  │ g │ header │ g │  │ g │ first view │ second view │ g │
//
// The header page and the items are mapped apart from each other, each for reading only
// or for writing too: shared_storage.h maps all of one file, guarded_storage.h the header
// of its own and all of the other's.
//
// Invariants:
//   1. Header and items are whole pages each, one behind the other, and all the file.
//   2. The identity that MakeRingFile returns says where they are. It stands in the file
//      only once the caller has stored it there.
//   3. A file is given away only after it was sealed with kRingFileSeals at least: its
//      size cannot change.
//
// Thread safety: all functions.
// Errors: each function says, or those of Memfd and Mapping; nothing is held then.
//
// Example:
//   absl::StatusOr<RingFile> file = MakeRingFile(
//       {.name = "doppel-ring", .item_bytes = 8, .sides = kWriterHere, .min_bytes = 100});
//   absl::StatusOr<Mapping> page = ShowHeader(file->memfd, 0, {});
//   absl::StatusOr<Mirror> items = ShowItems(file->memfd, file->identity, {});

#ifndef DOPPEL_CONTAINERS_INTERNAL_RING_FILE_H_
#define DOPPEL_CONTAINERS_INTERNAL_RING_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

inline constexpr Seal kRingFileSeals =
    Seal::kShrink | Seal::kGrow | Seal::kSeal;

struct RingFile {
  Memfd memfd;
  RingIdentity identity;
};

struct RingFileDemand {
  std::string name;  // As /proc shows it.
  uint64_t item_bytes = 1;
  uint32_t sides = 0;      // Whose words it will have.
  uint64_t min_bytes = 0;  // Of items; 0: it will have words only.
  PageSize page_size = PageSize::Base();
};

// A file of zeros that nobody else has. ResourceExhausted for more than the machine's
// memory; errors of GrantPageSize.
absl::StatusOr<RingFile> MakeRingFile(const RingFileDemand& demand);

// The file of a descriptor that came from elsewhere, which is closed if it is none.
absl::StatusOr<Memfd> AdoptRingFile(int fd);

// How to show a part of the file.
struct RingView {
  Protection protection = Protection::kReadWrite;
  bool lock = false;  // Into memory.
};

// Shows the page of the header that stands at `offset_bytes`, or is the extent. No
// access to it faults later.
absl::StatusOr<Mapping> ShowHeader(const Memfd& memfd, uint64_t offset_bytes,
                                   const RingView& view);
absl::StatusOr<Mapping> ShowHeader(const Extent& extent);

// Shows the items. REQUIRES: they lie within the file (ring_identity.h).
absl::StatusOr<Mirror> ShowItems(const Memfd& memfd,
                                 const RingIdentity& identity,
                                 const RingView& view);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_RING_FILE_H_
