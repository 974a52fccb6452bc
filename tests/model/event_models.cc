// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/event_model.h"
//
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// Full searches end within seconds where two threads meet once; the rest is searched up
// to a number of switches.
std::span<const NamedModel> EventModels() {
  static constexpr NamedModel kModels[] = {
      Named<EventModel<{}>>("OneWaitsForOne", kAnyNumber, kAnyNumber),
      Named<EventModel<{.stores = 2, .each = true}>>("OneWaitsTwice", 5, 8),
      Named<EventModel<{.gives_up = true}>>("OneGaveUpBefore", kAnyNumber,
                                            kAnyNumber),
      Named<EventModel<{.notifiers = 2}>>("OneWaitsForTwo", 3, 5),
      Named<EventModel<{.waiters = 2}>>("TwoWaitForOne", 3, 5),
      Named<EventModel<{.waiters = 2, .gives_up = true}>>("TwoGaveUpBefore", 2,
                                                          3),
      Named<EventModel<{.notifiers = 2, .waiters = 2}>>("TwoWaitForTwo", 2, 3),
      Named<EventModel<{.events = true}>>("OneIsTold", kAnyNumber, kAnyNumber),
      Named<EventModel<{.stores = 2, .each = true, .events = true}>>(
          "OneIsToldTwice", 5, 7),
      Named<EventModel<{.notifiers = 2, .events = true}>>("OneIsToldByTwo", 3,
                                                          5),
      Named<EventModel<{.waiters = 2, .events = true}>>("OneIsToldOneSleeps", 3,
                                                        5),
      Named<EventModel<{.waiters = 3, .events = true}>>("TwoAreToldOneSleeps",
                                                        2, 3),
  };
  return kModels;
}

}  // namespace doppel::model
