// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/guarded_storage.h"

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
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_file.h"
#include "doppel/containers/internal/ring_identity.h"
#include "doppel/containers/internal/ring_wake.h"

namespace doppel::internal {
namespace {

constexpr Seal kSeals = kRingFileSeals | Seal::kFutureWrite;

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
    const RingDemand& demand, uint32_t sides, const GuardedMemory& memory) {
  absl::StatusOr<RingFile> file =
      MakeRingFile({.name = "doppel-guarded-ring",
                    .item_bytes = demand.item_bytes,
                    .sides = sides,
                    .min_bytes = demand.min_capacity_items * demand.item_bytes,
                    .page_size = memory.page_size});
  if (!file.ok()) return file.status();
  absl::StatusOr<Mapping> page =
      ShowHeader(file->memfd, 0, Protection::kReadWrite);
  if (!page.ok()) return page.status();
  GuardedStorage storage;
  storage.locks_ = memory.lock;
  if (absl::Status locked = storage.LockIfAsked(*page); !locked.ok()) {
    return locked;
  }
  storage.own_file_ = std::move(file->memfd);
  storage.own_page_ = *std::move(page);
  storage.own_ = new (storage.own_page_.data()) RingHeader<>();
  storage.own_->identity = file->identity;

  storage.seats_.reset(new (std::nothrow) GuardedSeats);
  if (storage.seats_ == nullptr) return NoHeap();
  storage.item_bytes_ = demand.item_bytes;
  storage.owner_process_ = sys::ProcessId();
  RingSide<>& words =
      sides == kWriterHere ? storage.own_->writer : storage.own_->reader;
  words.fenced.store(sys::RegisterForBarriers().ok() ? 1 : 0,
                     std::memory_order_relaxed);
  return storage;
}

absl::Status GuardedStorage::TakeItems(const Memfd& memfd,
                                       const RingIdentity& identity,
                                       Protection protection) {
  absl::StatusOr<Mirror> items = ShowItems(memfd, identity, protection);
  if (!items.ok()) return items.status();
  if (locks_) {
    if (absl::Status locked = items->Lock(); !locked.ok()) return locked;
  }
  absl::StatusOr<Mirror> scratch = MakeScratch(*items, /*arena=*/nullptr);
  if (!scratch.ok()) return scratch.status();
  items_ = *std::move(items);
  scratch_ = *std::move(scratch);
  capacity_items_ = identity.capacity_bytes / identity.item_bytes;
  return absl::OkStatus();
}

absl::Status GuardedStorage::LockIfAsked(Mapping& page) const {
  return locks_ ? page.Lock(0, page.size_bytes()) : absl::OkStatus();
}

// What this process has mapped for writing stays writable; nobody else's view will be.
absl::Status GuardedStorage::SealOwnFile() {
  return own_file_.AddSeals(kSeals);
}

absl::StatusOr<GuardedStorage> GuardedStorage::CreateProducer(
    const RingDemand& demand, const GuardedMemory& memory) {
  if (absl::Status valid = CheckDemand(demand); !valid.ok()) return valid;
  absl::StatusOr<GuardedStorage> storage = Make(demand, kWriterHere, memory);
  if (!storage.ok()) return storage.status();
  if (absl::Status taken = storage->TakeItems(
          storage->own_file_, storage->own_->identity, Protection::kReadWrite);
      !taken.ok()) {
    return taken;
  }
  if (absl::Status sealed = storage->SealOwnFile(); !sealed.ok()) return sealed;
  return storage;
}

absl::StatusOr<GuardedStorage> GuardedStorage::AttachConsumer(
    RingInvitation invitation, uint64_t item_bytes, uint64_t max_capacity_bytes,
    const GuardedMemory& memory) {
  absl::StatusOr<GuardedStorage> storage = Make(
      {.min_capacity_items = 0, .item_bytes = item_bytes}, kReaderHere, memory);
  if (!storage.ok()) return storage.status();
  if (absl::Status sealed = storage->SealOwnFile(); !sealed.ok()) return sealed;
  storage->seats_->link_fd.store(invitation.ReleaseLink().fd,
                                 std::memory_order_relaxed);
  absl::StatusOr<Memfd> file = AdoptRingFile(invitation.ReleaseRing());
  if (!file.ok()) return file.status();
  const absl::StatusOr<RingIdentity> identity = storage->ShowPeersPage(
      *std::move(file), {.item_bytes = item_bytes,
                         .sides = kWriterHere,
                         .max_capacity_bytes = max_capacity_bytes});
  if (!identity.ok()) return identity.status();
  if (absl::Status begun = storage->BeginReading(*identity); !begun.ok()) {
    return begun;
  }
  if (absl::Status taken = storage->TakeItems(storage->peers_file_, *identity,
                                              Protection::kRead);
      !taken.ok()) {
    return taken;
  }
  storage->seats_->watch =
      RingWatch<>::Reader(&storage->own_->reader, &storage->peers_->writer,
                          storage->capacity_items_, storage->Pacing());
  const int link = storage->seats_->link_fd.load(std::memory_order_relaxed);
  if (absl::Status sent =
          sys::SendDescriptors(link, std::array{storage->own_file_.fd()},
                               /*words=*/{}, sys::Blocking::kNever);
      !sent.ok()) {
    return sent;
  }
  return storage;
}

absl::StatusOr<RingIdentity> GuardedStorage::ShowPeersPage(
    Memfd file, const IdentityDemand& demand) {
  // The seals first: what is checked after them cannot change any more.
  if (absl::Status sealed = RequireSeals(file); !sealed.ok()) return sealed;
  const absl::StatusOr<RingIdentity> identity = ReadIdentity(file, 0, demand);
  if (!identity.ok()) return identity.status();
  if (absl::Status size = CheckSize(file, *identity); !size.ok()) return size;
  absl::StatusOr<Mapping> page = ShowHeader(file, 0, Protection::kRead);
  if (!page.ok()) return page.status();
  if (absl::Status locked = LockIfAsked(*page); !locked.ok()) return locked;
  peers_file_ = std::move(file);
  peers_page_ = *std::move(page);
  peers_ =
      std::launder(reinterpret_cast<const RingHeader<>*>(peers_page_.data()));
  return *identity;
}

// The producer's file has the words of a reader, which it alone stores to: there it says
// where a consumer begins that comes after another.
absl::Status GuardedStorage::BeginReading(const RingIdentity& identity) {
  const uint64_t begin =
      peers_->reader.position.load(std::memory_order_acquire);
  const uint64_t written =
      peers_->writer.position.load(std::memory_order_acquire);
  if (written - begin > identity.capacity_bytes / identity.item_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file holds no ring: its reader would begin at ",
                     begin, ", its writer stands at ", written));
  }
  own_->reader.position.store(begin, std::memory_order_relaxed);
  own_->reader.finished.store(begin, std::memory_order_relaxed);
  return absl::OkStatus();
}

