// SPDX-License-Identifier: Apache-2.0
//
// The virtual side: one reserved range of addresses that shows extents.
//
//   ┌───────┬──────────────┬──────────────┬ ─ ─ ─ ─ ─ ─ ─┬───────┐
//   │ guard │   extent A   │   extent A   │ inaccessible  │ guard │
//   └───────┴──────────────┴──────────────┴ ─ ─ ─ ─ ─ ─ ─┴───────┘
//           │◀─ data()           size_bytes()            ▶│
//   An extent that is shown twice has two alias mappings: one page, two addresses.
//
// Invariants:
//   1. [data(), data() + size_bytes()) belongs to this object from Reserve to its
//      end; what is not shown is inaccessible. Nothing else can land in it.
//   2. An inaccessible guard of at least one base page stands at both ends. Guards
//      differ from all neighbours, so that the kernel joins no mapping of this
//      range with one of another's.
//   3. A range is never unmapped in parts and never trimmed: showing and hiding
//      replace in place (MAP_FIXED), so no call needs a mapping more than
//      vm.max_map_count to undo what was done, and the destructor's one munmap(2)
//      covers whole mappings.
//   4. A failed Show leaves the range as it was, or hidden where the kernel had
//      replaced it already; it never leaves a part shown.
//   5. In a forked child that lacks a part of the range (MADV_DONTFORK) nothing is
//      shown, hidden or unmapped any more: other mappings may stand in the gap. So it
//      is in children of a time when some view was advised kDontFork, all or a part
//      of it, and was neither hidden since nor, as a whole, advised kDoFork.
//   6. What is done to a range is written down in memory that was got before: no
//      call ends with a view that this object knows nothing of, and the destructor
//      takes no memory from the heap.
//
// Positions are bytes from data(); ranges are multiples of the page size of what
// they show, a base page otherwise. One thread that reaches a byte through two
// aliases needs a barrier between: compilers take the addresses for different
// objects.
//
// Thread safety: as a std::vector's: const members together, others alone. The
//   memory itself may be used by any thread meanwhile, where it is not replaced.
// Errors: InvalidArgument for a range that is misaligned or out of the mapping,
//   else the status of the system call; see each function. Where the heap has no
//   memory left, ResourceExhausted without a message, or std::bad_alloc in place of
//   an error whose message finds none.
//
// Example:
//   absl::StatusOr<Mapping> mapping = Mapping::Reserve(2 * extent.size_bytes());
//   absl::Status first = mapping->Show(extent, 0);
//   absl::Status second = mapping->Show(extent, extent.size_bytes());

#ifndef DOPPEL_ALLOC_MAPPING_H_
#define DOPPEL_ALLOC_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"

namespace doppel {

// What may be done with shown pages (mprotect(2)).
enum class Protection : uint8_t { kNone, kRead, kReadWrite, kReadExecute };

// Every advice of madvise(2) for memory in use. "Since" is the first Linux.
enum class Advice : uint8_t {
  kNormal,
  kRandom,
  kSequential,
  kWillNeed,
  kDontNeed,  // Frees nothing of a shared mapping: punch holes instead.
  kRemove,    // Punches the hole in the file.
  kDontFork,
  kDoFork,
  kMergeable,  // Takes effect on private pages only.
  kUnmergeable,
  kHugePage,
  kNoHugePage,
  kDontDump,
  kDoDump,
  kFree,           // InvalidArgument on shared mappings.
  kCold,           // Since 5.4.
  kPageOut,        // Since 5.4.
  kPopulateRead,   // Since 5.14.
  kPopulateWrite,  // Since 5.14.
  kCollapse,       // Since 6.1.
};

enum class Sharing : uint8_t { kShared, kPrivate };
enum class SyncMode : uint8_t { kAsync, kSync, kInvalidate };  // msync(2)
enum class LockMode : uint8_t { kNow, kOnFault };              // mlock2(2)

// How a part of a file is shown.
struct ViewOptions {
  Protection protection = Protection::kReadWrite;
  // kPrivate: writes go to a copy of the page (MAP_PRIVATE). Not a snapshot: a page
  // that was not written yet shows what others write.
  Sharing sharing = Sharing::kShared;
  bool populate = false;
  // Of an arena's transparent pages: whether a touch may bring a whole unit, as
  // shmem_enabled says. false: only PopulateHuge brings huge pages.
  bool huge_on_touch = true;
};

class Mapping {
 public:
  using View = ViewOptions;

