// SPDX-License-Identifier: Apache-2.0
//
// Reads /proc/self/smaps (proc(5)) mapping by mapping.
//
//   7f00-7f10 rw-s 00000000 00:01 1234  /memfd:doppel    the head of a mapping
//   Rss:                  12 kB                          its figures
//   ...
//
// Invariants:
//   1. hugetlb pages, which have fields of their own, count as resident, huge and
//      proportional like all others.
//
// Thread safety: as a value type; the text is that of one moment.
// Errors: those of reading the file.
//
// Example:
//   absl::StatusOr<Smaps> smaps = Smaps::Read();
//   while (std::optional<Smaps::Mapping> mapping = smaps->Next()) ...

#ifndef DOPPEL_ALLOC_INTERNAL_SMAPS_H_
#define DOPPEL_ALLOC_INTERNAL_SMAPS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel::internal {

class Smaps {
 public:
  struct Mapping {
    // Addresses.
    uint64_t begin = 0;
    uint64_t end = 0;
    // The file that is mapped; 0 for none.
    dev_t device = 0;
    uint64_t inode = 0;
    uint64_t resident_bytes = 0;
    uint64_t proportional_bytes = 0;
    uint64_t swapped_bytes = 0;
    uint64_t huge_bytes = 0;  // Mapped by huge pages.
  };

  // Costs the kernel a walk over all page tables of the process.
  static absl::StatusOr<Smaps> Read();

  // The next mapping, in the order of addresses; none at the end.
  std::optional<Mapping> Next();

 private:
  explicit Smaps(std::string text) : text_(std::move(text)) {}

  absl::string_view NextLine();

  std::string text_;
  size_t at_ = 0;  // Where the next line begins.
};

}  // namespace doppel::internal

#endif  // DOPPEL_ALLOC_INTERNAL_SMAPS_H_
