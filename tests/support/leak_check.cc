// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/support/leak_check.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace doppel::testing {
namespace {

// A sanitizer's allocator reserves memory of its own as it goes, which looks like
// ours.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kReservationsAreOurs = false;
#else
constexpr bool kReservationsAreOurs = true;
#endif

bool IsView(absl::string_view line) {
  return absl::StrContains(line, "/memfd:");
}

// The library's: a memfd, or inaccessible anonymous memory.
// The campaigns ask of every mapping of the process thousands of times.
bool IsOurs(absl::string_view line) {
  if (IsView(line)) return true;
  if (!kReservationsAreOurs) return false;
  const absl::string_view rest = line.substr(line.find(' ') + 1);
  // A line without a name ends with its inode, 0 (proc(5)).
  return absl::StartsWith(rest, "---") &&
         absl::EndsWith(absl::StripTrailingAsciiWhitespace(line), " 0");
}

// A line of maps: `begin-end rest`, where the rest of a view has the file's offset.
struct Line {
  explicit Line(absl::string_view line) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const std::pair<absl::string_view, absl::string_view> range =
        absl::StrSplit(parts.first, '-');
    begin = std::stoull(std::string(range.first), nullptr, 16);
    end = std::stoull(std::string(range.second), nullptr, 16);
    const std::vector<absl::string_view> words =
        absl::StrSplit(parts.second, absl::MaxSplits(' ', 2));
    offset = std::stoull(std::string(words[1]), nullptr, 16);
    what = absl::StrCat(words[0], " ", words[2]);
    is_view = IsView(line);
  }
  // Whether it shows what comes right behind `front`, right behind it.
  bool Continues(const Line& front) const {
    return begin == front.end && what == front.what &&
           (!is_view || offset == front.offset + (front.end - front.begin));
  }
  std::string ToString() const {
    return absl::StrFormat("%x-%x %x %s", begin, end, offset, what);
  }

  uint64_t begin;
  uint64_t end;
  uint64_t offset;
  std::string what;  // Protection, device, inode, name.
  bool is_view;
};

std::vector<std::string> Missing(const std::vector<std::string>& from,
                                 const std::vector<std::string>& in) {
  std::vector<std::string> missing;
  std::set_difference(from.begin(), from.end(), in.begin(), in.end(),
                      std::back_inserter(missing));
  return missing;
}

void Compare(const std::vector<std::string>& before,
             const std::vector<std::string>& after,
             std::vector<std::string>& report) {
  for (const std::string& line : Missing(after, before)) {
    report.push_back(absl::StrCat("  leaked: ", line));
  }
  for (const std::string& line : Missing(before, after)) {
    report.push_back(absl::StrCat("  lost:   ", line));
  }
}

std::vector<std::string> Views(std::vector<std::string> mappings) {
  std::erase_if(mappings,
                [](const std::string& line) { return !IsView(line); });
  return mappings;
}

::testing::AssertionResult Result(const std::vector<std::string>& report) {
  if (report.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "not as before:\n"
                                       << absl::StrJoin(report, "\n");
}

}  // namespace

std::vector<std::string> OpenDescriptors() {
  std::vector<std::string> descriptors;
  // The directory iterator's own descriptor is gone when its link is read.
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target =
        std::filesystem::read_symlink(entry.path(), gone).string();
    if (gone || absl::EndsWith(target, "/fd")) continue;
    descriptors.push_back(
        absl::StrCat(entry.path().filename().string(), " ", target));
  }
  std::sort(descriptors.begin(), descriptors.end());
  return descriptors;
}

std::vector<std::string> DoppelMappings() {
  std::ifstream maps("/proc/self/maps");
  std::vector<Line> lines;
  for (std::string text; std::getline(maps, text);) {
    if (!IsOurs(text)) continue;
    const Line line(text);
    // The kernel cuts and joins mappings as hints (madvise(2)) come and go.
    if (!lines.empty() && line.Continues(lines.back())) {
      lines.back().end = line.end;
    } else {
      lines.push_back(line);
    }
  }
  std::vector<std::string> mappings;
  mappings.reserve(lines.size());
  for (const Line& line : lines) mappings.push_back(line.ToString());
  std::sort(mappings.begin(), mappings.end());
  return mappings;
}

int64_t KernelMappings() {
  std::ifstream maps("/proc/self/maps");
  int64_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

LeakCheck::LeakCheck()
    : descriptors_(OpenDescriptors()), mappings_(DoppelMappings()) {}

::testing::AssertionResult LeakCheck::Unchanged() const {
  std::vector<std::string> report;
  Compare(descriptors_, OpenDescriptors(), report);
  Compare(mappings_, DoppelMappings(), report);
  return Result(report);
}

::testing::AssertionResult LeakCheck::UnchangedButForReservations() const {
  std::vector<std::string> report;
  Compare(descriptors_, OpenDescriptors(), report);
  Compare(Views(mappings_), Views(DoppelMappings()), report);
  return Result(report);
}

}  // namespace doppel::testing
