// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/guarded_peer.h"

#include <cstdint>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/memfd.h"

namespace doppel::internal {
namespace {

// The kernel adds kExec to files that cannot be executed, where it knows of it (6.3).
absl::Status RequireSeals(const Memfd& memfd) {
  if (memfd.RequireSeals(kGuardedRingSeals | Seal::kExec).ok()) {
    return absl::OkStatus();
  }
  return memfd.RequireSeals(kGuardedRingSeals);
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

}  // namespace

absl::StatusOr<GuardedPeer> ShowPeer(Memfd file, const IdentityDemand& demand,
                                     bool lock) {
  if (absl::Status sealed = RequireSeals(file); !sealed.ok()) return sealed;
  const absl::StatusOr<RingIdentity> identity = ReadIdentity(file, 0, demand);
  if (!identity.ok()) return identity.status();
  if (absl::Status size = CheckSize(file, *identity); !size.ok()) return size;
  absl::StatusOr<Mapping> page =
      ShowHeader(file, 0, {.protection = Protection::kRead, .lock = lock});
  if (!page.ok()) return page.status();
  GuardedPeer peer;
  peer.file = std::move(file);
  peer.page = *std::move(page);
  peer.identity = *identity;
  peer.header =
      std::launder(reinterpret_cast<const RingHeader<>*>(peer.page.data()));
  return peer;
}

}  // namespace doppel::internal
