// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/mapping.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/bad_alloc.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

namespace sys = internal::sys;
using internal::CatchBadAlloc;

int ProtectionFlags(Protection protection) {
  switch (protection) {
    case Protection::kNone:
      return PROT_NONE;
    case Protection::kRead:
      return PROT_READ;
    case Protection::kReadWrite:
      return PROT_READ | PROT_WRITE;
    case Protection::kReadExecute:
      return PROT_READ | PROT_EXEC;
  }
  return PROT_NONE;
}

constexpr int kReservationFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

std::byte* AlignUp(std::byte* address, uint64_t alignment_bytes) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  const uintptr_t aligned =
      (value + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  return address + (aligned - value);
}

}  // namespace

struct Mapping::Source {
  const Memfd& memfd;
  uint64_t offset_bytes;
  std::shared_ptr<Arena> arena;  // Null: no policy.
};

absl::StatusOr<Mapping> Mapping::Reserve(uint64_t bytes,
                                         uint64_t alignment_bytes) {
  const uint64_t page_bytes = BasePageBytes();
  alignment_bytes = std::max(alignment_bytes, page_bytes);
  if (!std::has_single_bit(alignment_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an alignment is a power of two, not ", alignment_bytes));
  }
  // Far above what any processor can address, and far from overflow.
  constexpr uint64_t kMaxBytes = uint64_t{1} << 62;
  if (bytes == 0 || bytes > kMaxBytes || alignment_bytes > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot reserve ", bytes,
                     " bytes of addresses aligned to ", alignment_bytes));
  }
  Mapping mapping;
  mapping.size_bytes_ = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  mapping.reserved_bytes_ =
      mapping.size_bytes_ + 2 * page_bytes + alignment_bytes - page_bytes;
  absl::StatusOr<std::byte*> reserved = sys::Mmap(
      nullptr, mapping.reserved_bytes_, PROT_NONE, kReservationFlags, -1, 0);
  if (!reserved.ok()) return reserved.status();
  mapping.reserved_ = *reserved;
  mapping.data_ = AlignUp(*reserved + page_bytes, alignment_bytes);
  // Reservations side by side, or beside the guard of a thread's stack, would become
  // one mapping of the kernel's. Unmapping one of them would have to split it, which
  // fails at vm.max_map_count. Flags that mean nothing to inaccessible memory, one
  // for each end, keep them apart.
  std::byte* const end = mapping.data_ + mapping.size_bytes_;
  std::byte* const reserved_end = *reserved + mapping.reserved_bytes_;
  absl::Status flagged =
      sys::Madvise(*reserved, mapping.data_ - *reserved, MADV_SEQUENTIAL);
  if (flagged.ok()) {
    flagged = sys::Madvise(end, reserved_end - end, MADV_RANDOM);
  }
  // madvise(2) says EAGAIN where others say ENOMEM: no mapping is left.
  if (absl::IsUnavailable(flagged)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(flagged.message(), "; raise vm.max_map_count"));
  }
  if (!flagged.ok()) return flagged;
  return mapping;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      reserved_(std::exchange(other.reserved_, nullptr)),
      reserved_bytes_(std::exchange(other.reserved_bytes_, 0)),
      views_(std::exchange(other.views_, {})),
      dont_fork_views_(std::exchange(other.dont_fork_views_, 0)),
      dont_fork_process_(std::exchange(other.dont_fork_process_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    End();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    reserved_ = std::exchange(other.reserved_, nullptr);
    reserved_bytes_ = std::exchange(other.reserved_bytes_, 0);
    views_ = std::exchange(other.views_, {});
    dont_fork_views_ = std::exchange(other.dont_fork_views_, 0);
    dont_fork_process_ = std::exchange(other.dont_fork_process_, 0);
  }
  return *this;
}

Mapping::~Mapping() { End(); }

absl::Status Mapping::Unmap() {
  if (reserved_ == nullptr) return absl::OkStatus();
  if (!LacksParts()) {
    if (absl::Status s = sys::Munmap(reserved_, reserved_bytes_); !s.ok()) {
      return s;
    }
  }
  Abandon();
  return absl::OkStatus();
}

