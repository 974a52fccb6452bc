// SPDX-License-Identifier: Apache-2.0
//
// Which page sizes exist, which of them a request was granted, and why not what
// was asked.
//
//   asked            granted                                 needs
//   --------------   -------------------------------------   --------------------
//   Base             base pages (4 KiB on x86-64)            nothing
//   Transparent      base pages that the kernel joins into   MADV_COLLAPSE (6.1) or
//                    2 MiB ones; base where it would not     shmem_enabled: no rights
//   Huge(bytes)      hugetlb pages of just that size         a pool, vm.nr_hugepages
//                                                            or the overcommit figure
//   BestAvailable    1 GiB > 2 MiB hugetlb > Transparent     nothing
//                    > Base, the first that can be had
//
// Invariants:
//   1. A PageSize names a request that MFD_HUGE_* and MAP_HUGE_* can express, or
//      no hugetlb size at all.
//   2. An exact hugetlb size is granted exactly or refused; it never falls back.
//   3. A grant that differs from what was asked has a reason; one that does not
//      has none.
//   4. Residency is what the kernel says of the pages, not what was asked for.
//
// Thread safety: values; queries read /proc and /sys and may be called anywhere.
// Errors: InvalidArgument for a size that nothing can name, NotFound for one that
//   this machine lacks, ResourceExhausted for a pool with too few pages free.
//
// Example:
//   absl::StatusOr<PageGrant> grant =
//       GrantPageSize(PageSize::BestAvailable(), uint64_t{4} << 30);
//   if (grant.ok()) std::cout << grant->ToString() << "\n";

#ifndef DOPPEL_ALLOC_PAGE_SIZE_H_
#define DOPPEL_ALLOC_PAGE_SIZE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// Every size that MFD_HUGE_* and MAP_HUGE_* can name (memfd_create(2), mmap(2)),
// in bytes, ascending.
inline constexpr std::array<uint64_t, 12> kHugetlbSizes = {
    uint64_t{64} << 10, uint64_t{512} << 10, uint64_t{1} << 20,
    uint64_t{2} << 20,  uint64_t{8} << 20,   uint64_t{16} << 20,
    uint64_t{32} << 20, uint64_t{256} << 20, uint64_t{512} << 20,
    uint64_t{1} << 30,  uint64_t{2} << 30,   uint64_t{16} << 30,
};

// A request for pages. A regular value.
class PageSize {
 public:
  enum class Kind : uint8_t { kBase, kTransparent, kHugetlb, kBestAvailable };

  static constexpr PageSize Base() { return PageSize(Kind::kBase, 0); }
  static constexpr PageSize Transparent() {
    return PageSize(Kind::kTransparent, 0);
  }
  static constexpr PageSize BestAvailable() {
    return PageSize(Kind::kBestAvailable, 0);
  }
  static constexpr PageSize Huge2MiB() {
    return PageSize(Kind::kHugetlb, uint64_t{2} << 20);
  }
  static constexpr PageSize Huge1GiB() {
    return PageSize(Kind::kHugetlb, uint64_t{1} << 30);
  }

  // hugetlb pages of exactly `page_bytes`, one of kHugetlbSizes; InvalidArgument
  // otherwise. Whether the machine has them is asked when they are wanted.
  static absl::StatusOr<PageSize> Huge(uint64_t page_bytes);

  constexpr Kind kind() const { return kind_; }
  constexpr bool is_hugetlb() const { return kind_ == Kind::kHugetlb; }

  // 0 unless is_hugetlb().
  constexpr uint64_t hugetlb_bytes() const { return hugetlb_bytes_; }

  // What memfd_create(2) takes: MFD_HUGETLB with the size; 0 unless is_hugetlb().
  unsigned MemfdFlags() const;

  // "base", "transparent", "hugetlb 2 MiB", "best available".
  std::string ToString() const;

  friend constexpr bool operator==(const PageSize&, const PageSize&) = default;

 private:
  constexpr PageSize(Kind kind, uint64_t hugetlb_bytes)
      : kind_(kind), hugetlb_bytes_(hugetlb_bytes) {}

  Kind kind_;
  uint64_t hugetlb_bytes_;  // 0 unless kHugetlb: which of kHugetlbSizes.
};

