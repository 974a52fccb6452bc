// SPDX-License-Identifier: Apache-2.0
//
// Every memory order of the protocol, made weaker one at a time: a model fails.

#include "doppel/tests/model/mutants.h"
//
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/sites.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel::model {
namespace {

using ::doppel::testing::Scaled;

std::vector<NamedModel> AllModels() {
  std::vector<NamedModel> models;
  for (const auto some : {SpscModels(), WaitModels()}) {
    models.insert(models.end(), some.begin(), some.end());
  }
  return models;
}

// Orders that are stronger than the protocol needs, and the function that has them.
// Each mutant of one of them lives, and this list is to say why that is so.
struct Spare {
  std::string_view function;
  Operation operation;
  const char* why;
};
constexpr Spare kSpare[] = {
    {"::BeforeSleep(", Operation::kLoad, "the heavy fence comes after it"},
    {"::BeforeSleep(", Operation::kStore, "the heavy fence comes after it"},
    {"::Grant()", Operation::kLoad, "Publish's light fence came before it"},
    {"::Open()", Operation::kStore, "nothing is handed over by it"},
};

const Spare* SpareOf(const Site& site) {
  const std::string_view function = site.where.function_name();
  const auto* found = std::ranges::find_if(kSpare, [&](const Spare& spare) {
    return spare.operation == site.operation &&
           function.find(spare.function) != std::string_view::npos;
  });
  return found == std::end(kSpare) ? nullptr : found;
}

TEST(Mutants, EachIsCaught) {
  const std::vector<NamedModel> models = AllModels();
  ASSERT_EQ(RecordSites(models), "");
  const auto at_most = static_cast<uint64_t>(Scaled(10'000, 1'000'000));
  size_t spared = 0;
  for (const Mutant& mutant : AllMutants()) {
    const Caught caught = Hunt(mutant, models, at_most);
    const Spare* spare = SpareOf(mutant.site);
    if (spare != nullptr) ++spared;
    std::printf("%-58s %s (%llu executions)\n", mutant.Name().c_str(),
                caught.by.empty() ? "lives" : caught.by.c_str(),
                static_cast<unsigned long long>(caught.executions));
    EXPECT_EQ(caught.by.empty(), spare != nullptr)
        << mutant.Name() << ": an order that no model needs, or one that was "
        << "thought to be so and is not";
  }
  EXPECT_EQ(spared, std::size(kSpare)) << "take what is gone off the list";
}

// The two sides run the same code for two reasons: items reach the reader in order,
// and slots the writer.
TEST(Mutants, EachHandOverIsCaughtOnEachSide) {
  const std::vector<NamedModel> models = AllModels();
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

// What the models never run has no site, and so no mutant.
TEST(Mutants, EachOrderInTheProtocolIsASite) {
  ASSERT_EQ(RecordSites(AllModels()), "");
  std::ifstream source("containers/ring_protocol.h");
  ASSERT_TRUE(source.is_open());
  std::vector<std::string> lines(1);  // Lines count from 1.
  for (std::string line; std::getline(source, line);) lines.push_back(line);
  ASSERT_GT(lines.size(), 100u);
  const std::regex stronger("std::memory_order_(acq|rel[^a]|seq)|Fence\\(\\)");
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string code = lines[i].substr(0, lines[i].find("//"));
    if (!std::regex_search(code, stronger)) continue;
    if (code.find("atomic_signal_fence") != std::string::npos) continue;
    const bool is_site = std::ranges::any_of(Sites::All(), [&](const Site& s) {
      const std::string_view file = s.where.file_name();
      // An order may stand on the line after the call that it belongs to.
      return file.ends_with("/ring_protocol.h") &&
             s.order != std::memory_order_relaxed && s.where.line() <= i &&
             s.where.line() + 1 >= i;
    });
    const bool is_call_of_fence = code.find("heavy_fence()") != code.npos;
    EXPECT_TRUE(is_site || is_call_of_fence) << i << ": " << code;
  }
}

}  // namespace
}  // namespace doppel::model
