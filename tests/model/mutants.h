// SPDX-License-Identifier: Apache-2.0
//
// Whether the models notice when the protocol gets weaker.
//
//   every site found ──▶ every weaker order ──▶ every model, until one fails
//                                               none fails: the mutant lives
//
// A mutant that lives says one of two things: the order is stronger than the protocol
// needs, or the models are weaker than they should be.
//
// Invariants:
//   1. All models hold while nothing is weakened; RecordSites says if not.
//   2. After each function nothing is weakened.
//
// Thread safety: one at a time.
// Errors: in what is returned.
//
// Example:
//   RecordSites(models);
//   for (const Mutant& mutant : AllMutants()) Hunt(mutant, models);

#ifndef DOPPEL_TESTS_MODEL_MUTANTS_H_
#define DOPPEL_TESTS_MODEL_MUTANTS_H_

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "doppel/tests/model/models.h"
#include "doppel/tests/model/sites.h"

namespace doppel::model {

// Runs each model unweakened, so that its sites are known. Returns what failed.
inline std::string RecordSites(std::span<const NamedModel> models) {
  constexpr uint64_t kExecutions = 1'000;
  std::string failed;
  Sites::BeginRecording();
  for (const NamedModel& model : models) {
    const Finding found = model.search_at_random(kExecutions);
    if (found.result != Result::kFault) continue;
    absl::StrAppend(&failed, model.name, ": ", found.fault, "\n");
  }
  Sites::EndRecording();
  return failed;
}

inline std::vector<Mutant> AllMutants() {
  std::vector<Mutant> mutants;
  for (const Site& site : Sites::All()) {
    for (const std::memory_order order : Sites::WeakerThan(site)) {
      mutants.push_back({.site = site, .order = order});
    }
  }
  return mutants;
}

struct Caught {
  std::string by;  // Model and fault; empty if the mutant lives.
  uint64_t executions = 0;
};

// Tries each model for a moment, then for longer, then in every schedule that the
// limit admits: most mutants show at once in the model that is made for them.
inline Caught Hunt(const Mutant& mutant, std::span<const NamedModel> models,
                   uint64_t at_most) {
  Caught caught;
  Sites::Weaken(mutant);
  const auto finds = [&](const NamedModel& model, const Finding& found) {
    caught.executions += found.executions;
    if (found.result != Result::kFault) return false;
    caught.by = absl::StrCat(model.name, ": ", found.fault);
    return true;
  };
  for (uint64_t executions = 100; executions < at_most; executions *= 10) {
    for (const NamedModel& model : models) {
      if (!caught.by.empty()) break;
      finds(model, model.search_at_random(executions));
    }
  }
  for (const NamedModel& model : models) {
    if (!caught.by.empty()) break;
    finds(model, model.search_all(model.switches, at_most));
  }
  Sites::WeakenNothing();
  return caught;
}

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_MUTANTS_H_
