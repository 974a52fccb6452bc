// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/mpsc_model.h"
//
#include <cstdint>
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// Three threads have more schedules than can be tried: up to a number of switches.
// Capacities are such that a header comes to stand where the lap before had payload.
std::span<const NamedModel> MpscModels() {
  static constexpr NamedModel kModels[] = {
      Named<MpscModel<{.messages = 1, .turns = 2}>>("OneEach", 4, 5),
      Named<MpscModel<{.capacity_words = 2, .messages = 1, .turns = 2}>>(
          "OneEachOneFits", 4, 5),
      Named<MpscModel<{.capacity_words = 2, .turns = 2}>>("TwoEachOneFits", 3,
                                                          4),
      Named<MpscModel<{.capacity_words = 3, .lengths = 2, .turns = 3}>>(
          "TwoLengthsOneFits", 2, 3),
      Named<MpscModel<{.capacity_words = 5, .turns = 3}>>("TwoEachTwoFit", 2,
                                                          3),
      Named<MpscModel<{.capacity_words = 5, .lengths = 2}>>(
          "TwoLengthsUntilDone", 1, 2),
      Named<MpscModel<{
          .capacity_words = 5, .messages = 3, .skip = 2, .turns = 4}>>(
          "EachSecondIsGivenUp", 1, 2),
      Named<MpscModel<{.capacity_words = 7, .messages = 3, .batch = 2}>>(
          "Batches", 0, 1),
      Named<MpscModel<{.capacity_words = 5,
                       .messages = 1,
                       .frames_wrap = false,
                       .turns = 3}>>("OneEachWithOneView", 4, 5),
      Named<MpscModel<{.capacity_words = 5, .frames_wrap = false}>>(
          "WithOneViewUntilDone", 1, 2),
      Named<MpscModel<{.capacity_words = 2, .messages = 1, .waits = true}>>(
          "AllWaitOneFits", 1, 3),
      Named<MpscModel<{.capacity_words = 5, .waits = true}>>("AllWait", 1, 2),
      Named<MpscModel<{.capacity_words = 5, .skip = 2, .waits = true}>>(
          "AllWaitAndSomeAreGivenUp", 1, 2),
  };
  return kModels;
}

}  // namespace doppel::model
