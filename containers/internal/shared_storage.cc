// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/shared_storage.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/line_ownership.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_demand.h"
#include "doppel/containers/internal/ring_file.h"
#include "doppel/containers/internal/ring_identity.h"
#include "doppel/containers/internal/ring_link.h"
#include "doppel/containers/internal/ring_wake.h"
#include "doppel/containers/internal/shared_locks.h"
#include "doppel/containers/internal/shared_orphans.h"

namespace doppel::internal {
namespace {

constexpr uint32_t kBothHere = kWriterHere | kReaderHere;

absl::Status EndedRing() {
  return absl::FailedPreconditionError(
      "the ring is no more: who made it has destroyed it, and its pages may be "
      "another's");
}

}  // namespace

SharedStorage::~SharedStorage() {
  if (seats_ != nullptr && owner_process_ == sys::ProcessId()) {
    seats_->CheckLeft();
  }
  // Not made, moved from, of a file that goes on by itself, or a forked child's.
  if (!header_extent_ || seats_ == nullptr || !seats_->locks.is_open()) return;
  if (!EndIfAlone()) {
    SharedPages pages{.items = items_.ReleaseExtent(),
                      .header = std::move(header_extent_),
                      .header_page = std::move(header_page_),
                      .words = header_};
    items_ = Mirror();
    seats_.reset();
    KeepUntilFree(std::move(pages));
  }
  GiveBackOrphans();
}

bool SharedStorage::EndIfAlone() {
  const absl::StatusOr<SharedLocks::Turn> turn = seats_->locks.TakeTurn();
  return turn.ok() && EndRingIfFree(seats_->locks, *header_);
}

absl::StatusOr<SharedStorage> SharedStorage::Create(
    const RingDemand& demand, const RingOptions& options) {
  if (absl::Status valid = CheckDemand(demand); !valid.ok()) return valid;
  const uint64_t min_bytes = demand.min_capacity_items * demand.item_bytes;
  SharedStorage storage;
  storage.identity_.item_bytes = demand.item_bytes;
  storage.identity_.sides = kBothHere;
  absl::Status made = options.arena == nullptr
                          ? storage.MakeFile(min_bytes)
                          : storage.MakeInArena(min_bytes, options.arena);
  if (!made.ok()) return made;
  // An arena locks what it is asked to lock.
  if (absl::Status open =
          storage.Open({.line_ownership = options.line_ownership});
      !open.ok()) {
    return open;
  }
  // No two rings begin at the same time on the same pages.
  storage.identity_.number =
      static_cast<uint64_t>(absl::ToUnixNanos(absl::Now()));
  storage.header_->identity = storage.identity_;
  return storage;
}

absl::StatusOr<SharedStorage> SharedStorage::Attach(
    RingInvitation invitation, uint64_t item_bytes,
    const RingAttachOptions& options) {
  SharedStorage storage;
  storage.offset_bytes_ = invitation.offset_bytes();
  absl::StatusOr<Memfd> memfd = AdoptRingFile(invitation.ReleaseRing());
  if (!memfd.ok()) return memfd.status();
  storage.memfd_ = *std::move(memfd);
  const absl::StatusOr<RingIdentity> identity =
      ReadIdentity(storage.memfd_, storage.offset_bytes_,
                   {.item_bytes = item_bytes, .sides = kBothHere});
  if (!identity.ok()) return identity.status();
  storage.identity_ = *identity;
  const uint64_t wanted = invitation.ring_number();
  if (wanted != 0 && wanted != identity->number) return EndedRing();
  absl::StatusOr<Mirror> items =
      ShowItems(storage.memfd_, *identity, {.lock = options.lock});
  if (!items.ok()) return items.status();
  storage.items_ = *std::move(items);
  if (absl::Status open = storage.Open(options); !open.ok()) return open;
  const RingInvitation::Link link = invitation.ReleaseLink();
  storage.seats_->link.Take(link.fd);
  storage.link_id_ = link.id;
  return storage;
}

// A file of the ring's own: a header page, and the items behind it.
absl::Status SharedStorage::MakeFile(uint64_t min_bytes) {
  absl::StatusOr<RingFile> file =
      MakeRingFile({.name = "doppel-ring",
                    .item_bytes = identity_.item_bytes,
                    .sides = identity_.sides,
                    .min_bytes = min_bytes});
  if (!file.ok()) return file.status();
  if (absl::Status sealed = file->memfd.AddSeals(kRingFileSeals);
      !sealed.ok()) {
    return sealed;
  }
  absl::StatusOr<Mirror> items =
      ShowItems(file->memfd, file->identity, /*view=*/{});
  if (!items.ok()) return items.status();
  memfd_ = std::move(file->memfd);
  identity_ = file->identity;
  items_ = *std::move(items);
  return absl::OkStatus();
}

absl::Status SharedStorage::MakeInArena(uint64_t min_bytes,
                                        const std::shared_ptr<Arena>& arena) {
  GiveBackOrphans();
  absl::StatusOr<Mirror> items =
      Mirror::Create(arena, min_bytes, Mirror::kMaxViews);
  if (!items.ok()) return items.status();
  items_ = *std::move(items);
  absl::StatusOr<Extent> header = arena->Allocate(arena->page_bytes());
  if (!header.ok()) return header.status();
  header_extent_ = *std::move(header);
  absl::StatusOr<Memfd> memfd = arena->memfd().Duplicate();
  if (!memfd.ok()) return memfd.status();
  memfd_ = *std::move(memfd);
  offset_bytes_ = header_extent_.offset_bytes();
  identity_.page_bytes = static_cast<uint32_t>(arena->page_bytes());
  identity_.items_offset_bytes = items_.extent().offset_bytes();
  identity_.capacity_bytes = items_.size_bytes();
  return absl::OkStatus();
}

absl::Status SharedStorage::Open(const RingAttachOptions& options) {
  absl::StatusOr<Mapping> page =
      header_extent_
          ? ShowHeader(header_extent_)
          : ShowHeader(memfd_, offset_bytes_, {.lock = options.lock});
  if (!page.ok()) return page.status();
  header_page_ = *std::move(page);
  // An extent that is handed out again is not empty; a ring that is attached to is.
  header_ =
      header_extent_
          ? new (header_page_.data()) RingHeader<>()
          : std::launder(reinterpret_cast<RingHeader<>*>(header_page_.data()));

  for (Mirror* scratch : {&writer_scratch_, &reader_scratch_}) {
    absl::StatusOr<Mirror> made = MakeScratch(items_, /*arena=*/nullptr);
    if (!made.ok()) return made.status();
    *scratch = *std::move(made);
  }

  owner_process_ = sys::ProcessId();
  capacity_items_ = identity_.capacity_bytes / identity_.item_bytes;
  owns_lines_ = OwnsLines(options.line_ownership);
  seats_.reset(new (std::nothrow) SharedSeats(
      header_, capacity_items_,
      RingPacing(identity_.item_bytes, identity_.capacity_bytes, PauseNs())));
  if (seats_ == nullptr) {
    return absl::ResourceExhaustedError("no memory for the ring's handles");
  }
  return seats_->locks.Open(memfd_.fd(), offset_bytes_);
}

absl::Status SharedStorage::CheckProcess() const {
  if (owner_process_ == sys::ProcessId()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the ring belongs to the process that made or attached it: in a forked "
      "child, attach by an invitation");
}

absl::StatusOr<SharedLocks::Turn> SharedStorage::TakeTurn() const {
  if (absl::Status process = CheckProcess(); !process.ok()) return process;
  absl::StatusOr<SharedLocks::Turn> turn = seats_->locks.TakeTurn();
  if (turn.ok() && !IsThere()) return EndedRing();
  return turn;
}

absl::StatusOr<RingEnd> SharedStorage::Claim(SharedSide side) {
  const absl::StatusOr<SharedLocks::Turn> turn = TakeTurn();
  if (!turn.ok()) return turn.status();
  const SharedLocks& locks = seats_->locks;
  const absl::StatusOr<bool> locked = AskFor(
      [&] { return locks.TryTake(side); }, [&] { return IsPeerEnding(); });
  if (!locked.ok()) return locked.status();
  if (!*locked) {
    return absl::FailedPreconditionError(absl::StrCat(
        "another process ", side == SharedSide::kWriter ? "writes" : "reads",
        " the ring; it has to end, or to destroy its ring, first"));
  }
  if (absl::Status other = CheckOther(side); !other.ok()) {
    locks.Leave(side);
    return other;
  }
  RingSide<>& words = Words(side);
  words.link.store(link_id_, std::memory_order_relaxed);
  const RingEnd end = End(side);
  end.seat->held.store(true, std::memory_order_relaxed);
  // Behind what says that the side is held: who sees this, and then that it is not, has
  // seen an end (OtherGone).
  words.fenced.store(
      sys::RegisterForBarriers().ok() ? kFencedHere : kUnfencedHere,
      std::memory_order_release);
  // Whoever has slept until somebody comes learns by which fence.
  WakeAtEnd(*end.seat);
  return end;
}

bool SharedStorage::IsThere() const {
  return std::atomic_ref<uint64_t>(header_->identity.number)
             .load(std::memory_order_relaxed) == identity_.number;
}

RingSide<>& SharedStorage::Words(SharedSide side) const {
  return side == SharedSide::kWriter ? header_->writer : header_->reader;
}

absl::Status SharedStorage::CheckOther(SharedSide side) const {
  const SharedSide other =
      side == SharedSide::kWriter ? SharedSide::kReader : SharedSide::kWriter;
  const absl::StatusOr<bool> elsewhere = seats_->locks.IsHeldElsewhere(other);
  if (!elsewhere.ok()) return elsewhere.status();
  if (!*elsewhere ||
      Words(other).link.load(std::memory_order_relaxed) == link_id_) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the process that ", other == SharedSide::kWriter ? "writes" : "reads",
      " the ring could not wake this one: two processes wake each other by the "
      "link of one invitation, or of one InvitePair, or both have none"));
}