// Nobody is left who could try again: addresses that cannot be unmapped are lost, but
// the pages that they show go to others, and must be seen no more.
void Mapping::End() {
  if (CatchBadAlloc([&] { return Unmap(); }).ok()) return;
  Views none;
  Conceal(0, size_bytes_, none).IgnoreError();
  Abandon();
}

void Mapping::Abandon() {
  Views none;
  Forget(0, size_bytes_, none);
  dont_fork_views_ = 0;
  data_ = nullptr;
  size_bytes_ = 0;
  reserved_ = nullptr;
  reserved_bytes_ = 0;
}

absl::Status Mapping::Show(const Extent& extent, uint64_t at_bytes,
                           const View& view) {
  return Show(extent, 0, extent.size_bytes(), at_bytes, view);
}

absl::Status Mapping::Show(const Extent& extent, uint64_t extent_offset_bytes,
                           uint64_t bytes, uint64_t at_bytes,
                           const View& view) {
  if (extent_offset_bytes > extent.size_bytes() ||
      bytes > extent.size_bytes() - extent_offset_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes at ", extent_offset_bytes,
                     " are not in the extent of ", extent.size_bytes()));
  }
  if (!extent) return absl::InvalidArgumentError("there is no extent to show");
  return ShowSource(
      {extent.arena()->memfd(), extent.offset_bytes() + extent_offset_bytes,
       extent.arena()},
      bytes, at_bytes, view);
}

absl::Status Mapping::Show(const Memfd& memfd, uint64_t offset_bytes,
                           uint64_t bytes, uint64_t at_bytes,
                           const View& view) {
  absl::StatusOr<Memfd::Stat> stat = memfd.Query();
  if (!stat.ok()) return stat.status();
  if (offset_bytes > stat->size_bytes ||
      bytes > stat->size_bytes - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat(
        bytes, " bytes at ", offset_bytes, " are not in the file of ",
        stat->size_bytes, " bytes: touching them would be SIGBUS"));
  }
  return ShowSource({memfd, offset_bytes, nullptr}, bytes, at_bytes, view);
}

absl::Status Mapping::ShowSource(const Source& source, uint64_t bytes,
                                 uint64_t at_bytes, const View& view) {
  const uint64_t unit_bytes = source.memfd.page_bytes();
  if (absl::Status s = CheckRange(at_bytes, bytes, unit_bytes); !s.ok()) {
    return s;
  }
  if (source.offset_bytes % unit_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "offset ", source.offset_bytes, " is not a multiple of the file's ",
        FormatBytes(unit_bytes), " pages"));
  }
  const int protection = ProtectionFlags(view.protection);
  const int flags = view.sharing == Sharing::kShared ? MAP_SHARED : MAP_PRIVATE;
  const auto map = [&](void* at, int fixed) {
    return sys::Mmap(at, bytes, protection, flags | fixed, source.memfd.fd(),
                     source.offset_bytes);
  };
  const bool has_pages =
      source.arena != nullptr && view.sharing == Sharing::kShared;
  if (source.memfd.page_size().is_hugetlb() && !has_pages) {
    // Whether the pool has pages is found out where nothing can be lost.
    absl::StatusOr<std::byte*> probe = map(nullptr, 0);
    if (!probe.ok()) return probe.status();
    if (absl::Status s = sys::Munmap(*probe, bytes); !s.ok()) return s;
  }
  Views spares;
  if (absl::Status s = Fill(spares, 2); !s.ok()) return s;
  absl::Status shown =
      CatchBadAlloc([&] { return map(data_ + at_bytes, MAP_FIXED).status(); });
  if (!shown.ok()) {
    MendHole(at_bytes, bytes);
    return shown;
  }
  Record(at_bytes,
         {.bytes = bytes,
          .unit_bytes = unit_bytes,
          .shared = view.sharing == Sharing::kShared,
          .arena = source.arena},
         spares);
  absl::Status applied =
      CatchBadAlloc([&] { return ApplyPolicy(source, bytes, at_bytes, view); });
  if (!applied.ok()) Conceal(at_bytes, bytes, spares).IgnoreError();
  return applied;
}

