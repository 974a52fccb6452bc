// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/spsc_model.h"
//
#include <cstdint>
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// Full searches end within seconds where turns are bounded or items go in batches; the
// rest is searched up to a number of switches.
std::span<const NamedModel> SpscModels() {
  static constexpr NamedModel kModels[] = {
      Named<SpscModel<{.write_turns = 4, .read_turns = 4}>>(
          "OneByOne", kAnyNumber, kAnyNumber),
      Named<SpscModel<{.write_turns = 6, .read_turns = 6}>>("OneByOneMoreTurns",
                                                            4, kAnyNumber),
      Named<SpscModel<{}>>("OneByOneUntilDone", 4, 7),
      Named<SpscModel<{.write_batch = 2, .read_batch = 2, .stage = 2}>>(
          "Batches", kAnyNumber, kAnyNumber),
      Named<SpscModel<{.items = 6, .write_batch = 2, .stage = 2}>>(
          "StagedSixItems", 3, 5),
      Named<
          SpscModel<{.capacity = 3, .items = 5, .read_batch = 2, .stage = 3}>>(
          "CapacityThree", 3, 5),
      Named<SpscModel<{.first_position = ~uint64_t{0} - 1,
                       .write_turns = 4,
                       .read_turns = 4}>>("PastTheLastPosition", kAnyNumber,
                                          kAnyNumber),
      Named<SpscModel<{.write_turns = 3,
                       .read_turns = 3,
                       .takes = true,
                       .relieved_after = 1}>>("TakesAndFinishes", kAnyNumber,
                                              kAnyNumber),
      // What is finished is past the last position, and then what is taken.
      Named<SpscModel<{.first_position = ~uint64_t{0},
                       .write_turns = 3,
                       .read_turns = 3,
                       .takes = true,
                       .relieved_after = 1}>>("TakesAndFinishesPastIt",
                                              kAnyNumber, kAnyNumber),
      Named<SpscModel<{.items = 5,
                       .first_position = ~uint64_t{0} - 1,
                       .takes = true,
                       .relieved_after = 1}>>("TakesPastIt", 1, 4),
  };
  return kModels;
}

}  // namespace doppel::model
