// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/guarded_storage.h"

#include <array>
#include <atomic>
#include <cstdint>
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
#include "doppel/containers/internal/ring_wake.h"

namespace doppel::internal {
namespace {

absl::Status NoHeap() {
  return absl::ResourceExhaustedError("no memory for the ring's handle");
}

}  // namespace

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
      ShowHeader(file->memfd, 0, {.lock = memory.lock});
  if (!page.ok()) return page.status();
  GuardedStorage storage;
  storage.locks_ = memory.lock;
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
  words.fenced.store(
      sys::RegisterForBarriers().ok() ? kFencedHere : kUnfencedHere,
      std::memory_order_relaxed);
  return storage;
}

absl::Status GuardedStorage::TakeItems(const Memfd& memfd,
                                       const RingIdentity& identity,
                                       Protection protection) {
  absl::StatusOr<Mirror> items =
      ShowItems(memfd, identity, {.protection = protection, .lock = locks_});
  if (!items.ok()) return items.status();
  absl::StatusOr<Mirror> scratch = MakeScratch(*items, /*arena=*/nullptr);
  if (!scratch.ok()) return scratch.status();
  items_ = *std::move(items);
  scratch_ = *std::move(scratch);
  capacity_items_ = identity.capacity_bytes / identity.item_bytes;
  return absl::OkStatus();
}

