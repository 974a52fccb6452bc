// SPDX-License-Identifier: Apache-2.0
//
// A ring between two processes of which neither trusts the other: whatever the peer
// stores, truncates or leaves undone, this process neither crashes nor hangs.
//
//   producer's process                       consumer's process
//     GuardedProducer::Create                  GuardedConsumer::Attach(invitation)
//     Invite ──── RingInvitation ────────────▶   checks seals, size, layout; maps for
//     Accept  ◀── its own file, by the link ──   reading; sends a file of its own
//     writer()                                 reader()
//
//   producer's file: words and items   only the producer can write
//   consumer's file: words             only the consumer can write
//
// Invariants:
//   1. Each process maps the other's file for reading only, after it has checked that
//      nobody can change its size, map it for writing anew or punch holes into it
//      (F_SEAL_SHRINK, GROW, FUTURE_WRITE, SEAL: exactly these, and EXEC or not).
//   2. Each word of the other's is loaded once a decision, and believed only if it can
//      be true. A word that cannot poisons the handle: status() is DataLoss, and stays.
//   3. Whatever the other stores, no handle touches memory outside the items.
//   4. The end of the other's process ends every wait (kPeerGone).
//   5. What an honest peer published before it was killed is read once and whole. Of a
//      killed consumer the next one reads what it had not finished. The ring ends with its
//      producer: whoever produces next makes another.
//
// What the peer can do: publish nonsense, publish nothing, never release, wake for
// nothing, and change items while they are read in place. So read an item by try_pop or
// pop, which copy it before you look at it; of a span from peek() believe nothing that
// you have not copied. T must be valid whatever its bytes are.
//
// Messages (message.h) go over rings of bytes: MessageWriter(*producer.writer()) and
// MessageReader(*consumer.reader()). Take them by pop(), which copies: what next() shows
// stays within the items and as long as it is, but its bytes may change.
//
// How far a consumer has come it says itself: one that lies can make the consumer after it
// begin anywhere in what is written, of messages in the middle of one, whose bytes would
// then be taken for a header. Consumers that do not trust each other get a ring each.
//
// What a peer sends with an invitation is looked at before it is used, but closing it asks
// the file system that it is of, and one of the peer's own (fuse(4)) may take its time.
//
// The consumer owns no lines (ring_options.h): it cannot write to them.
//
// Thread safety: as SpscRing's.
// Fork: the objects belong to the process that made or attached them.
// Errors: a Status each. Operations are the handles'.
//
// Example:
//   auto producer = GuardedProducer<int>::Create(1000);
//   absl::Status sent = producer->Invite()->Send(socket);
//   absl::Status accepted = producer->Accept(absl::Now() + absl::Seconds(1));
//   producer->writer()->try_push(7);
//   // In the other process:
//   auto consumer =
//       GuardedConsumer<int>::Attach(*RingInvitation::Receive(socket));
//   std::optional<int> item = consumer->reader()->try_pop();

#ifndef DOPPEL_CONTAINERS_GUARDED_RING_H_
#define DOPPEL_CONTAINERS_GUARDED_RING_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/internal/guarded_storage.h"
#include "doppel/containers/internal/ring_end.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/ring_reader.h"
#include "doppel/containers/ring_writer.h"

namespace doppel {

namespace internal {

// What both sides have alike.
template <class T>
class GuardedSide {
  static_assert(std::is_trivially_copyable_v<T> &&
                    std::is_same_v<T, std::remove_cv_t<T>>,
                "items are passed as bytes");
  static_assert(alignof(T) <= 4096, "items are aligned within pages");

 public:
  using value_type = T;

  size_t capacity() const { return storage_.capacity_items(); }
  size_t memory_bytes() const { return storage_.memory_bytes(); }

  // Items in the ring, as far as the other side can be believed.
  size_t size() const { return storage_.Size(); }
  bool empty() const { return size() == 0; }

  // The other side's part of it is what the other side says.
  RingStatistics statistics() const { return storage_.Statistics(); }

  // Whether the process at the other end of the link has ended.
  bool peer_gone() const { return storage_.PeerGone(); }

  // This side's file, which the other side maps for reading.
  const Memfd& memfd() const { return storage_.memfd(); }

 protected:
  explicit GuardedSide(GuardedStorage storage) : storage_(std::move(storage)) {}
  GuardedSide(GuardedSide&&) noexcept = default;
  GuardedSide& operator=(GuardedSide&&) noexcept = default;
  ~GuardedSide() = default;

  GuardedStorage& storage() { return storage_; }