  // Reserves addresses: no memory, but RLIMIT_AS counts them. `bytes` is rounded
  // up to a base page; data() is a multiple of `alignment_bytes` (a power of two;
  // 0: a base page), by reserving more, not by trimming. InvalidArgument for 0 or a
  // size that overflows, ResourceExhausted without addresses or mappings.
  static absl::StatusOr<Mapping> Reserve(uint64_t bytes,
                                         uint64_t alignment_bytes = 0);

  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Shows an extent, or a part of one, at a position; what was shown there before
  // is replaced. The extent must outlive the view. The arena's policies apply: its
  // populate, lock and fork policies, and where its pages are transparent a hint for
  // or against huge ones. Populating reports pages that cannot be had
  // (ResourceExhausted) instead of a later SIGBUS.
  absl::Status Show(const Extent& extent, uint64_t at_bytes,
                    const View& view = {});
  absl::Status Show(const Extent& extent, uint64_t extent_offset_bytes,
                    uint64_t bytes, uint64_t at_bytes, const View& view = {});
  // The same for a descriptor from elsewhere, which must stay as large as what is
  // shown: touching pages behind the end of a file is SIGBUS. OutOfRange if it is
  // smaller now.
  absl::Status Show(const Memfd& memfd, uint64_t offset_bytes, uint64_t bytes,
                    uint64_t at_bytes, const View& view = {});

  // Makes a range inaccessible again. The pages stay in their file.
  absl::Status Hide(uint64_t at_bytes, uint64_t bytes);

  absl::Status Protect(uint64_t at_bytes, uint64_t bytes,
                       Protection protection);
  absl::Status Advise(uint64_t at_bytes, uint64_t bytes, Advice advice);
  // ResourceExhausted or PermissionDenied names RLIMIT_MEMLOCK.
  absl::Status Lock(uint64_t at_bytes, uint64_t bytes,
                    LockMode mode = LockMode::kNow);
  absl::Status Unlock(uint64_t at_bytes, uint64_t bytes);
  absl::Status Sync(uint64_t at_bytes, uint64_t bytes, SyncMode mode);

  // Gives the range its pages now: for reading (kRead: maps what the file has, and
  // zeros) or writing. Contents stay. Errors come back where a touch would be
  // SIGBUS. Where the kernel lacks MADV_POPULATE_* (before 5.14), InvalidArgument.
  absl::Status Populate(uint64_t at_bytes, uint64_t bytes,
                        Protection access = Protection::kReadWrite);

  // Populates for writing and has the kernel join whole transparent units into huge
  // pages at once (MADV_COLLAPSE, since 6.1), where the position and the file's offset
  // agree; what it will not join stays on base pages. Needs no privilege, whatever
  // shmem_enabled says. Before 6.1 the units are hinted (kHugePage) only.
  absl::Status PopulateHuge(uint64_t at_bytes, uint64_t bytes);

  // Moves a part of one view to another mapping, or within this one, with its
  // page-table entries (mremap(2)): no page is faulted in again. The source is
  // inaccessible afterwards, and never unmapped in between (MREMAP_DONTUNMAP, since
  // 5.13); what was shown at the target is replaced. Ranges must not overlap. An
  // error leaves the source as it was. FailedPrecondition for a range that is not one
  // view, and for hugetlb pages, which kernels cannot move safely: Show them there,
  // then Hide them here.
  absl::Status Move(uint64_t from_bytes, uint64_t bytes, Mapping& to,
                    uint64_t to_bytes);

