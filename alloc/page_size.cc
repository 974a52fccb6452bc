// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/page_size.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/numeric/bits.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/remembered.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

using internal::sys::ReadFile;

constexpr char kHugepages[] = "/sys/kernel/mm/hugepages/hugepages-";

std::string PoolFile(uint64_t page_bytes, const char* figure) {
  return absl::StrCat(kHugepages, page_bytes >> 10, "kB/", figure);
}

absl::StatusOr<uint64_t> ReadNumber(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  uint64_t number = 0;
  if (absl::SimpleAtoi(*text, &number)) return number;
  return absl::InternalError(absl::StrCat(path, " holds no number: ", *text));
}

// NotFound where the machine lacks the size.
absl::StatusOr<HugetlbPool> ReadPool(uint64_t page_bytes) {
  HugetlbPool pool;
  pool.page_bytes = page_bytes;
  struct Figure {
    const char* name;
    uint64_t* value;
  };
  for (const Figure& figure :
       {Figure{"nr_hugepages", &pool.total_pages},
        Figure{"free_hugepages", &pool.free_pages},
        Figure{"resv_hugepages", &pool.reserved_pages},
        Figure{"surplus_hugepages", &pool.surplus_pages},
        Figure{"nr_overcommit_hugepages", &pool.overcommit_pages}}) {
    absl::StatusOr<uint64_t> value =
        ReadNumber(PoolFile(page_bytes, figure.name));
    if (!value.ok()) return value.status();
    *figure.value = *value;
  }
  return pool;
}

absl::StatusOr<PageGrant> GrantHugetlb(PageSize asked, PageSize size,
                                       uint64_t expected_bytes) {
  absl::StatusOr<HugetlbPool> pool = FindHugetlbPool(size.hugetlb_bytes());
  if (!pool.ok()) return pool.status();
  const uint64_t wanted_pages = std::max<uint64_t>(
      1, expected_bytes / pool->page_bytes +
             (expected_bytes % pool->page_bytes != 0 ? 1 : 0));
  // Pages to be added are for those who insist on the size: whoever takes what he can
  // get must not find out later that the kernel has none.
  const uint64_t addable_pages = asked == size ? pool->addable_pages() : 0;
  if (pool->available_pages() + addable_pages < wanted_pages) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the hugetlb pool of ", FormatBytes(pool->page_bytes), " pages has ",
        pool->available_pages(), " of ", pool->total_pages, " free and ",
        addable_pages, " more by overcommit, ", wanted_pages,
        " wanted; raise vm.nr_hugepages or ask for PageSize::BestAvailable"));
  }
  return PageGrant{asked, size, pool->page_bytes, ""};
}

// What the kernel does about transparent pages in memfds.
struct Transparent {
  uint64_t unit_bytes;  // 0: it has none.
  bool collapses;       // Has MADV_COLLAPSE, whatever shmem_enabled says.
};

Transparent ReadTransparent() {
  // Only an answer is kept: one that could not be read may be there next time.
  constexpr uint64_t kUnknown = UINT64_MAX;
  static constinit std::atomic<uint64_t> known_bytes{kUnknown};
  static constinit std::atomic<bool> known_collapses{false};
  uint64_t bytes = known_bytes.load(std::memory_order_acquire);
  if (bytes != kUnknown) {
    return {bytes, known_collapses.load(std::memory_order_relaxed)};
  }
  const absl::StatusOr<uint64_t> read =
      ReadNumber("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
  // For no range at all madvise(2) only says whether it knows the advice.
  const absl::Status collapse =
      internal::sys::Madvise(nullptr, 0, internal::kMadvCollapse);
  bytes = read.value_or(0);
  const bool collapses = !absl::IsInvalidArgument(collapse);
  if ((read.ok() || absl::IsNotFound(read.status())) &&
      (collapse.ok() || !collapses)) {
    known_collapses.store(collapses, std::memory_order_relaxed);
    known_bytes.store(bytes, std::memory_order_release);
  }
  return {bytes, collapses};
}

// Why memfds get no huge pages; empty if they do.
std::string NoTransparentReason() {
  const Transparent transparent = ReadTransparent();
  if (transparent.unit_bytes == 0) {
    return "the kernel was built without transparent huge pages";
  }
  if (transparent.collapses) return "";
  // "always within_size advise [never] deny force": the choice is in brackets.
  constexpr char kChoice[] =
      "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  const absl::StatusOr<std::string> choices = ReadFile(kChoice);
  if (!choices.ok() || (!absl::StrContains(*choices, "[never]") &&
                        !absl::StrContains(*choices, "[deny]"))) {
    return "";
  }
  return absl::StrCat("the kernel has no MADV_COLLAPSE (Linux 6.1), and ",
                      kChoice,
                      " forbids huge pages in memfds; set it to advise");
}

PageGrant GrantTransparent(PageSize asked, std::string reason) {
  const std::string lacking = NoTransparentReason();
  if (lacking.empty()) {
    return {asked, PageSize::Transparent(), BasePageBytes(), std::move(reason)};
  }
  absl::StrAppend(&reason, reason.empty() ? "" : "; ", lacking);
  return {asked, PageSize::Base(), BasePageBytes(), std::move(reason)};
}

// The best of what has pages of less than `below_bytes`; `passed_over` says why not
// the larger ones.
PageGrant GrantBest(uint64_t expected_bytes, uint64_t below_bytes,
                    std::vector<std::string> passed_over) {
  const PageSize asked = PageSize::BestAvailable();
  for (const PageSize size : {PageSize::Huge1GiB(), PageSize::Huge2MiB()}) {
    if (size.hugetlb_bytes() >= below_bytes) continue;
    if (expected_bytes < size.hugetlb_bytes()) {
      passed_over.push_back(absl::StrCat(
          size.ToString(), ": ",
          expected_bytes == 0
              ? "how much is needed was not said"
              : absl::StrCat("only ", expected_bytes, " bytes are expected")));
      continue;
    }
    absl::StatusOr<PageGrant> grant = GrantHugetlb(asked, size, expected_bytes);
    if (grant.ok()) {
      grant->reason = absl::StrJoin(passed_over, "; ");
      return *std::move(grant);
    }
    passed_over.push_back(
        absl::StrCat(size.ToString(), ": ", grant.status().message()));
  }
  return GrantTransparent(asked, absl::StrJoin(passed_over, "; "));
}

}  // namespace

