// SPDX-License-Identifier: Apache-2.0
//
// What a single-producer, single-consumer ring holds, whatever its items are: the
// memory, the shared words, and the numbers that follow from the item's size.
//
// Two layouts, told apart by how many views the memory has:
//
//   items that are trivially copyable       all others, and the canonical build
//   lap = the mirror's distance             lap = capacity * item size
//   │0│1│2│3│4│5│6│7│8│9│ first view        │0│1│2│3│4│5│6│7│8│9│  │ only view
//                      └┤10│ ... second                          └ unused
//   an item may reach into the second       an item is whole, and has one address
//   view, and so may a span
//
// Invariants:
//   1. capacity_items * item size <= lap_bytes <= mirror.size_bytes().
//   2. An offset is below lap_bytes. It goes back by lap_bytes when it reaches it.
//   3. An item that is not trivially copyable is reached by one address for its
//      whole life. An object may hold its own address (std::string does), and
//      another alias would be another object to it.
//
// Thread safety: a value type; the memory is guarded by SpscProtocol.
// Errors: MakeSpscStorage says what failed, and holds nothing then.
//
// Example:
//   absl::StatusOr<SpscStorage> storage = MakeSpscStorage(
//       {.min_capacity_items = 100, .item_bytes = 8, .spans_wrap = true}, {});

#ifndef DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_
#define DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/containers/internal/mirror.h"
#include "doppel/containers/internal/spsc_pacing.h"
#include "doppel/containers/internal/spsc_shared.h"

namespace doppel {

// Whether the consumer writes to the cache lines that it has read, before it hands
// them back (see spsc_ring.h, "Line ownership").
enum class LineOwnership : uint8_t { kAuto, kOn, kOff };

struct SpscRingOptions {
  std::shared_ptr<Arena> arena = nullptr;  // nullptr: Arena::Default().
  LineOwnership line_ownership = LineOwnership::kAuto;
};

namespace internal {

inline constexpr uint64_t kCacheLineBytes = 64;

struct SpscStorage {
  Mirror mirror;
  std::unique_ptr<SpscShared> shared;  // On the heap: handles point to it.
  int owner_process = 0;
  uint64_t capacity_items = 0;
  uint64_t lap_bytes = 0;   // Where an offset wraps.
  bool owns_lines = false;  // What kAuto became.
  SpscPacing pacing;        // As each cursor starts.
  // Canonical build, trivially copyable items: where a span that wraps is put
  // together, a buffer each side.
  Mirror writer_scratch;
  Mirror reader_scratch;
};

// Whether this process made the ring (fork(2)).
bool InOwnerProcess(const SpscStorage& storage);

struct SpscDemand {
  uint64_t min_capacity_items = 0;
  uint64_t item_bytes = 1;
  bool spans_wrap = false;  // Whether items are trivially copyable.
};

// Fails with InvalidArgument for a capacity of 0, OutOfRange if the size in bytes
// overflows, and as Mirror::Create does.
absl::StatusOr<SpscStorage> MakeSpscStorage(const SpscDemand& demand,
                                            const SpscRingOptions& options);

// The size of the level-2 cache of the machine's first core. Machines that do not
// tell are taken to have kUnknownCacheBytes.
inline constexpr uint64_t kUnknownCacheBytes = uint64_t{512} << 10;
uint64_t CacheBytes();

// Where one side stands in the memory. Whoever has a place holds that side of the
// ring; its end leaves the offset for the next one.
class SpscPlace {
 public:
  // REQUIRES: nobody holds this side; it outlives the place.
  SpscPlace(SpscParking& side, const SpscStorage& storage)
      : data_(storage.mirror.data()), lap_bytes_(storage.lap_bytes) {
    [[maybe_unused]] const bool claimed = side.Claim();
    ABSL_HARDENING_ASSERT(claimed && "one handle of each side at a time");
    side_ = &side;
    offset_bytes_ = side.offset_bytes();
  }

  SpscPlace(SpscPlace&& other) noexcept
      : side_(std::exchange(other.side_, nullptr)),
        data_(other.data_),
        lap_bytes_(other.lap_bytes_),
        offset_bytes_(other.offset_bytes_) {}
  SpscPlace& operator=(SpscPlace&& other) noexcept {
    if (this == &other) return *this;
    Leave();
    side_ = std::exchange(other.side_, nullptr);
    data_ = other.data_;
    lap_bytes_ = other.lap_bytes_;
    offset_bytes_ = other.offset_bytes_;
    return *this;
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE ~SpscPlace() { Leave(); }

  std::byte* here() const { return data_ + offset_bytes_; }

  // Bytes from here to where the offset goes back to 0.
  uint64_t bytes_to_wrap() const { return lap_bytes_ - offset_bytes_; }

  // REQUIRES: bytes <= the lap.
  void Advance(uint64_t bytes) {
    offset_bytes_ += bytes;
    if (offset_bytes_ >= lap_bytes_) offset_bytes_ -= lap_bytes_;
  }

  // Calls f(begin, bytes) for the runs of addresses that the next `bytes` bytes
  // of trivially copyable items are: one where they are mirrored, else up to two.
  template <class F>
  void ForEachRun(uint64_t bytes, F f) const {
    if constexpr (Mirror::kMaxViews == 2) {
      f(here(), bytes);
    } else {
      const uint64_t first = std::min(bytes, bytes_to_wrap());
      f(here(), first);
      if (first < bytes) f(data_, bytes - first);
    }
  }

 private:
  // Inlined on every path, unwinding too: a handle whose address is passed to a
  // function lives in memory, and all its cursors with it.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Leave() {
    if (side_ != nullptr) side_->Leave(offset_bytes_);
  }

  SpscParking* side_ = nullptr;  // Null: moved from.
  std::byte* data_;              // Copies: see SpscStorage.
  uint64_t lap_bytes_;
  uint64_t offset_bytes_ = 0;  // Below lap_bytes_.
};

// Writes a byte to each cache line that ends within the run. The byte is in the
// run, so it is the caller's even where the rest of its line no longer is.
inline void TakeLines(std::byte* begin, uint64_t bytes) {
  // The first line ends as far ahead as the address's low bits lack ones.
  for (uint64_t last = ~reinterpret_cast<uintptr_t>(begin) % kCacheLineBytes;
       last < bytes; last += kCacheLineBytes) {
    begin[last] = std::byte{0};
  }
}

}  // namespace internal
}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_INTERNAL_SPSC_STORAGE_H_
