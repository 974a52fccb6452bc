// SPDX-License-Identifier: Apache-2.0
//
// Mapping's use of mremap(2). Never on hugetlb: Linux 6.18 can hang for ever when a
// populated shared hugetlb mapping is moved.

#include <sys/mman.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/bad_alloc.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"

namespace doppel {

namespace sys = internal::sys;
using internal::CatchBadAlloc;

const Mapping::Shown* Mapping::FindView(uint64_t at_bytes,
                                        uint64_t bytes) const {
  const auto view = FirstView(at_bytes);
  return view != views_.end() && view->first <= at_bytes &&
                 view->first + view->second.bytes >= at_bytes + bytes
             ? &view->second
             : nullptr;
}

absl::Status Mapping::CheckMovable(uint64_t from_bytes, uint64_t bytes,
                                   const Mapping& to, uint64_t to_bytes) const {
  if (absl::Status s = CheckRange(from_bytes, bytes, BasePageBytes());
      !s.ok()) {
    return s;
  }
  if (absl::Status s = to.CheckRange(to_bytes, bytes, BasePageBytes());
      !s.ok()) {
    return s;
  }
  const std::byte* const source = data_ + from_bytes;
  const std::byte* const target = to.data_ + to_bytes;
  if (source < target + bytes && target < source + bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "positions ", from_bytes, " and ", to_bytes, " are less than ", bytes,
        " bytes apart: ranges must not "
        "overlap"));
  }
  const Shown* view = FindView(from_bytes, bytes);
  if (view == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(bytes, " bytes at position ", from_bytes,
                     " are not of one view: move each view by itself"));
  }
  if (view->hugetlb()) {
    return absl::FailedPreconditionError(
        "kernels cannot move hugetlb pages: Show them there, then Hide them "
        "here");
  }
  return absl::OkStatus();
}

absl::Status Mapping::Move(uint64_t from_bytes, uint64_t bytes, Mapping& to,
                           uint64_t to_bytes) {
  if (absl::Status s = CheckMovable(from_bytes, bytes, to, to_bytes); !s.ok()) {
    return s;
  }
  Shown moved = *FindView(from_bytes, bytes);
  moved.bytes = bytes;
  constexpr int kFlags =
      MREMAP_MAYMOVE | MREMAP_FIXED | internal::kMremapDontUnmap;
  std::byte* const source = data_ + from_bytes;
  std::byte* const target = to.data_ + to_bytes;
  const auto remap = [&](std::byte* there, std::byte* here) {
    return CatchBadAlloc([&] {
      return sys::Mremap(there, bytes, bytes, kFlags, here).status();
    });
  };
  // Two for the record at the target, one for the source.
  Views spares;
  if (absl::Status s = Fill(spares, 3); !s.ok()) return s;
  if (absl::Status s = remap(source, target); !s.ok()) {
    to.MendHole(to_bytes, bytes);
    return s;
  }
  if (moved.dont_fork) to.dont_fork_process_ = dont_fork_process_;
  to.Record(to_bytes, std::move(moved), spares);
  absl::Status concealed = Conceal(from_bytes, bytes, spares);
  if (!concealed.ok()) {
    // Private pages of the view exist at the target only: back with them.
    remap(target, source).IgnoreError();
    to.Conceal(to_bytes, bytes, spares).IgnoreError();
  }
  return concealed;
}

absl::Status Mapping::Alias(uint64_t from_bytes, uint64_t bytes,
                            uint64_t to_bytes) {
  if (absl::Status s = CheckMovable(from_bytes, bytes, *this, to_bytes);
      !s.ok()) {
    return s;
  }
  Shown alias = *FindView(from_bytes, bytes);
  if (!alias.shared) {
    return absl::FailedPreconditionError(
        "a private view has pages of its own: only shared ones can be aliased");
  }
  alias.bytes = bytes;
  Views spares;
  if (absl::Status s = Fill(spares, 2); !s.ok()) return s;
  absl::Status aliased = CatchBadAlloc([&] {
    return sys::Mremap(data_ + from_bytes, 0, bytes,
                       MREMAP_MAYMOVE | MREMAP_FIXED, data_ + to_bytes)
        .status();
  });
  if (!aliased.ok()) {
    MendHole(to_bytes, bytes);
    return aliased;
  }
  Record(to_bytes, std::move(alias), spares);
  return absl::OkStatus();
}

}  // namespace doppel