absl::StatusOr<PageSize> PageSize::Huge(uint64_t page_bytes) {
  if (std::binary_search(kHugetlbSizes.begin(), kHugetlbSizes.end(),
                         page_bytes)) {
    return PageSize(Kind::kHugetlb, page_bytes);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "no hugetlb page has ", page_bytes, " bytes; there are ",
      absl::StrJoin(kHugetlbSizes, ", ", [](std::string* out, uint64_t bytes) {
        absl::StrAppend(out, FormatBytes(bytes));
      })));
}

unsigned PageSize::MemfdFlags() const {
  if (!is_hugetlb()) return 0;
  return MFD_HUGETLB | static_cast<unsigned>(absl::countr_zero(hugetlb_bytes_))
                           << internal::kHugeShift;
}

std::string PageSize::ToString() const {
  switch (kind_) {
    case Kind::kBase:
      return "base";
    case Kind::kTransparent:
      return "transparent";
    case Kind::kHugetlb:
      return absl::StrCat("hugetlb ", FormatBytes(hugetlb_bytes_));
    case Kind::kBestAvailable:
      return "best available";
  }
  return "unknown";
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B",   "KiB", "MiB", "GiB",
                                           "TiB", "PiB", "EiB"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return absl::StrCat(bytes, " ", kUnits[unit]);
}

uint64_t BasePageBytes() {
  static constinit internal::Remembered<uint64_t> bytes;
  return bytes.Get([] { return sysconf(_SC_PAGESIZE); });
}

uint64_t TransparentPageBytes() { return ReadTransparent().unit_bytes; }

absl::StatusOr<std::vector<HugetlbPool>> HugetlbPools() {
  std::vector<HugetlbPool> pools;
  for (const uint64_t page_bytes : kHugetlbSizes) {
    absl::StatusOr<HugetlbPool> pool = ReadPool(page_bytes);
    if (pool.ok()) {
      pools.push_back(*pool);
    } else if (!absl::IsNotFound(pool.status())) {
      return pool.status();
    }
  }
  return pools;
}

absl::StatusOr<HugetlbPool> FindHugetlbPool(uint64_t page_bytes) {
  absl::StatusOr<HugetlbPool> pool = ReadPool(page_bytes);
  if (pool.ok() || !absl::IsNotFound(pool.status())) return pool;
  absl::StatusOr<std::vector<HugetlbPool>> pools = HugetlbPools();
  if (!pools.ok()) return pools.status();
  return absl::NotFoundError(absl::StrCat(
      "this machine has no hugetlb pages of ", FormatBytes(page_bytes),
      "; it has ",
      pools->empty()
          ? "none at all"
          : absl::StrJoin(*pools, ", ",
                          [](std::string* out, const HugetlbPool& one) {
                            absl::StrAppend(out, FormatBytes(one.page_bytes));
                          })));
}

std::string PageGrant::ToString() const {
  if (reason.empty()) return absl::StrCat(granted.ToString(), " pages");
  return absl::StrCat(granted.ToString(), " pages (asked for ",
                      asked.ToString(), "; ", reason, ")");
}

absl::StatusOr<PageGrant> GrantPageSize(PageSize asked,
                                        uint64_t expected_bytes) {
  switch (asked.kind()) {
    case PageSize::Kind::kBase:
      return PageGrant{asked, asked, BasePageBytes(), ""};
    case PageSize::Kind::kTransparent:
      return GrantTransparent(asked, "");
    case PageSize::Kind::kHugetlb:
      return GrantHugetlb(asked, asked, expected_bytes);
    case PageSize::Kind::kBestAvailable:
      return GrantBest(expected_bytes, UINT64_MAX, {});
  }
  return absl::InvalidArgumentError("not a kind of page size");
}

PageGrant GrantNextBest(const PageGrant& refused, absl::string_view why,
                        uint64_t expected_bytes) {
  std::vector<std::string> passed_over;
  if (!refused.reason.empty()) passed_over.push_back(refused.reason);
  passed_over.push_back(absl::StrCat(refused.granted.ToString(), ": ", why));
  return GrantBest(expected_bytes, refused.granted.hugetlb_bytes(),
                   std::move(passed_over));
}

}  // namespace doppel