absl::Status Mapping::ApplyPolicy(const Source& source, uint64_t bytes,
                                  uint64_t at_bytes, const View& view) {
  bool populate = view.populate;
  bool lock = false;
  bool transparent = false;
  if (source.arena != nullptr) {
    const Arena::Options& options = source.arena->options();
    populate = populate || options.populate;
    lock = options.lock;
    transparent = source.arena->grant().granted == PageSize::Transparent();
    if (options.fork_policy == Arena::ForkPolicy::kDontFork) {
      if (absl::Status s = Advise(at_bytes, bytes, Advice::kDontFork);
          !s.ok()) {
        return s;
      }
    }
  }
  // A hint only: PopulateHuge gets huge pages where this does not. Not for what is
  // less than a unit: some kernels give it all of one.
  if (transparent && !view.huge_on_touch) {
    Advise(at_bytes, bytes, Advice::kNoHugePage).IgnoreError();
  } else if (transparent && bytes >= TransparentPageBytes()) {
    Advise(at_bytes, bytes, Advice::kHugePage).IgnoreError();
  }
  if (populate && view.protection != Protection::kNone) {
    const bool writes = view.protection == Protection::kReadWrite;
    absl::Status s =
        writes && transparent
            ? PopulateHuge(at_bytes, bytes)
            : Populate(at_bytes, bytes,
                       writes ? Protection::kReadWrite : Protection::kRead);
    if (!s.ok()) return s;
  }
  // What cannot be touched cannot be faulted in, and so not be locked.
  if (!lock || view.protection == Protection::kNone) return absl::OkStatus();
  return Lock(at_bytes, bytes);
}

absl::Status Mapping::Hide(uint64_t at_bytes, uint64_t bytes) {
  uint64_t unit_bytes = BasePageBytes();
  if (absl::Status s = CheckRange(at_bytes, bytes, unit_bytes); !s.ok()) {
    return s;
  }
  for (auto view = FirstView(at_bytes);
       view != views_.end() && view->first < at_bytes + bytes; ++view) {
    unit_bytes = std::max(unit_bytes, view->second.unit_bytes);
  }
  if (absl::Status s = CheckRange(at_bytes, bytes, unit_bytes); !s.ok()) {
    return s;
  }
  Views spares;
  if (CutsInTwo(at_bytes, bytes)) {
    if (absl::Status s = Fill(spares, 1); !s.ok()) return s;
  }
  return Conceal(at_bytes, bytes, spares);
}

absl::Status Mapping::Conceal(uint64_t at_bytes, uint64_t bytes,
                              Views& spares) {
  std::byte* const begin = data_ + at_bytes;
  absl::Status hidden = CatchBadAlloc([&] {
    return sys::Mmap(begin, bytes, PROT_NONE, kReservationFlags | MAP_FIXED, -1,
                     0)
        .status();
  });
  const int64_t dont_fork_views = dont_fork_views_;
  if (!hidden.ok()) {
    MendHole(at_bytes, bytes);
    // Inaccessible at least: the extent may go to somebody else now.
    const absl::Status protects =
        CatchBadAlloc([&] { return sys::Mprotect(begin, bytes, PROT_NONE); });
    if (!protects.ok()) return hidden;
  }
  Forget(at_bytes, bytes, spares);
  // What was not replaced is lacking in children as before.
  if (!hidden.ok()) dont_fork_views_ = dont_fork_views;
  return absl::OkStatus();
}

absl::Status Mapping::Protect(uint64_t at_bytes, uint64_t bytes,
                              Protection protection) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  return sys::Mprotect(data_ + at_bytes, bytes, ProtectionFlags(protection));
}

bool Mapping::LacksParts() const {
  return dont_fork_views_ != 0 && dont_fork_process_ != sys::ProcessId();
}

absl::Status Mapping::CheckRange(uint64_t at_bytes, uint64_t bytes,
                                 uint64_t unit_bytes) const {
  if (LacksParts()) {
    return absl::FailedPreconditionError(
        "this forked child lacks a part of the mapping (kDontFork): make a "
        "mapping of its own");
  }
  if (bytes == 0 || at_bytes > size_bytes_ || bytes > size_bytes_ - at_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes at position ", at_bytes,
                     " are no range of the mapping of ", size_bytes_));
  }
  const auto address = reinterpret_cast<uintptr_t>(data_ + at_bytes);
  if (address % unit_bytes != 0 || bytes % unit_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        bytes, " bytes at position ", at_bytes, " (address ", address,
        ") are not aligned to the ", FormatBytes(unit_bytes),
        " pages: reserve with this alignment and show whole pages"));
  }
  return absl::OkStatus();
}

