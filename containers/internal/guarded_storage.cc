// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/guarded_storage.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_identity.h"
#include "doppel/containers/internal/ring_wake.h"

namespace doppel::internal {
namespace {

constexpr Seal kSeals =
    Seal::kShrink | Seal::kGrow | Seal::kFutureWrite | Seal::kSeal;

// The kernel adds kExec to files that cannot be executed, where it knows of it (6.3).
absl::Status RequireSeals(const Memfd& memfd) {
  if (memfd.RequireSeals(kSeals | Seal::kExec).ok()) return absl::OkStatus();
  return memfd.RequireSeals(kSeals);
}

absl::Status CheckSize(const Memfd& memfd, const RingIdentity& identity) {
  const absl::StatusOr<Memfd::Stat> stat = memfd.Query();
  if (!stat.ok()) return stat.status();
  const uint64_t bytes = memfd.page_bytes() + identity.capacity_bytes;
  if (identity.items_offset_bytes == memfd.page_bytes() &&
      stat->size_bytes == bytes) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the file holds no ring that fits: it has ", stat->size_bytes,
      " bytes, and its header and items would have ", bytes));
}

absl::Status NoHeap() {
  return absl::ResourceExhaustedError("no memory for the ring's handle");
}

}  // namespace

GuardedSeats::~GuardedSeats() {
  const int link = link_fd.load(std::memory_order_acquire);
  if (link >= 0) sys::Close(link);
}

absl::StatusOr<GuardedStorage> GuardedStorage::Make(
    const RingIdentity& identity) {
  GuardedStorage storage;
  absl::StatusOr<Memfd> file = Memfd::Create({.name = "doppel-guarded-ring"});
  if (!file.ok()) return file.status();
  storage.own_file_ = *std::move(file);
  const uint64_t page_bytes = storage.own_file_.page_bytes();
  if (absl::Status sized =
          storage.own_file_.Resize(page_bytes + identity.capacity_bytes);
      !sized.ok()) {
    return sized;
  }
  absl::StatusOr<Mapping> page = Mapping::Reserve(page_bytes, page_bytes);
  if (!page.ok()) return page.status();
  storage.own_page_ = *std::move(page);
  if (absl::Status shown = storage.own_page_.Show(
          storage.own_file_, 0, page_bytes, 0, {.populate = true});
      !shown.ok()) {
    return shown;
  }
  storage.own_ = new (storage.own_page_.data()) RingHeader<>();
  storage.own_->identity = identity;
  storage.own_->identity.page_bytes = static_cast<uint32_t>(page_bytes);
  storage.own_->identity.items_offset_bytes = page_bytes;

  storage.seats_.reset(new (std::nothrow) GuardedSeats);
  if (storage.seats_ == nullptr) return NoHeap();
  storage.item_bytes_ = identity.item_bytes;
  storage.owner_process_ = sys::ProcessId();
  RingSide<>& words = identity.sides == kWriterHere ? storage.own_->writer
                                                    : storage.own_->reader;
  words.fenced.store(sys::RegisterForBarriers().ok() ? 1 : 0,
                     std::memory_order_relaxed);
  return storage;
}

// What this process has mapped for writing stays writable; nobody else's view will be.
absl::Status GuardedStorage::SealOwnFile() {
  return own_file_.AddSeals(kSeals);
}

absl::StatusOr<GuardedStorage> GuardedStorage::CreateProducer(
    const RingDemand& demand) {
  if (absl::Status valid = CheckDemand(demand); !valid.ok()) return valid;
  const uint64_t page_bytes = BasePageBytes();
  const uint64_t min_bytes = demand.min_capacity_items * demand.item_bytes;
  if (absl::Status fits = sys::CheckMemory(min_bytes); !fits.ok()) return fits;
  RingIdentity identity;
  identity.item_bytes = demand.item_bytes;
  identity.sides = kWriterHere;
  identity.capacity_bytes =
      (min_bytes + page_bytes - 1) / page_bytes * page_bytes;
  absl::StatusOr<GuardedStorage> storage = Make(identity);
  if (!storage.ok()) return storage.status();
  absl::StatusOr<Mirror> items =
      Mirror::OfFile(storage->own_file_, page_bytes, identity.capacity_bytes,
                     Mirror::kMaxViews, Protection::kReadWrite);
  if (!items.ok()) return items.status();
  storage->items_ = *std::move(items);
  storage->capacity_items_ = identity.capacity_bytes / demand.item_bytes;
  if (absl::Status sealed = storage->SealOwnFile(); !sealed.ok()) return sealed;
  if (absl::Status made = storage->MakeScratch(); !made.ok()) return made;
  return storage;
}

absl::StatusOr<GuardedStorage> GuardedStorage::AttachConsumer(
    RingInvitation invitation, uint64_t item_bytes,
    uint64_t max_capacity_bytes) {
  RingIdentity own;
  own.item_bytes = item_bytes;
  own.sides = kReaderHere;
  absl::StatusOr<GuardedStorage> storage = Make(own);
  if (!storage.ok()) return storage.status();
  if (absl::Status sealed = storage->SealOwnFile(); !sealed.ok()) return sealed;
  storage->seats_->link_fd.store(invitation.ReleaseLink(),
                                 std::memory_order_relaxed);
  const absl::StatusOr<RingIdentity> identity = storage->ShowPeersPage(
      invitation.ReleaseRing(), {.item_bytes = item_bytes,
                                 .sides = kWriterHere,
                                 .max_capacity_bytes = max_capacity_bytes});
  if (!identity.ok()) return identity.status();
  absl::StatusOr<Mirror> items = Mirror::OfFile(
      storage->peers_file_, identity->items_offset_bytes,
      identity->capacity_bytes, Mirror::kMaxViews, Protection::kRead);
  if (!items.ok()) return items.status();
  storage->items_ = *std::move(items);
  storage->capacity_items_ = identity->capacity_bytes / item_bytes;
  if (absl::Status made = storage->MakeScratch(); !made.ok()) return made;
  storage->seats_->watch =
      RingWatch<>::Reader(&storage->own_->reader, &storage->peers_->writer,
                          storage->capacity_items_, storage->Pacing());
  const int link = storage->seats_->link_fd.load(std::memory_order_relaxed);
  if (absl::Status sent =
          sys::SendDescriptors(link, std::array{storage->own_file_.fd()},
                               /*word=*/0, sys::Blocking::kNever);
      !sent.ok()) {
    return sent;
  }
  return storage;
}

