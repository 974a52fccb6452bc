// SPDX-License-Identifier: Apache-2.0
//
// Mapping's dealings with the pages of what it shows: advice, locks, population.

#include <sys/mman.h>

#include <cstdint>

#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"

namespace doppel {
namespace {

namespace sys = internal::sys;

int AdviceValue(Advice advice) {
  switch (advice) {
    case Advice::kNormal:
      return MADV_NORMAL;
    case Advice::kRandom:
      return MADV_RANDOM;
    case Advice::kSequential:
      return MADV_SEQUENTIAL;
    case Advice::kWillNeed:
      return MADV_WILLNEED;
    case Advice::kDontNeed:
      return MADV_DONTNEED;
    case Advice::kRemove:
      return MADV_REMOVE;
    case Advice::kDontFork:
      return MADV_DONTFORK;
    case Advice::kDoFork:
      return MADV_DOFORK;
    case Advice::kMergeable:
      return MADV_MERGEABLE;
    case Advice::kUnmergeable:
      return MADV_UNMERGEABLE;
    case Advice::kHugePage:
      return MADV_HUGEPAGE;
    case Advice::kNoHugePage:
      return MADV_NOHUGEPAGE;
    case Advice::kDontDump:
      return MADV_DONTDUMP;
    case Advice::kDoDump:
      return MADV_DODUMP;
    case Advice::kFree:
      return MADV_FREE;
    case Advice::kCold:
      return internal::kMadvCold;
    case Advice::kPageOut:
      return internal::kMadvPageOut;
    case Advice::kPopulateRead:
      return internal::kMadvPopulateRead;
    case Advice::kPopulateWrite:
      return internal::kMadvPopulateWrite;
    case Advice::kCollapse:
      return internal::kMadvCollapse;
  }
  return -1;
}

int SyncFlags(SyncMode mode) {
  switch (mode) {
    case SyncMode::kAsync:
      return MS_ASYNC;
    case SyncMode::kSync:
      return MS_SYNC;
    case SyncMode::kInvalidate:
      return MS_SYNC | MS_INVALIDATE;
  }
  return 0;
}

}  // namespace

absl::Status Mapping::Advise(uint64_t at_bytes, uint64_t bytes, Advice advice) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  // Before the call: one that fails may have taken effect in part (madvise(2)).
  if (advice == Advice::kDontFork) MarkDontFork(at_bytes, bytes);
  absl::Status advised =
      sys::Madvise(data_ + at_bytes, bytes, AdviceValue(advice));
  if (advised.ok() && advice == Advice::kDoFork) {
    UnmarkDontFork(at_bytes, bytes);
  }
  return advised;
}

void Mapping::MarkDontFork(uint64_t at_bytes, uint64_t bytes) {
  dont_fork_process_ = sys::ProcessId();
  const auto first = FirstView(at_bytes);
  // The same place, to be changed.
  for (auto view = views_.erase(first, first);
       view != views_.end() && view->first < at_bytes + bytes; ++view) {
    if (!view->second.dont_fork) ++dont_fork_views_;
    view->second.dont_fork = true;
  }
}

void Mapping::UnmarkDontFork(uint64_t at_bytes, uint64_t bytes) {
  for (auto view = views_.lower_bound(at_bytes);
       view != views_.end() &&
       view->first + view->second.bytes <= at_bytes + bytes;
       ++view) {
    if (view->second.dont_fork) --dont_fork_views_;
    view->second.dont_fork = false;
  }
}

absl::Status Mapping::Lock(uint64_t at_bytes, uint64_t bytes, LockMode mode) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  return sys::Mlock(data_ + at_bytes, bytes,
                    mode == LockMode::kOnFault ? MLOCK_ONFAULT : 0U);
}

absl::Status Mapping::Unlock(uint64_t at_bytes, uint64_t bytes) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  return sys::Munlock(data_ + at_bytes, bytes);
}

absl::Status Mapping::Sync(uint64_t at_bytes, uint64_t bytes, SyncMode mode) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  return sys::Msync(data_ + at_bytes, bytes, SyncFlags(mode));
}

absl::Status Mapping::Populate(uint64_t at_bytes, uint64_t bytes,
                               Protection access) {
  if (access != Protection::kRead && access != Protection::kReadWrite) {
    return absl::InvalidArgumentError(
        "pages are populated for kRead or kReadWrite");
  }
  return Advise(at_bytes, bytes,
                access == Protection::kRead ? Advice::kPopulateRead
                                            : Advice::kPopulateWrite);
}

absl::Status Mapping::PopulateHuge(uint64_t at_bytes, uint64_t bytes) {
  if (absl::Status s = CheckShown(at_bytes, bytes); !s.ok()) return s;
  const uint64_t unit_bytes = TransparentPageBytes();
  if (unit_bytes != 0) {
    const auto begin = reinterpret_cast<uintptr_t>(data_ + at_bytes);
    const uint64_t skipped = (unit_bytes - begin % unit_bytes) % unit_bytes;
    const uint64_t units = skipped < bytes ? (bytes - skipped) / unit_bytes : 0;
    std::byte* const first = data_ + at_bytes + skipped;
    // MADV_COLLAPSE leaves alone what was hinted against, and before 6.1 the hint is
    // all that there is.
    if (units > 0) {
      sys::Madvise(first, units * unit_bytes, MADV_HUGEPAGE).IgnoreError();
    }
    // MADV_COLLAPSE joins what is there: a unit without any page is EINVAL.
    for (uint64_t unit = 0; unit < units; ++unit) {
      absl::Status s = sys::Madvise(first + unit * unit_bytes, BasePageBytes(),
                                    internal::kMadvPopulateWrite);
      if (!s.ok()) return s;
    }
    // A unit that cannot be joined now (no huge page free, or the file's offset
    // does not agree) stays on base pages.
    if (units > 0) {
      sys::Madvise(first, units * unit_bytes, internal::kMadvCollapse)
          .IgnoreError();
    }
  }
  return Populate(at_bytes, bytes, Protection::kReadWrite);
}

absl::StatusOr<Residency> Mapping::Query(uint64_t at_bytes,
                                         uint64_t bytes) const {
  if (absl::Status s = CheckRange(at_bytes, bytes, BasePageBytes()); !s.ok()) {
    return s;
  }
  return QueryResidency(data_ + at_bytes, bytes);
}

absl::Status LockProcess(bool current, bool future, LockMode mode) {
  return sys::Mlockall((current ? MCL_CURRENT : 0) | (future ? MCL_FUTURE : 0) |
                       (mode == LockMode::kOnFault ? MCL_ONFAULT : 0));
}

absl::Status UnlockProcess() { return sys::Munlockall(); }

}  // namespace doppel