bool SharedStorage::IsPeerEnding() const {
  return seats_->link.fd() >= 0 && seats_->link.HungUp();
}

absl::Status SharedStorage::CheckAlone() const {
  const absl::StatusOr<bool> alone = AskFor(
      [&]() -> absl::StatusOr<bool> {
        absl::StatusOr<bool> held = seats_->locks.AreHeldElsewhere();
        if (!held.ok()) return held;
        return !*held && seats_->link.HungUp();
      },
      [&] { return IsPeerEnding(); });
  if (!alone.ok()) return alone.status();
  if (*alone) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "another process has the ring, or an invitation to it: that one has to "
      "end, or to destroy its ring, first (for two others there is "
      "InvitePair)");
}

RingEnd SharedStorage::End(SharedSide side) const {
  const bool writes = side == SharedSide::kWriter;
  return EndOver(items_, identity_.item_bytes,
                 writes ? seats_->writer_seat : seats_->reader_seat,
                 writes ? writer_scratch_ : reader_scratch_, owns_lines_);
}

absl::StatusOr<RingInvitation> SharedStorage::Invite() {
  const absl::StatusOr<SharedLocks::Turn> turn = TakeTurn();
  if (!turn.ok()) return turn.status();
  if (absl::Status alone = CheckAlone(); !alone.ok()) return alone;
  absl::StatusOr<Memfd> memfd = memfd_.Duplicate();
  if (!memfd.ok()) return memfd.status();
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> ends =
      MakeRingLink();
  if (!ends.ok()) return ends.status();
  const auto& [mine, theirs] = *ends;
  RingInvitation invitation(memfd->Release(), theirs, offset_bytes_,
                            identity_.number);
  if (absl::Status replaced = seats_->link.Replace(mine.fd); !replaced.ok()) {
    return replaced;
  }
  link_id_ = mine.id;
  // In this turn no other process has a side. Who takes one says so itself.
  for (const SharedSide side : {SharedSide::kWriter, SharedSide::kReader}) {
    Words(side).link.store(link_id_, std::memory_order_relaxed);
  }
  return invitation;
}