absl::StatusOr<RingIdentity> GuardedStorage::ShowPeersPage(
    int fd, const IdentityDemand& demand) {
  absl::StatusOr<Memfd> file = Memfd::Adopt(fd, {});
  if (!file.ok()) {
    if (fd >= 0) sys::Close(fd);
    return file.status();
  }
  // The seals first: what is checked after them cannot change any more.
  if (absl::Status sealed = RequireSeals(*file); !sealed.ok()) {
    return sealed;
  }
  const absl::StatusOr<RingIdentity> identity = ReadIdentity(*file, 0, demand);
  if (!identity.ok()) return identity.status();
  if (absl::Status size = CheckSize(*file, *identity); !size.ok()) {
    return size;
  }
  const uint64_t page_bytes = file->page_bytes();
  absl::StatusOr<Mapping> page = Mapping::Reserve(page_bytes, page_bytes);
  if (!page.ok()) return page.status();
  if (absl::Status shown =
          page->Show(*file, 0, page_bytes, 0,
                     {.protection = Protection::kRead, .populate = true});
      !shown.ok()) {
    return shown;
  }
  peers_file_ = *std::move(file);
  peers_page_ = *std::move(page);
  peers_ =
      std::launder(reinterpret_cast<const RingHeader<>*>(peers_page_.data()));
  return *identity;
}

absl::StatusOr<RingInvitation> GuardedStorage::Invite() {
  if (seats_->link_fd.load(std::memory_order_relaxed) >= 0) {
    return absl::FailedPreconditionError(
        "the ring has invited its consumer already: make another ring for "
        "another consumer");
  }
  absl::StatusOr<Memfd> file = own_file_.Duplicate();
  if (!file.ok()) return file.status();
  const absl::StatusOr<std::array<int, 2>> link = sys::SocketPair();
  if (!link.ok()) return link.status();
  seats_->link_fd.store((*link)[0], std::memory_order_release);
  return RingInvitation(file->Release(), (*link)[1], /*offset_bytes=*/0);
}

absl::Status GuardedStorage::Accept(absl::Time deadline) {
  if (peers_ != nullptr) return absl::OkStatus();
  const int link = seats_->link_fd.load(std::memory_order_relaxed);
  if (link < 0) {
    return absl::FailedPreconditionError("nobody was invited: Invite first");
  }
  sys::Polled polled = sys::Poll(link, deadline);
  // A signal may have ended it.
  while (!polled.readable && !polled.hung_up && absl::Now() < deadline) {
    polled = sys::Poll(link, deadline);
  }
  if (!polled.readable) {
    return polled.hung_up ? absl::UnavailableError(
                                "the consumer's process ended before it "
                                "attached")
                          : absl::DeadlineExceededError(
                                "the consumer has not attached yet");
  }
  const absl::StatusOr<sys::PassedDescriptors> passed =
      sys::ReceiveDescriptors(link, 1, sys::Blocking::kNever);
  if (!passed.ok()) return passed.status();
  const absl::StatusOr<RingIdentity> identity = ShowPeersPage(
      passed->fds[0],
      {.item_bytes = item_bytes_, .sides = kReaderHere, .has_items = false});
  if (!identity.ok()) return identity.status();
  seats_->watch = RingWatch<>::Writer(&own_->writer, &peers_->reader,
                                      capacity_items_, Pacing());
  return absl::OkStatus();
}

absl::Status GuardedStorage::MakeScratch() {
  if (items_.views() == 2) return absl::OkStatus();
  const absl::StatusOr<std::shared_ptr<Arena>> arena = Arena::Default();
  if (!arena.ok()) return arena.status();
  absl::StatusOr<Mirror> made = Mirror::Create(*arena, items_.size_bytes(), 1);
  if (!made.ok()) return made.status();
  scratch_ = *std::move(made);
  return absl::OkStatus();
}

RingPacing GuardedStorage::Pacing() const {
  return RingPacing(item_bytes_, PauseNs());
}

absl::StatusOr<RingEnd> GuardedStorage::End() const {
  if (!seats_->watch.has_value()) {
    return absl::FailedPreconditionError(
        "the ring has no consumer yet: Accept first");
  }
  if (owner_process_ != sys::ProcessId()) {
    return absl::FailedPreconditionError(
        "the ring belongs to the process that made or attached it");
  }
  RingEnd end;
  seats_->mine.watch = &*seats_->watch;
  end.seat = &seats_->mine;
  end.data = items_.data();
  end.scratch = scratch_.data();
  end.lap_bytes =
      items_.views() == 2 ? items_.size_bytes() : capacity_items_ * item_bytes_;
  end.item_bytes = item_bytes_;
  return end;
}

RingStatistics GuardedStorage::Statistics() const {
  if (peers_ == nullptr) return {};
  return own_->identity.sides == kWriterHere
             ? StatisticsOf(own_->writer, peers_->reader)
             : StatisticsOf(peers_->writer, own_->reader);
}

bool GuardedStorage::PeerGone() const {
  return internal::PeerGone(seats_->mine);
}

}  // namespace doppel::internal
