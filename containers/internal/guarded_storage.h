// SPDX-License-Identifier: Apache-2.0
//
// What a process holds of a ring whose other side it does not trust: two files, each
// written by the one who made it and readable for the other.
//
//   producer's file: header page (writer's words), items    mapped for reading by the
//   consumer's file: header page (reader's words)           other, who checked it first
//
//   producer                                       consumer
//     CreateProducer, seal ── invitation ──────────▶ AttachConsumer: check, map
//     Accept: check, map ◀──── its file, over the link ── seal, send
//
// Invariants:
//   1. A file is sealed against new writers and any change of size before it is given
//      away, and mapped only after its seals, its size and its identity are exactly
//      right: no access to it can fault later, whatever the other process does.
//   2. What stands in the other's file is loaded once a decision and checked; what this
//      process decides with besides is in its own memory.
//   3. Nothing waits for the other process but what has a deadline.
//
// Thread safety: a value type; the memory is guarded by the protocol.
// Errors: each function says; nothing is held then.
//
// Example:
//   absl::StatusOr<GuardedStorage> storage =
//       GuardedStorage::CreateProducer({.min_capacity_items = 1000});

#ifndef DOPPEL_CONTAINERS_INTERNAL_GUARDED_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_GUARDED_STORAGE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/internal/guarded_peer.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/internal/ring_link.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_protocol.h"

namespace doppel::internal {

// What this process's handle points to, on the heap.
struct GuardedSeats {
  GuardedSeats() = default;
  GuardedSeats(const GuardedSeats&) = delete;
  GuardedSeats& operator=(const GuardedSeats&) = delete;

  RingLink link;
  std::optional<RingWatch<>> watch;  // None: no consumer yet.
  RingSeat theirs;  // Never taken here: the other process has it.
  RingSeat mine{.other = &theirs, .link_fd = link.word()};
};

// What a process makes of its own file, and of what it maps.
struct GuardedMemory {
  PageSize page_size = PageSize::Base();
  bool lock = false;
};

class GuardedStorage {
 public:
  // The producer's side, without a consumer yet.
  // Fails as SharedStorage::Create does.
  static absl::StatusOr<GuardedStorage> CreateProducer(
      const RingDemand& demand, const GuardedMemory& memory);

  // The consumer's side of the ring that the invitation is to.
  // Fails with InvalidArgument for what is no ring, or larger than
  // `max_capacity_bytes`, FailedPrecondition for seals that are not exactly right.
  static absl::StatusOr<GuardedStorage> AttachConsumer(
      RingInvitation invitation, uint64_t item_bytes,
      uint64_t max_capacity_bytes, const GuardedMemory& memory);

  ~GuardedStorage();
  GuardedStorage(GuardedStorage&&) noexcept = default;
  GuardedStorage& operator=(GuardedStorage&& other) noexcept {
    if (this == &other) return *this;
    std::destroy_at(this);
    std::construct_at(this, std::move(other));
    return *this;
  }

  // Producer: what the consumer attaches with. FailedPrecondition while the one before
  // lives, or its invitation does, and while a handle lives.
  absl::StatusOr<RingInvitation> Invite();

  // Producer: takes the consumer's file, when it comes. DeadlineExceeded until then;
  // Unavailable if the consumer's process ended; else as AttachConsumer.
  absl::Status Accept(absl::Time deadline);

  // FailedPrecondition before Accept, and in a forked child.
  absl::StatusOr<RingEnd> End() const;

  const Memfd& memfd() const { return own_file_; }
  uint64_t capacity_items() const { return capacity_items_; }
  uint64_t memory_bytes() const { return items_.size_bytes(); }
  uint64_t Size() const;
  RingStatistics Statistics() const;
  bool PeerGone() const;

 private:
  GuardedStorage() = default;

  // The process's own file, with its identity in its header page, and what belongs to
  // it besides. Not sealed: what is mapped for writing is mapped before.
  static absl::StatusOr<GuardedStorage> Make(const RingDemand& demand,
                                             uint32_t sides,
                                             const GuardedMemory& memory);
  absl::Status SealOwnFile();
  absl::Status CheckProcess() const;
  // Takes the items of a file that is the process's own or was checked.
  absl::Status TakeItems(const Memfd& memfd, const RingIdentity& identity,
                         Protection protection);
  // Producer: the file that the consumer sends.
  absl::StatusOr<Memfd> ReceiveAnswer(absl::Time deadline);
  // Producer: where the next consumer begins.
  uint64_t NextReadersBegin() const;
  // Consumer: begins there.
  absl::Status BeginReading();
  RingPacing Pacing() const;

  bool locks_ = false;  // Whatever it maps.
  Memfd own_file_;
  Mapping own_page_;
  RingHeader<>* own_ = nullptr;
  GuardedPeer peer_;
  Memfd answer_;  // Producer: what came, and could not be mapped yet.
  Mirror items_;
  Mirror scratch_;  // Canonical build, as in SpscStorage.
  std::unique_ptr<GuardedSeats> seats_;
  uint64_t capacity_items_ = 0;
  uint64_t item_bytes_ = 0;
  int owner_process_ = 0;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_GUARDED_STORAGE_H_