// "2 MiB", "4 KiB": the largest binary unit that divides `bytes`.
std::string FormatBytes(uint64_t bytes);

// The size of a base page (sysconf _SC_PAGESIZE).
uint64_t BasePageBytes();

// What the kernel joins base pages into (hpage_pmd_size), 2 MiB on x86-64; 0 where
// it was built without transparent huge pages.
uint64_t TransparentPageBytes();

// One hugetlb pool (Documentation/admin-guide/mm/hugetlbpage.rst), in pages.
struct HugetlbPool {
  uint64_t page_bytes = 0;
  uint64_t total_pages = 0;
  uint64_t free_pages = 0;
  uint64_t reserved_pages = 0;    // Promised to mappings, but still free.
  uint64_t surplus_pages = 0;     // Above the size that was configured.
  uint64_t overcommit_pages = 0;  // How many surplus ones there may be.

  // Pages that can be had now: free and not promised.
  uint64_t available_pages() const {
    return free_pages > reserved_pages ? free_pages - reserved_pages : 0;
  }
  // Surplus pages that the kernel may add; it may fail to find them.
  uint64_t addable_pages() const {
    return overcommit_pages > surplus_pages ? overcommit_pages - surplus_pages
                                            : 0;
  }
};

// The pools of this machine by page size, ascending; empty without hugetlb.
absl::StatusOr<std::vector<HugetlbPool>> HugetlbPools();

// The pool of one page size. NotFound names the sizes that there are.
absl::StatusOr<HugetlbPool> FindHugetlbPool(uint64_t page_bytes);

// What a request came to.
struct PageGrant {
  PageSize asked = PageSize::Base();
  PageSize granted = PageSize::Base();  // Never kBestAvailable.
  // The unit that files of this grant grow by: a hugetlb page, else a base page.
  uint64_t page_bytes = 0;
  // Why not what was asked; empty if it was granted.
  std::string reason;

  std::string ToString() const;
};

// Decides on pages for `expected_bytes` of memory; 0 if that is not known.
//   Base: always granted.
//   Transparent: granted where the kernel has them and joins them in memfds: with
//     MADV_COLLAPSE, else unless shmem_enabled is never or deny. Otherwise Base.
//   Huge: granted when the pool has room for expected_bytes (at least for one
//     page), with the pages that the kernel may add to it; otherwise NotFound or
//     ResourceExhausted, with the pool's figures.
//   BestAvailable: the first of 1 GiB hugetlb, 2 MiB hugetlb, transparent, base
//     that can be had. A hugetlb pool is taken only for an expected_bytes of a page
//     and more that fits into what is free in it: a pool is a common good, not to be
//     drained by a caller who cannot say what he needs.
// A pool may be emptied by others between the grant and its use, and the kernel may
// not find the pages to add; whoever then reserves pages gets the error.
absl::StatusOr<PageGrant> GrantPageSize(PageSize asked,
                                        uint64_t expected_bytes);

// What BestAvailable comes to where the hugetlb pages that it was granted proved to
// be of no use, and `why`. REQUIRES: refused.granted.is_hugetlb().
PageGrant GrantNextBest(const PageGrant& refused, absl::string_view why,
                        uint64_t expected_bytes);

// What really backs a range of addresses. All in bytes.
struct Residency {
  uint64_t mapped_bytes = 0;        // Of the range: mapped at all.
  uint64_t resident_bytes = 0;      // Present in this process's page table.
  uint64_t huge_bytes = 0;          // Present and mapped by a huge page.
  uint64_t proportional_bytes = 0;  // PSS: each page over its mappings' number.
  uint64_t swapped_bytes = 0;
};

// Asks the kernel about [begin, begin + bytes). resident, huge and swapped bytes
// are exact for the range where the kernel has PAGEMAP_SCAN (6.7); before that, and
// for proportional_bytes always, whole mappings of /proc/self/smaps that overlap the
// range are counted. Two aliases of a page are two resident pages, but one in
// proportional_bytes. Cost: linear in the process's mappings and in the pages that
// they have.
absl::StatusOr<Residency> QueryResidency(const void* begin, size_t bytes);

}  // namespace doppel

#endif  // DOPPEL_ALLOC_PAGE_SIZE_H_
