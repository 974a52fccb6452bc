// SPDX-License-Identifier: Apache-2.0
//
// The physical side: one memfd, cut into extents that are handed out and come back.
//
//   file   0 ┌────────┬──────┬───────────────┬─────────┐ file_bytes
//            │ extent │ free │    extent     │retained │─ ─ grows by ftruncate
//            └────────┴──────┴───────────────┴─────────┘
//              in use   hole       in use      free, but keeps its pages
//
// Invariants:
//   1. Extents in use never overlap; each is a whole number of page_bytes() at a
//      multiple of it. One of huge_unit_bytes() and more starts at a multiple of
//      that too: in an arena of transparent pages it can be mapped by huge ones.
//   2. Neighbouring free runs of one kind (hole, retained) are one run: best fit
//      with coalescing. O(log free runs) each way, and for each run that is punched.
//   3. Free runs keep at most retain_bytes of pages; what is more is punched out
//      of the file, from the largest run first.
//   4. In a hugetlb arena every page of an extent is reserved before the extent is
//      handed out: touching it cannot raise SIGBUS.
//   5. Only the process that created an arena hands out and punches its pages. In
//      a forked child Allocate fails, what is freed keeps its pages and takes no
//      lock (a thread of the parent may have held it), and Default() is a new arena.
//   6. The descriptor lives until the last extent and the last owner are gone.
//   7. Giving extents back takes no memory from the heap: where the run will be
//      written down was set aside when the extent was made.
//
// Thread safety: every member of Arena; Extents as any value.
// Errors: ResourceExhausted or OutOfRange with advice; nothing has changed then.
//   Where the heap has no memory left, ResourceExhausted without a message, or
//   std::bad_alloc in place of an error whose message finds none.
//
// Example:
//   absl::StatusOr<std::shared_ptr<Arena>> arena =
//       Arena::Create({.name = "cache", .page_size = PageSize::BestAvailable(),
//                      .expected_bytes = uint64_t{1} << 30});
//   absl::StatusOr<Extent> extent = (*arena)->Allocate(64 << 10);

#ifndef DOPPEL_ALLOC_ARENA_H_
#define DOPPEL_ALLOC_ARENA_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "doppel/alloc/internal/extent_index.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"

namespace doppel {

class Arena;

// A run of pages of an arena's file. Owned: goes back when it is destroyed, and
// keeps its arena alive until then. Its first contents are zeros if no extent
// stood there before, and unspecified otherwise.
class Extent {
 public:
  Extent() = default;
  Extent(Extent&& other) noexcept
      : arena_(std::move(other.arena_)),
        offset_bytes_(std::exchange(other.offset_bytes_, 0)),
        size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  Extent& operator=(Extent&& other) noexcept;
  ~Extent() { Reset(); }

  explicit operator bool() const { return arena_ != nullptr; }
  // Where it stands in the arena's file.
  uint64_t offset_bytes() const { return offset_bytes_; }
  uint64_t size_bytes() const { return size_bytes_; }
  const std::shared_ptr<Arena>& arena() const { return arena_; }

  // Cuts the extent: this one keeps [0, keep_bytes), the rest is returned.
  // REQUIRES: keep_bytes a multiple of the arena's page_bytes(), above 0 and below
  // size_bytes(); InvalidArgument otherwise. ResourceExhausted, and uncut, where the
  // heap has no memory (invariant 7).
  absl::StatusOr<Extent> SplitAt(uint64_t keep_bytes);

  // Takes `next`, which must start where this one ends; else false, both as before.
  bool Join(Extent& next);

  // Gives the pages back now.
  void Reset();

  // Gives the extent up, and its pages not back: whoever else has the file goes on
  // with them. The arena never hands them out again.
  void Forget() {
    arena_ = nullptr;
    offset_bytes_ = size_bytes_ = 0;
  }

 private:
  friend class Arena;
  Extent(std::shared_ptr<Arena> arena, uint64_t offset_bytes,
         uint64_t size_bytes)
      : arena_(std::move(arena)),
        offset_bytes_(offset_bytes),
        size_bytes_(size_bytes) {}

  std::shared_ptr<Arena> arena_;  // Null: no extent.
  uint64_t offset_bytes_ = 0;
  uint64_t size_bytes_ = 0;
};

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  // What a fork(2) does to the mappings of the arena's extents.
  enum class ForkPolicy : uint8_t {
    kShare,     // The child has them too, and sees the same pages.
    kDontFork,  // The child lacks them: touching one is SIGSEGV (MADV_DONTFORK).
  };

  struct Options {
    // Shown as /memfd:NAME in /proc/PID/maps.
    std::string name = "doppel";
    PageSize page_size = PageSize::Transparent();
    // How much is going to be handed out; decides what BestAvailable takes and
    // whether an exact hugetlb size can be granted. 0: not known.
    uint64_t expected_bytes = 0;
    // The file never grows above this.
    uint64_t max_bytes = UINT64_MAX;
    // How many bytes of pages free runs keep, so that they need not be faulted in
    // again.
    uint64_t retain_bytes = 0;
    // Mappings of the extents get their pages when they are made.
    bool populate = false;
    // Mappings of the extents are locked into memory (mlock2(2)).
    bool lock = false;
    ForkPolicy fork_policy = ForkPolicy::kShare;
  };

