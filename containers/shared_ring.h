// SPDX-License-Identifier: Apache-2.0
//
// A ring between two processes that trust each other, in one file: the fast handles of
// SpscRing, and the survivor goes on when the other is killed.
//
//   creator                                  peer
//     Create ── Invite ──▶ RingInvitation ──▶ Attach
//     writer() or reader()                    the other one
//        │                                       │
//        ▼                                       ▼
//     header page, items  =  one file  =  header page, items     (PROTOCOL.md)
//                  link: wakes, and hangs up when the other process ends
//
// Invariants:
//   1. What was published is read once and whole, whichever process is killed between
//      any two instructions. What a killed writer had not published is forgotten; what
//      a killed reader had finished is not read again.
//   2. Of each side there is one process at a time, and one handle. The kernel ends the
//      hold of a process that ends: another one can attach and go on.
//   3. A handle that waits is told of the end of the peer's process (kPeerGone), after
//      everything that was published has been seen.
//   4. No push or pop faults or makes a system call, as in SpscRing.
//
// The peer is trusted: it maps the same pages for writing, and could destroy what is in
// the ring, though not reach beyond it. Against a peer that lies, guarded_ring.h.
//
// Without a link (RingInvitation::WithoutLink) the kernel's hold tells of an end: the peer
// has gone if a process has had its side since the ring was made, this one's own
// attachments that have ended included, and none has it now. So nobody has gone who has
// not come yet, or only stands still; and once another has taken the side, it is the peer.
// Nobody is woken by such an end: a wait that is not woken looks each 50 ms. To wait for a
// successor is to wait again after kPeerGone. There is no event().
//
// Memory. By default the ring has a file of its own, sealed against changes of its size.
// With RingOptions::arena it stands in the arena's file, huge pages and locks included:
// one descriptor for many rings, and whoever attaches to one can map them all.
//
// Thread safety: handles as SpscRing's. writer(), reader(), Invite and InvitePair are for
//   one thread at a time; the rest may be called from any.
// Fork: a child of fork(2) attaches by an invitation that was made before. The ring
//   object itself is its parent's, and gives the child no handle. What holds the sides
//   and the link is closed in a child (internal/process_fd.h), so that they end with the
//   process that has them.
// Errors: a Status each. Operations are the handles'; a peer whose positions cannot be
//   true poisons them (DataLoss).
//
// Example:
//   absl::StatusOr<SharedRing<int>> ring = SharedRing<int>::Create(1000);
//   absl::StatusOr<RingInvitation> invitation = ring->Invite();
//   if (fork() == 0) {
//     auto mine = SharedRing<int>::Attach(*std::move(invitation));
//     mine->writer()->try_push(7);
//     _exit(0);
//   }
//   invitation->Reset();  // The child's alone.
//   absl::StatusOr<RingReader<int>> reader = ring->reader();
//   while (reader->wait() == RingWait::kReady) Use(*reader->try_pop());

#ifndef DOPPEL_CONTAINERS_SHARED_RING_H_
#define DOPPEL_CONTAINERS_SHARED_RING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/shared_storage.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel {

template <class T = std::byte>
class SharedRing {
  static_assert(std::is_trivially_copyable_v<T> &&
                    std::is_same_v<T, std::remove_cv_t<T>>,
                "items are passed as bytes");
  static_assert(alignof(T) <= 4096, "items are aligned within pages");

 public:
  using value_type = T;
  using Options = RingOptions;
  using AttachOptions = RingAttachOptions;
  using Writer = RingWriter<T>;
  using Reader = RingReader<T>;

  // A ring of at least `min_capacity` items, rounded up to whole pages.
  // Fails as SpscRing::Create does (with ResourceExhausted for any size that is larger
  // than the machine's memory), and where /proc is not mounted.
  static absl::StatusOr<SharedRing> Create(size_t min_capacity,
                                           const Options& options = {}) {
    return OfStorage(internal::SharedStorage::Create(
        {.min_capacity_items = min_capacity, .item_bytes = sizeof(T)},
        options));
  }

  // The ring that the invitation is to. Of huge pages an address as aligned shows them.
  // Fails with InvalidArgument for a file that holds no ring, or one of items of
  // another size, FailedPrecondition for a ring that was destroyed, and with what the
  // file and the mapping report.
  static absl::StatusOr<SharedRing> Attach(RingInvitation invitation,
                                           const AttachOptions& options = {}) {
    return OfStorage(internal::SharedStorage::Attach(std::move(invitation),
                                                     sizeof(T), options));
  }

  // Handles stay valid when the ring is moved. A ring that was moved from may only be
  // destroyed or assigned to.
  SharedRing(SharedRing&&) noexcept = default;
  SharedRing& operator=(SharedRing&&) noexcept = default;

  // What is in the ring stays there, for whoever else has it. The pages of an arena
  // stay only to a process that has a side; others find that the ring is no more.
  // REQUIRES: no handle of this object lives.
  ~SharedRing() = default;

  // For one other process, which this one wakes and is woken by. After it has ended its
  // successor is invited.
  // Fails with FailedPrecondition while another process has a side, or the one invited
  // before lives, or its invitation does; and with what dup and socketpair(2) report.
  // REQUIRES: no handle of this object waits, or uses its event().
  absl::StatusOr<RingInvitation> Invite() { return storage_.Invite(); }

  // For two other processes, which wake each other: a broker's, that takes no side.
  // Fails as Invite does. REQUIRES: no side was taken by this object, and those of an
  // earlier pair have ended.
  absl::StatusOr<std::array<RingInvitation, 2>> InvitePair() {
    return storage_.InvitePair();
  }

  // The producer's handle; this process is the one that writes from then on, until the
  // ring object is destroyed. It goes on behind what was published.
  // Fails with FailedPrecondition while another process writes, while one reads that
  // has another link than this process, so that they could not wake each other, when the
  // ring is no more, and in a forked child. With Unavailable if a process that takes a
  // side at this moment is stopped: after a second.
  // REQUIRES: no other Writer of this object lives.
  absl::StatusOr<Writer> writer() {
    const auto end = storage_.Claim(internal::SharedSide::kWriter);
    if (!end.ok()) return end.status();
    return Writer(*end);
  }

  // The consumer's handle, likewise. It goes on behind what was finished.
  absl::StatusOr<Reader> reader() {
    const auto end = storage_.Claim(internal::SharedSide::kReader);
    if (!end.ok()) return end.status();
    return Reader(*end);
  }

  // The ring's file, and where in it the ring begins, for RingInvitation::WithoutLink.
  const Memfd& memfd() const { return storage_.memfd(); }
  uint64_t offset_bytes() const { return storage_.offset_bytes(); }

  size_t capacity() const { return storage_.capacity_items(); }
  size_t memory_bytes() const { return storage_.memory_bytes(); }
  bool owns_lines() const { return storage_.owns_lines(); }
  size_t size() const { return storage_.Size(); }
  bool empty() const { return size() == 0; }
  RingStatistics statistics() const { return storage_.Statistics(); }

  // Whether the process at the other end of the link has ended: a system call or two.
  // Without a link: whether a side that this object does not have has been left (see
  // "Without a link").
  bool peer_gone() const { return storage_.PeerGone(); }

 private:
  explicit SharedRing(internal::SharedStorage storage)
      : storage_(std::move(storage)) {}

  static absl::StatusOr<SharedRing> OfStorage(
      absl::StatusOr<internal::SharedStorage> storage) {
    if (!storage.ok()) return storage.status();
    return SharedRing(*std::move(storage));
  }

  internal::SharedStorage storage_;
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_SHARED_RING_H_