absl::Status Mapping::CheckShown(uint64_t at_bytes, uint64_t bytes) const {
  if (absl::Status s = CheckRange(at_bytes, bytes, BasePageBytes()); !s.ok()) {
    return s;
  }
  uint64_t covered = at_bytes;
  for (auto view = FirstView(at_bytes);
       view != views_.end() && view->first <= covered &&
       covered < at_bytes + bytes;
       ++view) {
    covered = view->first + view->second.bytes;
  }
  if (covered >= at_bytes + bytes) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("nothing is shown at position ", covered,
                   ": show an extent there first"));
}

// Other threads may map into a hole, so none may stay. Kernels that unmap before
// they find that they cannot map leave one; msync(2) tells (ENOMEM).
void Mapping::MendHole(uint64_t at_bytes, uint64_t bytes) {
  const uint64_t page_bytes = BasePageBytes();
  const absl::Status whole = CatchBadAlloc(
      [&] { return sys::Msync(data_ + at_bytes, bytes, MS_ASYNC); });
  if (whole.ok()) return;
  for (uint64_t at = at_bytes; at < at_bytes + bytes; at += page_bytes) {
    const absl::Status mended = CatchBadAlloc([&] {
      return sys::Mmap(data_ + at, page_bytes, PROT_NONE,
                       kReservationFlags | MAP_FIXED_NOREPLACE, -1, 0)
          .status();
    });
    Views spares;
    // Without memory to forget it, the page counts as shown and is inaccessible.
    if (mended.ok() && (!CutsInTwo(at, page_bytes) || Fill(spares, 1).ok())) {
      Forget(at, page_bytes, spares);
    }
  }
}

absl::Status Mapping::Fill(Views& spares, size_t count) {
  return CatchBadAlloc([&] {
    while (spares.size() < count) spares.try_emplace(spares.size());
    return absl::OkStatus();
  });
}

void Mapping::CountViews(const Shown& shown, int change) {
  if (shown.arena != nullptr) shown.arena->AddViews(change);
  if (shown.dont_fork) dont_fork_views_ += change;
}

void Mapping::Record(uint64_t at_bytes, Shown shown, Views& spares) {
  Forget(at_bytes, shown.bytes, spares);
  CountViews(shown, 1);
  Views::node_type node = spares.extract(std::prev(spares.end()));
  node.key() = at_bytes;
  node.mapped() = std::move(shown);
  views_.insert(std::move(node));
}

Mapping::Views::const_iterator Mapping::FirstView(uint64_t at_bytes) const {
  auto view = views_.upper_bound(at_bytes);
  if (view != views_.begin()) {
    const auto previous = std::prev(view);
    if (previous->first + previous->second.bytes > at_bytes) return previous;
  }
  return view;
}

bool Mapping::CutsInTwo(uint64_t at_bytes, uint64_t bytes) const {
  const auto view = FirstView(at_bytes);
  return view != views_.end() && view->first < at_bytes &&
         view->first + view->second.bytes > at_bytes + bytes;
}

void Mapping::Forget(uint64_t at_bytes, uint64_t bytes, Views& spares) {
  const uint64_t end = at_bytes + bytes;
  auto view = FirstView(at_bytes);
  while (view != views_.end() && view->first < end) {
    const auto next = std::next(view);
    const uint64_t view_begin = view->first;
    const Shown shown = view->second;
    const uint64_t view_end = view_begin + shown.bytes;
    Views::node_type node = views_.extract(view);
    int kept = 0;
    const auto keep = [&](Views::node_type part, uint64_t from, uint64_t to) {
      part.key() = from;
      part.mapped() = shown;
      part.mapped().bytes = to - from;
      views_.insert(std::move(part));
      ++kept;
    };
    if (view_begin < at_bytes) keep(std::move(node), view_begin, at_bytes);
    if (view_end > end) {
      keep(
          kept == 0 ? std::move(node) : spares.extract(std::prev(spares.end())),
          end, view_end);
    }
    CountViews(shown, kept - 1);
    view = next;
  }
}

}  // namespace doppel
