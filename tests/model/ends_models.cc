// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/ends_model.h"
//
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

std::span<const NamedModel> EndsModels() {
  static constexpr NamedModel kModels[] = {
      Named<SendersModel<{}>>("BothClose", 6, kAnyNumber),
      Named<SendersModel<{.closes = {true, false}}>>("OneClosesOneGoes", 6,
                                                     kAnyNumber),
      Named<SendersModel<{.waits = true}>>("BothCloseOneWaits", 3, 5),
      Named<SendersModel<{.closes = {true, false}, .waits = true}>>(
          "OneClosesOneGoesOneWaits", 3, 5),
      Named<EndModel>("OneEnds", kAnyNumber, kAnyNumber),
      Named<SeatModel>("ThreeTakeASeat", kAnyNumber, kAnyNumber),
  };
  return kModels;
}

}  // namespace doppel::model