absl::StatusOr<std::array<RingInvitation, 2>> SharedStorage::InvitePair() {
  const absl::StatusOr<SharedLocks::Turn> turn = TakeTurn();
  if (!turn.ok()) return turn.status();
  if (absl::Status alone = CheckAlone(); !alone.ok()) return alone;
  absl::StatusOr<Memfd> first = memfd_.Duplicate();
  if (!first.ok()) return first.status();
  absl::StatusOr<Memfd> second = memfd_.Duplicate();
  if (!second.ok()) return second.status();
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> ends =
      MakeRingLink();
  if (!ends.ok()) return ends.status();
  return std::array{RingInvitation(first->Release(), (*ends)[0], offset_bytes_,
                                   identity_.number),
                    RingInvitation(second->Release(), (*ends)[1], offset_bytes_,
                                   identity_.number)};
}

bool SharedStorage::PeerGone() const {
  if (seats_->link.fd() >= 0) return internal::PeerGone(seats_->writer_seat);
  return OtherGone(seats_->writer_seat) || OtherGone(seats_->reader_seat);
}

uint64_t SharedStorage::Size() const {
  return ItemsIn(header_->writer, header_->reader, capacity_items_);
}

RingStatistics SharedStorage::Statistics() const {
  return StatisticsOf(header_->writer, header_->reader);
}

}  // namespace doppel::internal
