// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_file.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/mirror.h"

namespace doppel::internal {
namespace {

uint64_t RoundUp(uint64_t bytes, uint64_t page_bytes) {
  return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

// A mapping of one page, in which show(mapping) shows it.
template <class Show>
absl::StatusOr<Mapping> ShowPage(uint64_t page_bytes, Show show) {
  absl::StatusOr<Mapping> page = Mapping::Reserve(page_bytes, page_bytes);
  if (!page.ok()) return page.status();
  if (absl::Status shown = show(*page); !shown.ok()) return shown;
  return page;
}

// Pages for the items and, which one learns only then, for a header of one page more.
absl::StatusOr<PageGrant> GrantFor(const RingFileDemand& demand) {
  if (demand.page_size.kind() == PageSize::Kind::kTransparent) {
    return absl::InvalidArgumentError(
        "a ring's own file has base or hugetlb pages, no transparent ones; ask "
        "for "
        "those by RingOptions::arena, or for PageSize::BestAvailable()");
  }
  absl::StatusOr<PageGrant> items =
      GrantPageSize(demand.page_size, demand.min_bytes);
  if (!items.ok() || !items->granted.is_hugetlb()) return items;
  const uint64_t page_bytes = items->granted.hugetlb_bytes();
  return GrantPageSize(demand.page_size,
                       RoundUp(demand.min_bytes, page_bytes) + page_bytes);
}

}  // namespace

absl::StatusOr<RingFile> MakeRingFile(const RingFileDemand& demand) {
  if (absl::Status fits = sys::CheckMemory(demand.min_bytes); !fits.ok()) {
    return fits;
  }
  const absl::StatusOr<PageGrant> grant = GrantFor(demand);
  if (!grant.ok()) return grant.status();
  absl::StatusOr<Memfd> memfd =
      Memfd::Create({.name = demand.name, .page_size = grant->granted});
  if (!memfd.ok()) return memfd.status();
  const uint64_t page_bytes = memfd->page_bytes();
  RingFile file;
  file.memfd = *std::move(memfd);
  file.identity.page_bytes = static_cast<uint32_t>(page_bytes);
  file.identity.items_offset_bytes = page_bytes;
  file.identity.capacity_bytes = RoundUp(demand.min_bytes, page_bytes);
  file.identity.item_bytes = demand.item_bytes;
  file.identity.sides = demand.sides;
  if (absl::Status sized =
          file.memfd.Resize(page_bytes + file.identity.capacity_bytes);
      !sized.ok()) {
    return sized;
  }
  return file;
}

absl::StatusOr<Memfd> AdoptRingFile(int fd) {
  absl::StatusOr<Memfd> memfd = Memfd::Adopt(fd, {});
  if (!memfd.ok() && fd >= 0) sys::Close(fd);
  return memfd;
}

absl::StatusOr<Mapping> ShowHeader(const Memfd& memfd, uint64_t offset_bytes,
                                   const RingView& view) {
  const uint64_t page_bytes = memfd.page_bytes();
  return ShowPage(page_bytes, [&](Mapping& page) {
    absl::Status shown =
        page.Show(memfd, offset_bytes, page_bytes, 0,
                  {.protection = view.protection, .populate = true});
    if (!shown.ok() || !view.lock) return shown;
    return page.Lock(0, page_bytes);
  });
}

absl::StatusOr<Mapping> ShowHeader(const Extent& extent) {
  return ShowPage(extent.size_bytes(), [&](Mapping& page) {
    return page.Show(extent, 0, {.populate = true});
  });
}

absl::StatusOr<Mirror> ShowItems(const Memfd& memfd,
                                 const RingIdentity& identity,
                                 const RingView& view) {
  absl::StatusOr<Mirror> items = Mirror::OfFile(
      memfd, identity.items_offset_bytes, identity.capacity_bytes,
      Mirror::kMaxViews, view.protection);
  if (!items.ok() || !view.lock) return items;
  if (absl::Status locked = items->Lock(); !locked.ok()) return locked;
  return items;
}

}  // namespace doppel::internal