  template <class Handle>
  absl::StatusOr<Handle> MakeHandle() {
    const absl::StatusOr<RingEnd> end = storage_.End();
    if (!end.ok()) return end.status();
    return Handle(*end);
  }

 private:
  GuardedStorage storage_;
};

}  // namespace internal

struct GuardedProducerOptions {
  // Of the producer's file, base or hugetlb; those of the consumer's are base pages.
  PageSize page_size = PageSize::Base();
  // Whether all that this process maps is locked into memory (mlock2(2)).
  bool lock = false;
};

// The side that has the items in its file.
template <class T = std::byte>
class GuardedProducer : public internal::GuardedSide<T> {
 public:
  using Options = GuardedProducerOptions;
  using Writer = RingWriter<T>;

  // A ring of at least `min_capacity` items, rounded up to whole pages; one page more
  // is the header's.
  // Fails as SpscRing::Create does, with NotFound or ResourceExhausted for pages that
  // are not to be had, and with what mlock2(2) reports.
  static absl::StatusOr<GuardedProducer> Create(size_t min_capacity,
                                                const Options& options = {}) {
    absl::StatusOr<internal::GuardedStorage> storage =
        internal::GuardedStorage::CreateProducer(
            {.min_capacity_items = min_capacity, .item_bytes = sizeof(T)},
            {.page_size = options.page_size, .lock = options.lock});
    if (!storage.ok()) return storage.status();
    return GuardedProducer(*std::move(storage));
  }

  // Handles stay valid when it is moved. What was moved from may only be destroyed or
  // assigned to. REQUIRES: no handle of it lives when it is destroyed or assigned to.
  GuardedProducer(GuardedProducer&&) noexcept = default;
  GuardedProducer& operator=(GuardedProducer&&) noexcept = default;

  // For one consumer. After it has ended, or was refused, another may be invited, which
  // goes on behind what the one before had finished.
  // Fails with FailedPrecondition while the consumer or its invitation lives, and while a
  // Writer does, and with what dup and socketpair(2) report.
  absl::StatusOr<RingInvitation> Invite() { return this->storage().Invite(); }

  // Waits until the consumer has attached, and checks what it sent. OK again after
  // that.
  // Fails with DeadlineExceeded or what the mapping reports: try again. With Unavailable
  // if the consumer's process has ended, InvalidArgument or FailedPrecondition for a file
  // that is not right: invite again.
  absl::Status Accept(absl::Time deadline = absl::InfiniteFuture()) {
    return this->storage().Accept(deadline);
  }

  // The producer's handle. Fails with FailedPrecondition before Accept, and in a forked
  // child. REQUIRES: no other Writer lives.
  absl::StatusOr<Writer> writer() {
    return this->template MakeHandle<Writer>();
  }

 private:
  explicit GuardedProducer(internal::GuardedStorage storage)
      : internal::GuardedSide<T>(std::move(storage)) {}
};

struct GuardedConsumerOptions {
  // What the other process may have this one map, and so pay for.
  uint64_t max_capacity_bytes = uint64_t{1} << 30;
  // As the producer's.
  bool lock = false;
};

// The side that reads the other's file.
template <class T = std::byte>
class GuardedConsumer : public internal::GuardedSide<T> {
 public:
  using Options = GuardedConsumerOptions;
  using Reader = RingReader<T>;

  // Does not wait for the producer.
  // Fails with InvalidArgument for a file that holds no ring, one of items of another
  // size or one that is too large, and for an invitation without a link,
  // FailedPrecondition for seals that are not exactly right, Unavailable if the producer's
  // process has ended, and with what the file and the mapping report.
  static absl::StatusOr<GuardedConsumer> Attach(RingInvitation invitation,
                                                const Options& options = {}) {
    absl::StatusOr<internal::GuardedStorage> storage =
        internal::GuardedStorage::AttachConsumer(
            std::move(invitation), sizeof(T), options.max_capacity_bytes,
            {.lock = options.lock});
    if (!storage.ok()) return storage.status();
    return GuardedConsumer(*std::move(storage));
  }

  // As GuardedProducer's.
  GuardedConsumer(GuardedConsumer&&) noexcept = default;
  GuardedConsumer& operator=(GuardedConsumer&&) noexcept = default;

  // The consumer's handle. Fails with FailedPrecondition in a forked child.
  // REQUIRES: no other Reader lives.
  absl::StatusOr<Reader> reader() {
    return this->template MakeHandle<Reader>();
  }

 private:
  explicit GuardedConsumer(internal::GuardedStorage storage)
      : internal::GuardedSide<T>(std::move(storage)) {}
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_GUARDED_RING_H_