uint64_t GuardedStorage::NextReadersBegin() const {
  const uint64_t written =
      own_->writer.position.load(std::memory_order_relaxed);
  const uint64_t began = own_->reader.position.load(std::memory_order_relaxed);
  // What the writer has written over, the one before had handed back.
  const uint64_t least =
      written - began > capacity_items_ ? written - capacity_items_ : began;
  if (peers_ == nullptr) return least;
  const uint64_t finished =
      peers_->reader.finished.load(std::memory_order_acquire);
  return finished - least <= written - least ? finished : least;
}

absl::StatusOr<RingInvitation> GuardedStorage::Invite() {
  const int former = seats_->link_fd.load(std::memory_order_relaxed);
  if (former >= 0 && !sys::Poll(former, absl::InfinitePast()).hung_up) {
    return absl::FailedPreconditionError(
        "the ring's consumer lives, or its invitation does: make another ring "
        "for another consumer");
  }
  if (seats_->mine.taken.load(std::memory_order_relaxed)) {
    return absl::FailedPreconditionError(
        "the Writer belongs to the consumer before: end it first");
  }
  absl::StatusOr<Memfd> file = own_file_.Duplicate();
  if (!file.ok()) return file.status();
  const absl::StatusOr<std::array<int, 2>> link = sys::SocketPair();
  if (!link.ok()) return link.status();
  const uint64_t begin = NextReadersBegin();
  own_->reader.position.store(begin, std::memory_order_release);
  DropLink();
  answer_ = Memfd();
  seats_->watch.reset();
  peers_ = nullptr;
  seats_->link_fd.store((*link)[0], std::memory_order_release);
  return RingInvitation(file->Release(), {.fd = (*link)[1]},
                        /*offset_bytes=*/0);
}

void GuardedStorage::DropLink() {
  const int link = seats_->link_fd.exchange(-1, std::memory_order_acq_rel);
  if (link >= 0) sys::Close(link);
}

absl::StatusOr<Memfd> GuardedStorage::ReceiveAnswer(absl::Time deadline) {
  const int link = seats_->link_fd.load(std::memory_order_relaxed);
  if (link < 0) {
    return absl::FailedPreconditionError("nobody is invited: Invite first");
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
  return AdoptRingFile(passed->fds[0]);
}

absl::Status GuardedStorage::Accept(absl::Time deadline) {
  if (peers_ != nullptr) return absl::OkStatus();
  if (answer_.fd() < 0) {
    absl::StatusOr<Memfd> answer = ReceiveAnswer(deadline);
    if (!answer.ok()) {
      // A consumer answers once: what came and was lost does not come again.
      if (!absl::IsDeadlineExceeded(answer.status())) DropLink();
      return answer.status();
    }
    answer_ = *std::move(answer);
  }
  absl::StatusOr<Memfd> file = answer_.Duplicate();
  if (!file.ok()) return file.status();
  const absl::StatusOr<RingIdentity> identity = ShowPeersPage(
      *std::move(file),
      {.item_bytes = item_bytes_, .sides = kReaderHere, .has_items = false});
  if (!identity.ok()) {
    // A file that is not right stays so; what this process lacks may come.
    if (absl::IsInvalidArgument(identity.status()) ||
        absl::IsFailedPrecondition(identity.status())) {
      answer_ = Memfd();
      DropLink();
    }
    return identity.status();
  }
  answer_ = Memfd();
  seats_->watch = RingWatch<>::Writer(&own_->writer, &peers_->reader,
                                      capacity_items_, Pacing());
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
  seats_->mine.watch = &*seats_->watch;
  // Lines that are read only cannot be owned.
  return EndOver(items_, item_bytes_, seats_->mine, scratch_,
                 /*owns_lines=*/false);
}

uint64_t GuardedStorage::Size() const {
  if (peers_ == nullptr) return 0;
  return own_->identity.sides == kWriterHere
             ? ItemsIn(own_->writer, peers_->reader, capacity_items_)
             : ItemsIn(peers_->writer, own_->reader, capacity_items_);
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
