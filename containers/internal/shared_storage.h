// SPDX-License-Identifier: Apache-2.0
//
// What a process holds of a ring that it has in common with another.
//
//   file       ...│ header │...│ items │...
//                     │            └──────┬──────────────┐
//   addresses  │ g │ header │ g │  │ g │ first view │ second view │ g │
//
//   this process: seats, watches (SharedSeats) ◀── link ──▶ the other process
//
// Invariants:
//   1. What stands in the header is checked before it is used, and copied: nobody
//      relies on a word that the other process could change.
//   2. Of each side there is one process at a time. Its hold is a lock that the kernel
//      takes back when the process ends, however it ends (shared_locks.h).
//   3. A file of the ring's own cannot change its size (seals).
//
// Thread safety: a value type; the memory is guarded by the protocol.
// Errors: each function says; nothing is held then.
//
// Example:
//   absl::StatusOr<SharedStorage> storage = SharedStorage::Create(
//       {.min_capacity_items = 1000, .item_bytes = 8}, {});

#ifndef DOPPEL_CONTAINERS_INTERNAL_SHARED_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_SHARED_STORAGE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_link.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/internal/shared_locks.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_options.h"

namespace doppel::internal {

// What this process's handles point to.
struct SharedSeats : RingSeats {
  SharedSeats(RingHeader<>* header, uint64_t capacity_items,
              const RingPacing& pacing)
      : RingSeats(&header->writer, &header->reader, capacity_items, pacing) {
    for (RingSeat* seat : {&writer_seat, &reader_seat}) {
      seat->link_fd = link.word();
      seat->locks = &locks;
    }
  }

  RingLink link;
  // Behind the link, so that it ends first: whoever is told of this process's end by the
  // link finds its sides free.
  SharedLocks locks;
};

class SharedStorage {
 public:
  // A ring in a file of its own, or in one of options.arena.
  // Fails with InvalidArgument for a capacity of 0, OutOfRange if the size overflows,
  // ResourceExhausted for more than the machine's memory, and with what the file and
  // the mapping report.
  static absl::StatusOr<SharedStorage> Create(const RingDemand& demand,
                                              const RingOptions& options);

  // The ring of an invitation.
  // Fails with InvalidArgument for what is no ring, or of items of another size.
  static absl::StatusOr<SharedStorage> Attach(RingInvitation invitation,
                                              uint64_t item_bytes,
                                              const RingAttachOptions& options);

  // Pages of an arena stay to a process that has a side, for as long as it has it.
  ~SharedStorage();
  SharedStorage(SharedStorage&&) noexcept = default;
  // What it had ends in the order of the destructor, which members assigned one by one
  // would not.
  SharedStorage& operator=(SharedStorage&& other) noexcept {
    if (this == &other) return *this;
    std::destroy_at(this);
    std::construct_at(this, std::move(other));
    return *this;
  }

  // Makes this process the one that has the side, until the storage is destroyed.
  // FailedPrecondition while another process has it, and in a forked child.
  absl::StatusOr<RingEnd> Claim(SharedSide side);

  // See SharedRing.
  absl::StatusOr<RingInvitation> Invite();
  absl::StatusOr<std::array<RingInvitation, 2>> InvitePair();
  uint64_t Size() const;
  RingStatistics Statistics() const;

  const Memfd& memfd() const { return memfd_; }
  uint64_t offset_bytes() const { return offset_bytes_; }
  uint64_t capacity_items() const { return capacity_items_; }
  uint64_t memory_bytes() const { return identity_.capacity_bytes; }
  bool owns_lines() const { return owns_lines_; }
  bool PeerGone() const;

 private:
  SharedStorage() = default;

  absl::Status MakeInArena(uint64_t min_bytes,
                           const std::shared_ptr<Arena>& arena);
  absl::Status MakeFile(uint64_t min_bytes);
  // Shows the header and makes what this process has besides.
  absl::Status Open(const RingAttachOptions& options);
  absl::Status CheckProcess() const;
  // Until its end no other process takes a side. FailedPrecondition in a forked
  // child, and if the ring is no more.
  absl::StatusOr<SharedLocks::Turn> TakeTurn() const;
  RingEnd End(SharedSide side) const;
  RingSide<>& Words(SharedSide side) const;
  // Whether the header is this ring's still.
  bool IsThere() const;
  // FailedPrecondition if another process has the other side and cannot wake this one.
  absl::Status CheckOther(SharedSide side) const;
  // FailedPrecondition if another process is there already.
  absl::Status CheckAlone() const;
  // Whether the link has hung up. The kernel may be a moment later to take back the locks
  // of a process that ends.
  bool IsPeerEnding() const;
  // Whether it did.
  bool EndIfAlone();

  Memfd memfd_;
  uint64_t offset_bytes_ = 0;  // Of the header, in the file.
  RingIdentity identity_;      // A copy.
  Mirror items_;
  Extent header_extent_;  // Of an arena: the creator has it.
  Mapping header_page_;
  RingHeader<>* header_ = nullptr;
  std::unique_ptr<SharedSeats> seats_;  // On the heap: handles point to it.
  uint64_t link_id_ = 0;                // 0: no link.
  Mirror writer_scratch_;               // Canonical build, as in SpscStorage.
  Mirror reader_scratch_;
  uint64_t capacity_items_ = 0;
  int owner_process_ = 0;
  bool owns_lines_ = false;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SHARED_STORAGE_H_
