// SPDX-License-Identifier: Apache-2.0
//
// Who has which side of a ring between processes: locks on bytes of its file, which the
// kernel takes back from a process that ends, however it ends (sys::TryLockByte).
//
//   file   ...│ header page                          │...
//               └ +0 the writer's  +1 the reader's  +3 a turn
//
// A turn lasts for some system calls. In it one looks who else has a side, and says that
// one has it oneself: no other process does so meanwhile. Its byte is not next to the
// others: to unlock a part of what the kernel has made one lock may want memory.
//
// Invariants:
//   1. What one object has locked is free again when the object ends, and in a child of
//      fork(2) at once; the parent has it still.
//
// Thread safety: one thread at a time; IsHeldElsewhere from any.
// Errors: those of fcntl(2). Unavailable for a turn that another process does not end
//   within a second.
//
// Example:
//   absl::StatusOr<SharedLocks::Turn> turn = locks.TakeTurn();
//   if (!turn.ok()) return turn.status();
//   absl::StatusOr<bool> mine = locks.TryTake(SharedSide::kWriter);

#ifndef DOPPEL_CONTAINERS_INTERNAL_SHARED_LOCKS_H_
#define DOPPEL_CONTAINERS_INTERNAL_SHARED_LOCKS_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/alloc/internal/process_fd.h"

namespace doppel::internal {

enum class SharedSide : uint8_t { kWriter, kReader };

// Asks again and again, for a second, while it is worth it. Whether it became true.
template <class Ask, class IsWorthIt>
absl::StatusOr<bool> AskFor(Ask ask, IsWorthIt is_worth_it) {
  const absl::Time deadline = absl::Now() + absl::Seconds(1);
  for (;;) {
    absl::StatusOr<bool> answer = ask();
    if (!answer.ok() || *answer) return answer;
    if (!is_worth_it() || absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Microseconds(50));
  }
}

class SharedLocks {
 public:
  // Ends when it is destroyed.
  class Turn {
   public:
    Turn(Turn&& other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    friend class SharedLocks;
    explicit Turn(const SharedLocks* locks) : locks_(locks) {}

    const SharedLocks* locks_;
  };

  // Of the ring whose header begins at `offset_bytes`. The file is opened anew: locks
  // are an open file's. REQUIRES: not open.
  absl::Status Open(int fd, uint64_t offset_bytes);
  // Never opened, or in a forked child: no.
  bool is_open() const { return file_.fd() >= 0; }
  // Gives up all that it has.
  void Close() { file_.Drop(); }

  absl::StatusOr<Turn> TakeTurn() const;
  // None if another process has one.
  std::optional<Turn> TryTurn() const;

  // False if another process has the side.
  absl::StatusOr<bool> TryTake(SharedSide side) const;
  void Leave(SharedSide side) const;
  // Whether another process has it.
  absl::StatusOr<bool> IsHeldElsewhere(SharedSide side) const;
  // Whether another process has a side.
  absl::StatusOr<bool> AreHeldElsewhere() const;

 private:
  uint64_t LockOf(SharedSide side) const {
    return offset_bytes_ + (side == SharedSide::kWriter ? 0 : 1);
  }
  uint64_t TurnLock() const { return offset_bytes_ + 3; }

  ProcessFd file_;
  uint64_t offset_bytes_ = 0;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SHARED_LOCKS_H_