  // Shows a part of one view a second time (mremap(2) with old size 0), without
  // knowing what it is. The view must be shared and not hugetlb.
  absl::Status Alias(uint64_t from_bytes, uint64_t bytes, uint64_t to_bytes);

  // What really backs a range.
  absl::StatusOr<Residency> Query(uint64_t at_bytes, uint64_t bytes) const;

  // Gives all addresses back now; the destructor does so too, without a word. In
  // the child of invariant 5 the addresses are abandoned instead.
  absl::Status Unmap();

 private:
  // What stands in a part of the range.
  struct Shown {
    uint64_t bytes = 0;
    uint64_t unit_bytes = 0;  // Of the file: ranges are multiples of it.
    bool shared = false;
    bool dont_fork = false;        // Children may lack a part of it.
    std::shared_ptr<Arena> arena;  // Null: a foreign Memfd.

    bool hugetlb() const { return unit_bytes != BasePageBytes(); }
  };
  using Views = std::map<uint64_t, Shown>;

  // A file's part to show, and the arena whose policy applies, if there is one.
  struct Source;

  absl::Status ShowSource(const Source& source, uint64_t bytes,
                          uint64_t at_bytes, const View& view);
  absl::Status ApplyPolicy(const Source& source, uint64_t bytes,
                           uint64_t at_bytes, const View& view);
  // Whether this is a child of invariant 5.
  bool LacksParts() const;
  absl::Status CheckRange(uint64_t at_bytes, uint64_t bytes,
                          uint64_t unit_bytes) const;
  absl::Status CheckShown(uint64_t at_bytes, uint64_t bytes) const;
  absl::Status CheckMovable(uint64_t from_bytes, uint64_t bytes,
                            const Mapping& to, uint64_t to_bytes) const;
  // The first view that ends behind the position.
  Views::const_iterator FirstView(uint64_t at_bytes) const;
  // The one view that holds all of the range, or null.
  const Shown* FindView(uint64_t at_bytes, uint64_t bytes) const;
  // Whether forgetting the range leaves a part of one view on both sides.
  bool CutsInTwo(uint64_t at_bytes, uint64_t bytes) const;
  // Brings `spares` to `count` nodes: what Record and Forget write into (invariant
  // 6). Forget takes one if it CutsInTwo, Record another.
  static absl::Status Fill(Views& spares, size_t count);
  absl::Status Conceal(uint64_t at_bytes, uint64_t bytes, Views& spares);
  void MendHole(uint64_t at_bytes, uint64_t bytes);
  void Record(uint64_t at_bytes, Shown shown, Views& spares);
  void Forget(uint64_t at_bytes, uint64_t bytes, Views& spares);
  void CountViews(const Shown& shown, int change);
  void MarkDontFork(uint64_t at_bytes, uint64_t bytes);
  void UnmarkDontFork(uint64_t at_bytes, uint64_t bytes);
  void Abandon();
  void End();

  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  std::byte* reserved_ = nullptr;  // The reservation with its guards.
  uint64_t reserved_bytes_ = 0;
  Views views_;  // By position; they do not overlap.
  // How many views are marked dont_fork, and the process that marked them: its
  // children lack parts of the range.
  int64_t dont_fork_views_ = 0;
  int dont_fork_process_ = 0;
};

// mlockall(2) and munlockall(2): every mapping of the process, those of now, those to
// come, or both; neither is InvalidArgument. kNow gives each all its pages, kOnFault
// (MCL_ONFAULT) locks a page when it is touched.
absl::Status LockProcess(bool current, bool future,
                         LockMode mode = LockMode::kNow);
absl::Status UnlockProcess();

}  // namespace doppel

#endif  // DOPPEL_ALLOC_MAPPING_H_