  // Errors of GrantPageSize and Memfd::Create. BestAvailable goes on to the next best
  // where no file of the hugetlb pages that it was granted can be made; grant() then
  // has the reason.
  static absl::StatusOr<std::shared_ptr<Arena>> Create(const Options& options);
  static absl::StatusOr<std::shared_ptr<Arena>> Create() {
    return Create(Options());
  }

  // The process's own: transparent pages, 64 MiB retained, named "doppel". Made
  // at the first call that succeeds, anew in a forked child; never destroyed.
  static absl::StatusOr<std::shared_ptr<Arena>> Default();

  // Whether this process made the arena. If not, it is a forked child's copy: nothing
  // can be allocated from it, and what its pages hold is the parent's to destroy.
  bool InOwnerProcess() const;

  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // An extent of `bytes`, rounded up to page_bytes(). `alignment_bytes` of its
  // offset: a power of two, 0 for what invariant 1 says. InvalidArgument for
  // 0 bytes or an alignment that is no power of two; ResourceExhausted above
  // max_bytes or without pages; OutOfRange above RLIMIT_FSIZE; FailedPrecondition
  // in a forked child.
  absl::StatusOr<Extent> Allocate(uint64_t bytes,
                                  uint64_t alignment_bytes = 0) {
    return Allocate(bytes, alignment_bytes, Preference::kRetained);
  }

  // Which free runs an extent is cut from, if there are both kinds.
  enum class Preference : uint8_t {
    kRetained,  // Those whose pages are there already: nothing to clear.
    // Those without pages: for an extent of which only a part is going to be used
    // soon. The rest would hold pages that nobody uses and nobody counts.
    kHoles,
  };
  absl::StatusOr<Extent> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                  Preference preference);

  // Gives the pages of all free runs back now.
  absl::Status Trim();

  // The unit of extents: a hugetlb page, else a base page.
  uint64_t page_bytes() const { return grant_.page_bytes; }
  // What mappings should align to for the sake of huge pages: a hugetlb page, the
  // transparent unit, or a base page.
  uint64_t huge_unit_bytes() const { return huge_unit_bytes_; }
  const PageGrant& grant() const { return grant_; }
  const Memfd& memfd() const { return memfd_; }
  const Options& options() const { return options_; }

  struct Stats {
    uint64_t file_bytes = 0;        // Size of the file.
    uint64_t allocated_bytes = 0;   // Pages that exist (st_blocks).
    uint64_t handed_out_bytes = 0;  // In extents.
    uint64_t retained_bytes = 0;    // Pages of free runs, at most.
    uint64_t free_bytes = 0;        // In free runs, retained ones included.
    uint64_t extents = 0;           // Handed out.
    uint64_t views = 0;             // Mappings that show extents of this arena.
    uint64_t resident_bytes = 0;    // Of all views; aliases count each.
    uint64_t huge_bytes = 0;        // Of all views, mapped by huge pages.
    uint64_t process_mappings = 0;  // Of the process, all kinds.
    uint64_t max_mappings = 0;      // vm.max_map_count.
  };
  // Reads /proc: linear in the process's mappings and in the pages that they have.
  // REQUIRES: in a forked child, that no thread was in a call of the arena at the
  // fork.
  absl::StatusOr<Stats> Query() const;

  // For Mapping: a view of this arena's extents has come or gone.
  void AddViews(int64_t count) const {
    views_.fetch_add(count, std::memory_order_relaxed);
  }

 private:
  friend class Extent;
  Arena(const Options& options, PageGrant grant, Memfd memfd);

  // Invariant 5: in a child the count stays the parent's. False where invariant 7
  // could not be kept for one extent more.
  bool CountExtents(int change);
  absl::StatusOr<uint64_t> TakeRun(uint64_t bytes, uint64_t alignment_bytes,
                                   Preference preference)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> Grow(uint64_t bytes, uint64_t alignment_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Free(uint64_t offset_bytes, uint64_t size_bytes);
  absl::Status PunchDownTo(uint64_t retain_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const PageGrant grant_;
  const uint64_t huge_unit_bytes_;
  const int owner_process_;  // Who may hand out and punch (invariant 5).
  Memfd memfd_;
  mutable std::atomic<int64_t> views_{0};  // Counted by Mapping.

  mutable absl::Mutex mutex_;
  // Has one for each extent at least (invariant 7).
  internal::ExtentIndex::Stock stock_ ABSL_GUARDED_BY(mutex_);
  // Free runs: those that may still have pages, and those that have none.
  internal::ExtentIndex retained_ ABSL_GUARDED_BY(mutex_){&stock_};
  internal::ExtentIndex holes_ ABSL_GUARDED_BY(mutex_){&stock_};
  uint64_t file_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t handed_out_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t extents_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace doppel

#endif  // DOPPEL_ALLOC_ARENA_H_
