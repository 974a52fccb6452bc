// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_identity.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace doppel::internal {
namespace {

absl::Status NoRing(absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("the file holds no ring that fits: ", why));
}

absl::Status CheckKind(const RingIdentity& identity,
                       const IdentityDemand& demand) {
  if (identity.magic != kRingMagic) return NoRing("it begins with no ring");
  if (identity.version != kRingVersion) {
    return NoRing(absl::StrCat("its layout is version ", identity.version,
                               ", this program's is ", kRingVersion));
  }
  if (identity.item_bytes != demand.item_bytes) {
    return NoRing(absl::StrCat("its items have ", identity.item_bytes,
                               " bytes, this program's have ",
                               demand.item_bytes));
  }
  if (identity.sides != demand.sides) {
    return NoRing("it has the words of other sides than are asked for");
  }
  return absl::OkStatus();
}

// REQUIRES: the file has `page_bytes`, and the ring begins at `offset_bytes`.
absl::Status CheckPlaces(const RingIdentity& identity,
                         const IdentityDemand& demand, uint64_t page_bytes,
                         uint64_t file_bytes, uint64_t offset_bytes) {
  if (identity.page_bytes != page_bytes) {
    return NoRing(absl::StrCat("its pages have ", identity.page_bytes,
                               " bytes, the file's have ", page_bytes));
  }
  const uint64_t capacity = identity.capacity_bytes;
  if (demand.has_items ? capacity == 0 || capacity % page_bytes != 0 ||
                             capacity < identity.item_bytes
                       : capacity != 0) {
    return NoRing(absl::StrCat("a capacity of ", capacity,
                               " bytes is not whole pages of items"));
  }
  if (capacity > demand.max_capacity_bytes) {
    return NoRing(absl::StrCat("its capacity is ", capacity,
                               " bytes, more than the ",
                               demand.max_capacity_bytes, " that are allowed"));
  }
  const uint64_t items = identity.items_offset_bytes;
  // No sum that could overflow.
  const auto fits = [&](uint64_t begin, uint64_t bytes) {
    return begin % page_bytes == 0 && begin <= file_bytes &&
           bytes <= file_bytes - begin;
  };
  if (!fits(offset_bytes, page_bytes) || !fits(items, capacity)) {
    return NoRing(absl::StrCat("it reaches over the end of the file, which is ",
                               file_bytes, " bytes, or begins within a page"));
  }
  const bool overlap = items < offset_bytes + page_bytes &&
                       offset_bytes < items + capacity && capacity > 0;
  if (overlap) return NoRing("its items stand on its header");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RingIdentity> ReadIdentity(const Memfd& memfd,
                                          uint64_t offset_bytes,
                                          const IdentityDemand& demand) {
  const absl::StatusOr<Memfd::Stat> stat = memfd.Query();
  if (!stat.ok()) return stat.status();
  RingIdentity identity;
  const std::span<std::byte> bytes =
      std::as_writable_bytes(std::span(&identity, 1));
  const absl::StatusOr<size_t> read = memfd.ReadAt(offset_bytes, bytes);
  if (!read.ok()) return read.status();
  if (*read != bytes.size()) return NoRing("the file ends within its header");
  if (absl::Status kind = CheckKind(identity, demand); !kind.ok()) return kind;
  if (absl::Status places = CheckPlaces(identity, demand, memfd.page_bytes(),
                                        stat->size_bytes, offset_bytes);
      !places.ok()) {
    return places;
  }
  return identity;
}

}  // namespace doppel::internal
