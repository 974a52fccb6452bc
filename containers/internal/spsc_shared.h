// SPDX-License-Identifier: Apache-2.0
//
// The words that the two sides of a single-producer, single-consumer ring share.
//
//   offset 0     write_position   stored by the writer, loaded by the reader
//          128   read_position    stored by the reader, loaded by the writer
//          256   writer           where the writer left off, while nobody writes
//          384   reader           where the reader left off, while nobody reads
//          512
//
// Invariants:
//   1. Each position is alone on its line of kSharedLineBytes, and none is on the
//      pages that hold items: a store to one never takes a line from the other
//      side that it did not have to give up.
//   2. A position counts items since creation. It never goes back.
//   3. write_position - read_position is at most the capacity.
//   4. Only the holder of a Parking touches its offset.
//
// The line is 128 bytes and not hardware_destructive_interference_size: x86
// fetches lines of 64 in pairs, and the distance must be the same in every
// translation unit, whatever it was tuned for.
//
// Thread safety: positions are atomic, each with one thread that stores it. Parking
//   is handed over by Claim and Leave, which synchronize.
// Errors: none.
//
// Example:
//   SpscShared shared;
//   SpscWriterCursor writer(&shared.write_position, &shared.read_position, 512);

#ifndef DOPPEL_CONTAINERS_INTERNAL_SPSC_SHARED_H_
#define DOPPEL_CONTAINERS_INTERNAL_SPSC_SHARED_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace doppel::internal {

inline constexpr size_t kSharedLineBytes = 128;

// Where a side of the ring continues, and whether a handle of that side lives.
class alignas(kSharedLineBytes) SpscParking {
 public:
  // Whether the caller now holds this side; false if another handle does.
  bool Claim() { return !taken_.exchange(true, std::memory_order_acquire); }

  // Ends the hold. REQUIRES: the caller holds this side.
  void Leave(uint64_t offset_bytes) {
    offset_bytes_ = offset_bytes;
    taken_.store(false, std::memory_order_release);
  }

  bool taken() const { return taken_.load(std::memory_order_acquire); }

  // REQUIRES: the caller holds this side, or no handle of it lives.
  uint64_t offset_bytes() const { return offset_bytes_; }

 private:
  std::atomic<bool> taken_{false};
  uint64_t offset_bytes_ = 0;  // Byte offset of the next item in the memory.
};

struct SpscShared {
  alignas(kSharedLineBytes) std::atomic<uint64_t> write_position{0};
  alignas(kSharedLineBytes) std::atomic<uint64_t> read_position{0};
  SpscParking writer;
  SpscParking reader;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(offsetof(SpscShared, write_position) == 0);
static_assert(offsetof(SpscShared, read_position) == kSharedLineBytes);
static_assert(offsetof(SpscShared, writer) == 2 * kSharedLineBytes);
static_assert(offsetof(SpscShared, reader) == 3 * kSharedLineBytes);
static_assert(sizeof(SpscShared) == 4 * kSharedLineBytes);

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_SPSC_SHARED_H_