// What this process has mapped for writing stays writable; nobody else's view will be.
absl::Status GuardedStorage::SealOwnFile() {
  return own_file_.AddSeals(kGuardedRingSeals);
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

GuardedStorage::~GuardedStorage() {
  // Moved from, or a forked child's.
  if (seats_ == nullptr || owner_process_ != sys::ProcessId()) return;
  seats_->mine.CheckLeft();
}

absl::StatusOr<GuardedStorage> GuardedStorage::AttachConsumer(
    RingInvitation invitation, uint64_t item_bytes, uint64_t max_capacity_bytes,
    const GuardedMemory& memory) {
  absl::StatusOr<GuardedStorage> storage = Make(
      {.min_capacity_items = 0, .item_bytes = item_bytes}, kReaderHere, memory);
  if (!storage.ok()) return storage.status();
  if (absl::Status sealed = storage->SealOwnFile(); !sealed.ok()) return sealed;
  storage->seats_->link.Take(invitation.ReleaseLink().fd);
  if (storage->seats_->link.fd() < 0) {
    return absl::InvalidArgumentError(
        "an invitation without a link: the producer has to be sent this one's "
        "file");
  }
  absl::StatusOr<Memfd> file = AdoptRingFile(invitation.ReleaseRing());
  if (!file.ok()) return file.status();
  absl::StatusOr<GuardedPeer> peer =
      ShowPeer(*std::move(file),
               {.item_bytes = item_bytes,
                .sides = kWriterHere,
                .max_capacity_bytes = max_capacity_bytes},
               memory.lock);
  if (!peer.ok()) return peer.status();
  storage->peer_ = *std::move(peer);
  if (absl::Status begun = storage->BeginReading(); !begun.ok()) return begun;
  if (absl::Status taken = storage->TakeItems(
          storage->peer_.file, storage->peer_.identity, Protection::kRead);
      !taken.ok()) {
    return taken;
  }
  storage->seats_->watch = RingWatch<>::Reader(
      &storage->own_->reader, &storage->peer_.header->writer,
      storage->capacity_items_, storage->Pacing());
  if (absl::Status sent = sys::SendDescriptors(
          storage->seats_->link.fd(), std::array{storage->own_file_.fd()},
          /*words=*/{}, sys::Blocking::kNever);
      !sent.ok()) {
    if (!storage->seats_->link.HungUp()) return sent;
    return absl::UnavailableError(
        "the producer's process ended before this one attached");
  }
  return storage;
}

// The producer's file has the words of a reader, which it alone stores to: there it says
// where a consumer begins that comes after another.
absl::Status GuardedStorage::BeginReading() {
  const uint64_t begin =
      peer_.header->reader.position.load(std::memory_order_acquire);
  const uint64_t written =
      peer_.header->writer.position.load(std::memory_order_acquire);
  if (written - begin >
      peer_.identity.capacity_bytes / peer_.identity.item_bytes) {
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
  if (peer_.header == nullptr) return least;
  // In the order of a reader that stores both.
  const uint64_t position =
      peer_.header->reader.position.load(std::memory_order_acquire);
  const uint64_t finished =
      peer_.header->reader.finished.load(std::memory_order_acquire);
  uint64_t next = least;
  for (const uint64_t one : {position, finished}) {
    if (one - next <= written - next) next = one;
  }
  return next;
}

absl::Status GuardedStorage::CheckProcess() const {
  if (owner_process_ == sys::ProcessId()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the ring belongs to the process that made or attached it");
}

absl::StatusOr<RingInvitation> GuardedStorage::Invite() {
  if (absl::Status process = CheckProcess(); !process.ok()) return process;
  if (!seats_->link.HungUp()) {
    return absl::FailedPreconditionError(
        "the ring's consumer lives, or its invitation does: make another ring "
        "for another consumer");
  }
  if (seats_->mine.taken.load(std::memory_order_relaxed)) {
    return absl::FailedPreconditionError(
        "the Writer belongs to the consumer before: end it first");
  }
  // A consumer may have come and gone, and what it finished is not read again.
  if (absl::Status before = Accept(absl::InfinitePast());
      !before.ok() && seats_->link.fd() >= 0) {
    return before;
  }
  absl::StatusOr<Memfd> file = own_file_.Duplicate();
  if (!file.ok()) return file.status();
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> ends =
      MakeRingLink();
  if (!ends.ok()) return ends.status();
  const uint64_t begin = NextReadersBegin();
  own_->reader.position.store(begin, std::memory_order_release);
  seats_->link.Drop();
  answer_ = Memfd();
  seats_->watch.reset();
  peer_ = GuardedPeer();
  seats_->link.Take((*ends)[0].fd);
  return RingInvitation(file->Release(), (*ends)[1], /*offset_bytes=*/0);
}

absl::StatusOr<Memfd> GuardedStorage::ReceiveAnswer(absl::Time deadline) {
  const int link = seats_->link.fd();
  if (link < 0) {
    return absl::FailedPreconditionError("nobody is invited: Invite first");
  }
  sys::Polled polled = sys::Poll(link, deadline);
  // A signal may have ended it.
  while (!polled.readable && !polled.hung_up && absl::Now() < deadline) {
    polled = sys::Poll(link, deadline);
  }
  if (!polled.readable) {
    if (!polled.hung_up) {
      return absl::DeadlineExceededError("the consumer has not attached yet");
    }
    seats_->link.Drop();
    return absl::UnavailableError(
        "the consumer's process ended before it attached");
  }
  const absl::StatusOr<sys::PassedDescriptors> passed =
      sys::ReceiveDescriptors(link, 1, sys::Blocking::kNever);
  if (absl::IsResourceExhausted(passed.status())) return passed.status();
  absl::StatusOr<Memfd> file =
      passed.ok() ? AdoptRingFile(passed->fds[0]) : passed.status();
  // A consumer answers once: what came and was lost does not come again.
  if (!file.ok()) seats_->link.Drop();
  return file;
}

absl::Status GuardedStorage::Accept(absl::Time deadline) {
  if (absl::Status process = CheckProcess(); !process.ok()) return process;
  if (peer_.header != nullptr) return absl::OkStatus();
  if (answer_.fd() < 0) {
    absl::StatusOr<Memfd> answer = ReceiveAnswer(deadline);
    if (!answer.ok()) return answer.status();
    answer_ = *std::move(answer);
  }
  absl::StatusOr<Memfd> file = answer_.Duplicate();
  if (!file.ok()) return file.status();
  absl::StatusOr<GuardedPeer> peer = ShowPeer(
      *std::move(file),
      {.item_bytes = item_bytes_, .sides = kReaderHere, .has_items = false},
      locks_);
  if (!peer.ok()) {
    // A file that is not right stays so; what this process lacks may come.
    if (absl::IsInvalidArgument(peer.status()) ||
        absl::IsFailedPrecondition(peer.status())) {
      answer_ = Memfd();
      seats_->link.Drop();
    }
    return peer.status();
  }
  peer_ = *std::move(peer);
  answer_ = Memfd();
  seats_->watch = RingWatch<>::Writer(&own_->writer, &peer_.header->reader,
                                      capacity_items_, Pacing());
  return absl::OkStatus();
}

RingPacing GuardedStorage::Pacing() const {
  return RingPacing(item_bytes_, items_.size_bytes(), PauseNs());
}

absl::StatusOr<RingEnd> GuardedStorage::End() const {
  if (!seats_->watch.has_value()) {
    return absl::FailedPreconditionError(
        "the ring has no consumer yet: Accept first");
  }
  if (absl::Status process = CheckProcess(); !process.ok()) return process;
  seats_->mine.watch = &*seats_->watch;
  // Lines that are read only cannot be owned.
  return EndOver(items_, item_bytes_, seats_->mine, scratch_,
                 /*owns_lines=*/false);
}

uint64_t GuardedStorage::Size() const {
  if (peer_.header == nullptr) return 0;
  return own_->identity.sides == kWriterHere
             ? ItemsIn(own_->writer, peer_.header->reader, capacity_items_)
             : ItemsIn(peer_.header->writer, own_->reader, capacity_items_);
}

RingStatistics GuardedStorage::Statistics() const {
  if (peer_.header == nullptr) return {};
  return own_->identity.sides == kWriterHere
             ? StatisticsOf(own_->writer, peer_.header->reader)
             : StatisticsOf(peer_.header->writer, own_->reader);
}

bool GuardedStorage::PeerGone() const {
  return internal::PeerGone(seats_->mine);
}

}  // namespace doppel::internal
