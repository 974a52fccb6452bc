// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/shared_locks.h"

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel::internal {

SharedLocks::Turn::~Turn() {
  if (locks_ == nullptr) return;
  sys::UnlockByte(locks_->file_.fd(), locks_->TurnLock());
}

absl::Status SharedLocks::Open(int fd, uint64_t offset_bytes) {
  const absl::StatusOr<int> file = sys::Reopen(fd);
  if (!file.ok()) return file.status();
  file_.Take(*file);
  offset_bytes_ = offset_bytes;
  return absl::OkStatus();
}

absl::StatusOr<SharedLocks::Turn> SharedLocks::TakeTurn() const {
  const absl::StatusOr<bool> taken =
      AskFor([this] { return sys::TryLockByte(file_.fd(), TurnLock()); },
             [] { return true; });
  if (!taken.ok()) return taken.status();
  if (*taken) return Turn(this);
  return absl::UnavailableError(
      "another process is taking a side of the ring, and does not go on: it is "
      "stopped, or debugged; try again");
}

std::optional<SharedLocks::Turn> SharedLocks::TryTurn() const {
  const absl::StatusOr<bool> taken = sys::TryLockByte(file_.fd(), TurnLock());
  if (!taken.ok() || !*taken) return std::nullopt;
  return Turn(this);
}

absl::StatusOr<bool> SharedLocks::TryTake(SharedSide side) const {
  return sys::TryLockByte(file_.fd(), LockOf(side));
}

void SharedLocks::Leave(SharedSide side) const {
  sys::UnlockByte(file_.fd(), LockOf(side));
}

absl::StatusOr<bool> SharedLocks::IsHeldElsewhere(SharedSide side) const {
  return sys::IsLockedElsewhere(file_.fd(), LockOf(side));
}

absl::StatusOr<bool> SharedLocks::AreHeldElsewhere() const {
  for (const SharedSide side : {SharedSide::kWriter, SharedSide::kReader}) {
    absl::StatusOr<bool> held = IsHeldElsewhere(side);
    if (!held.ok() || *held) return held;
  }
  return false;
}

}  // namespace doppel::internal
