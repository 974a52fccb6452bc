// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/mirror.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"

namespace doppel::internal {
namespace {

absl::Status CheckFits(uint64_t bytes, int views) {
  if (bytes == 0) {
    return absl::InvalidArgumentError(
        "a mirror of 0 bytes; ask for at least 1");
  }
  if (bytes >
      std::numeric_limits<uint64_t>::max() / 4 / static_cast<uint64_t>(views)) {
    return absl::OutOfRangeError(absl::StrCat(
        bytes, " bytes shown ", views, " times overflow the address space"));
  }
  return sys::CheckMemory(bytes);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Arena>> ArenaOrDefault(
    std::shared_ptr<Arena> asked) {
  if (asked != nullptr) return asked;
  return Arena::Default();
}

absl::StatusOr<Mirror> Mirror::Create(const std::shared_ptr<Arena>& arena,
                                      uint64_t min_bytes, int views) {
  ABSL_HARDENING_ASSERT(arena != nullptr);
  ABSL_HARDENING_ASSERT(1 <= views && views <= kMaxViews);
  if (absl::Status fits = CheckFits(min_bytes, views); !fits.ok()) return fits;

  absl::StatusOr<Extent> extent = arena->Allocate(min_bytes);
  if (!extent.ok()) return extent.status();
  Mirror mirror;
  mirror.extent_ = *std::move(extent);
  mirror.size_bytes_ = mirror.extent_.size_bytes();
  mirror.views_ = views;
  // Huge pages need addresses that are as aligned as the file.
  const bool may_be_huge = mirror.size_bytes_ >= arena->huge_unit_bytes();
  if (absl::Status shown = mirror.ShowAll(
          may_be_huge ? arena->huge_unit_bytes() : arena->page_bytes(),
          [&](uint64_t at_bytes, bool populate) {
            return mirror.mapping_.Show(mirror.extent_, at_bytes,
                                        {.populate = populate});
          });
      !shown.ok()) {
    return shown;
  }
  return mirror;
}

absl::StatusOr<Mirror> Mirror::OfFile(const Memfd& memfd, uint64_t offset_bytes,
                                      uint64_t bytes, int views,
                                      Protection protection) {
  ABSL_HARDENING_ASSERT(1 <= views && views <= kMaxViews);
  if (absl::Status fits = CheckFits(bytes, views); !fits.ok()) return fits;
  Mirror mirror;
  mirror.size_bytes_ = bytes;
  mirror.views_ = views;
  // As in Create: whoever made the file may have asked for transparent pages.
  const bool may_be_huge = bytes >= TransparentPageBytes();
  if (absl::Status shown = mirror.ShowAll(
          may_be_huge ? std::max(memfd.page_bytes(), TransparentPageBytes())
                      : memfd.page_bytes(),
          [&](uint64_t at_bytes, bool populate) {
            return mirror.mapping_.Show(
                memfd, offset_bytes, bytes, at_bytes,
                {.protection = protection, .populate = populate});
          });
      !shown.ok()) {
    return shown;
  }
  return mirror;
}

template <class ShowOne>
absl::Status Mirror::ShowAll(uint64_t alignment_bytes, ShowOne show_one) {
  absl::StatusOr<Mapping> mapping = Mapping::Reserve(
      size_bytes_ * static_cast<uint64_t>(views_), alignment_bytes);
  if (!mapping.ok()) return mapping.status();
  mapping_ = *std::move(mapping);
  for (int view = 0; view < views_; ++view) {
    const uint64_t at_bytes = size_bytes_ * static_cast<uint64_t>(view);
    if (absl::Status shown = show_one(at_bytes, /*populate=*/view == 0);
        !shown.ok()) {
      return shown;
    }
    if (view == 0) continue;
    // The pages are there: what is left is to enter them in the page table. Populated
    // for reading, shared pages are entered writable all the same, in less time.
    if (absl::Status entered =
            mapping_.Populate(at_bytes, size_bytes_, Protection::kRead);
        !entered.ok()) {
      return entered;
    }
    // A core file would hold the same bytes once for each view.
    if (absl::Status hidden =
            mapping_.Advise(at_bytes, size_bytes_, Advice::kDontDump);
        !hidden.ok()) {
      return hidden;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Mirror> MakeScratch(const Mirror& items,
                                   const std::shared_ptr<Arena>& arena) {
  if (items.views() == 2) return Mirror();
  const absl::StatusOr<std::shared_ptr<Arena>> found = ArenaOrDefault(arena);
  if (!found.ok()) return found.status();
  return Mirror::Create(*found, items.size_bytes(), 1);
}

}  // namespace doppel::internal
