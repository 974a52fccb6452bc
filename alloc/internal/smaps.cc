// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/smaps.h"

#include <sys/sysmacros.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel::internal {
namespace {

using Words = std::vector<absl::string_view>;

// "a-b" or "a:b", both hexadecimal.
bool ParsePair(absl::string_view word, char separator, uint64_t& first,
               uint64_t& second) {
  const Words numbers = absl::StrSplit(word, separator);
  return numbers.size() == 2 && absl::SimpleHexAtoi(numbers[0], &first) &&
         absl::SimpleHexAtoi(numbers[1], &second);
}

std::optional<Smaps::Mapping> ParseHead(const Words& words) {
  Smaps::Mapping mapping;
  uint64_t device_major = 0;
  uint64_t device_minor = 0;
  if (words.size() < 5 ||
      !ParsePair(words[0], '-', mapping.begin, mapping.end) ||
      !ParsePair(words[3], ':', device_major, device_minor) ||
      !absl::SimpleAtoi(words[4], &mapping.inode)) {
    return std::nullopt;
  }
  mapping.device = makedev(static_cast<unsigned>(device_major),
                           static_cast<unsigned>(device_minor));
  return mapping;
}

// "Pss:   12 kB".
void AddField(const Words& words, Smaps::Mapping& mapping) {
  uint64_t bytes = 0;
  if (words.size() != 3 || words[2] != "kB" ||
      !absl::SimpleAtoi(words[1], &bytes)) {
    return;
  }
  bytes <<= 10;
  const absl::string_view name = words[0];
  if (name == "Rss:") mapping.resident_bytes += bytes;
  if (name == "Pss:") mapping.proportional_bytes += bytes;
  if (name == "Swap:") mapping.swapped_bytes += bytes;
  if (name == "AnonHugePages:" || name == "ShmemPmdMapped:" ||
      name == "FilePmdMapped:") {
    mapping.huge_bytes += bytes;
  }
  if (name == "Shared_Hugetlb:" || name == "Private_Hugetlb:") {
    mapping.huge_bytes += bytes;
    mapping.resident_bytes += bytes;
    mapping.proportional_bytes += bytes;
  }
}

}  // namespace

absl::StatusOr<Smaps> Smaps::Read() {
  absl::StatusOr<std::string> text = sys::ReadFile("/proc/self/smaps");
  if (!text.ok()) return text.status();
  return Smaps(*std::move(text));
}

absl::string_view Smaps::NextLine() {
  const size_t end = text_.find('\n', at_);
  const absl::string_view rest = absl::string_view(text_).substr(at_);
  return rest.substr(0, end == std::string::npos ? end : end - at_);
}

std::optional<Smaps::Mapping> Smaps::Next() {
  std::optional<Mapping> mapping;
  while (at_ < text_.size()) {
    const absl::string_view line = NextLine();
    const Words words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    const std::optional<Mapping> head = ParseHead(words);
    // The head of the next one stays to be read.
    if (head && mapping) break;
    if (head) mapping = head;
    if (!head && mapping) AddField(words, *mapping);
    at_ += line.size() + 1;
  }
  return mapping;
}

}  // namespace doppel::internal
