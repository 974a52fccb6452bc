// SPDX-License-Identifier: Apache-2.0
//
// Every memory order of the protocol, made weaker one at a time: a model fails.

#include "doppel/tests/model/mutants.h"
//
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/sites.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel::model {
namespace {

using ::doppel::testing::Scaled;

// An order that is stronger than the protocol needs: its mutants live.
struct Spare {
  std::string_view function;
  Operation operation;
  const char* why;
};

struct Protocol {
  const char* name;
  std::string source;
  std::vector<NamedModel> models;
  std::vector<Spare> spares;
  size_t orders = 5;  // At least, in the source.
};

std::vector<NamedModel> Joined(std::span<const NamedModel> some,
                               std::span<const NamedModel> more) {
  std::vector<NamedModel> models(some.begin(), some.end());
  models.insert(models.end(), more.begin(), more.end());
  return models;
}

std::vector<Protocol> Protocols() {
  return {
      {.name = "Ring",
       .source = "containers/ring_protocol.h",
       .models = Joined(SpscModels(), WaitModels()),
       .spares = {}},
      {.name = "Event",
       .source = "containers/internal/event_word.h",
       .models = Joined(EventModels(), {}),
       .spares = {},
       .orders = 1},
      {.name = "Ends",
       .source = "containers/internal/ends_protocol.h",
       .models = Joined(EndsModels(), {}),
       .spares = {}},
      {.name = "Mpsc",
       .source = "containers/internal/mpsc_protocol.h",
       .models = Joined(MpscModels(), {}),
       .spares = {}},
      {.name = "Broadcast",
       .source = "containers/internal/broadcast_protocol.h",
       .models = Joined(BroadcastModels(), {}),
       .spares = {}},
      {.name = "Overwrite",
       .source = "containers/internal/overwrite_protocol.h",
       .models = Joined(OverwriteModels(), {}),
       .spares = {}},
  };
}

// Orders that no model runs.
struct Elsewhere {
  std::string_view source;
  size_t lines;     // On which they stand.
  const char* why;  // What to look for in the source, if it changes.
};

constexpr const char* kAFence = "makes a fence that the models make themselves";
constexpr const char* kACount =
    "sums of words that change meanwhile, and checks of a destructor that "
    "nothing "
    "happens beside: no memory is reached through what is loaded";

constexpr Elsewhere kElsewhere[] = {
    {"containers/ring_layout.h", 1, kAFence},
    {"containers/internal/ring_fences.h", 3, kAFence},
    {"containers/mpsc_ring.cc", 4, kACount},
    {"containers/internal/mpsc_shared.cc", 1, kACount},
    {"containers/internal/ring_demand.cc", 1, kACount},
    {"containers/internal/broadcast_storage.cc", 4, kACount},
    {"containers/internal/event_count.cc", 4,
     "a list of pointers, and words of a model are numbers. It only grows: one "
     "release, which publishes an element whole, and loads that acquire it; "
     "next "
     "and fd of an element are never stored to after that"},
    {"containers/internal/ring_wake.cc", 7,
     "numbers of descriptors, whose files are the kernel's; a fence that is "
     "followed by a sleep that ends by itself, or by the kernel's own fence; "
     "and whether a side was ever taken, asked before the kernel's lock of it"},
    {"containers/internal/wait_pace.h", 1,
     "a fence that is followed by a sleep that ends by itself"},
    {"containers/internal/shared_storage.cc", 1,
     "that a side was taken: behind the kernel's lock of it, which is asked "
     "after it"},
    {"containers/internal/line_ownership.cc", 4,
     "a block that two threads give each other in turn, to measure it"},
    {"containers/internal/shared_orphans.cc", 2,
     "a list of pointers, which is taken whole: each element is put by a "
     "read-modify-write that releases it, and taken by one that acquires all"},
    {"containers/internal/guarded_storage.cc", 5,
     "words of another process that are loaded once, when one comes or goes: a "
     "message over the link, or its end, stands between"},
};

class Mutants : public ::testing::TestWithParam<Protocol> {};

INSTANTIATE_TEST_SUITE_P(All, Mutants, ::testing::ValuesIn(Protocols()),
                         [](const auto& info) { return info.param.name; });

const Spare* SpareOf(const Site& site, const Protocol& protocol) {
  const std::string_view function = site.where.function_name();
  for (const Spare& spare : protocol.spares) {
    if (spare.operation == site.operation &&
        function.find(spare.function) != function.npos) {
      return &spare;
    }
  }
  return nullptr;
}

TEST_P(Mutants, EachIsCaught) {
  const Protocol& protocol = GetParam();
  ASSERT_EQ(RecordSites(protocol.models), "");
  const auto at_most = static_cast<uint64_t>(Scaled(10'000, 1'000'000));
  size_t spared = 0;
  for (const Mutant& mutant : AllMutants()) {
    const Caught caught = Hunt(mutant, protocol.models, at_most);
    const Spare* spare = SpareOf(mutant.site, protocol);
    if (spare != nullptr) ++spared;
    std::printf("%-58s %s (%llu executions)\n", mutant.Name().c_str(),
                caught.by.empty() ? "lives" : caught.by.c_str(),
                static_cast<unsigned long long>(caught.executions));
    EXPECT_EQ(caught.by.empty(), spare != nullptr)
        << mutant.Name()
        << (spare == nullptr ? " lives" : " was thought to be spare: ")
        << (spare == nullptr ? "" : spare->why);
  }
  EXPECT_EQ(spared, protocol.spares.size()) << "take what is gone off the list";
}

// The two sides run the same code for two reasons: items reach the reader in order,
// and slots the writer.
TEST(HandOver, IsCaughtOnEachSide) {
  const std::vector<NamedModel> models = Joined(SpscModels(), WaitModels());
  ASSERT_EQ(RecordSites(models), "");
  int hand_overs = 0;
  for (Mutant mutant : AllMutants()) {
    const std::string_view function = mutant.site.where.function_name();
    if (function.find("::Look(") == function.npos &&
        function.find("::Publish(") == function.npos) {
      continue;
    }
    ++hand_overs;
    for (mutant.thread = 0; mutant.thread < 2; ++mutant.thread) {
      const Caught caught = Hunt(mutant, models, 10'000);
      EXPECT_NE(caught.by, "") << mutant.Name() << " lives";
    }
  }
  EXPECT_GE(hand_overs, 3);  // A load, a store and a fence.
}

// The lines of the source on which something stronger than relaxed is asked for.
std::vector<std::pair<size_t, std::string>> StrongLines(const char* path) {
  const std::regex strong(
      "std::memory_order_(acq|rel[^a]|seq)|LightFence\\(\\)|Fences::");
  std::vector<std::pair<size_t, std::string>> found;
  std::ifstream source(path);
  std::string line;
  for (size_t number = 1; std::getline(source, line); ++number) {
    line.resize(std::min(line.size(), line.find("//")));
    if (line.find("atomic_signal_fence") != line.npos) continue;
    if (std::regex_search(line, strong)) found.emplace_back(number, line);
  }
  return found;
}

// A file with an order that is neither in a model nor said to be in none.
TEST(Elsewhere, IsAllThatNoModelRuns) {
  size_t files = 0;
  for (const char* directory : {"containers", "containers/internal"}) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      if (!entry.is_regular_file()) continue;
      const std::string source = entry.path().string();
      const auto* const known =
          std::ranges::find(kElsewhere, source, &Elsewhere::source);
      const auto protocols = Protocols();
      if (std::ranges::find(protocols, source, &Protocol::source) !=
          protocols.end()) {
        continue;
      }
      ++files;
      const size_t lines = StrongLines(source.c_str()).size();
      EXPECT_EQ(lines, known == std::end(kElsewhere) ? 0 : known->lines)
          << source << ": "
          << (known == std::end(kElsewhere)
                  ? "put it under a model, or say why not"
                  : known->why);
    }
  }
  EXPECT_GT(files, std::size(kElsewhere));
}

// What the models never run has no site, and so no mutant.
TEST_P(Mutants, EachOrderInTheSourceIsASite) {
  const Protocol& protocol = GetParam();
  ASSERT_EQ(RecordSites(protocol.models), "");
  const auto lines = StrongLines(protocol.source.c_str());
  ASSERT_GE(lines.size(), protocol.orders);
  for (const auto& [number, line] : lines) {
    // An order stands on the line of its call, or on one of the two after it.
    const auto is_site = [&, number = number](const Site& site) {
      const std::string_view file = site.where.file_name();
      return file.ends_with(protocol.source) &&
             site.order != std::memory_order_relaxed &&
             site.where.line() <= number && number <= site.where.line() + 2;
    };
    EXPECT_TRUE(std::ranges::any_of(Sites::All(), is_site))
        << protocol.source << ":" << number << ": " << line;
  }
}

}  // namespace
}  // namespace doppel::model
