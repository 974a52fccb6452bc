// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/broadcast_model.h"
//
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

std::span<const NamedModel> BroadcastModels() {
  static constexpr NamedModel kModels[] = {
      Named<BroadcastModel<{}, 1>>("OneJoins", 4, 6),
      Named<BroadcastModel<{.sessions = 2, .read_turns = 1}, 1>>(
          "OneJoinsTwice", 3, 5),
      Named<BroadcastModel<{.capacity = 2, .items = 4, .read_turns = 3}, 1>>(
          "OneJoinsOfTwoSlots", 3, 5),
      Named<BroadcastModel<{.read_turns = 1, .peeks = true}, 1>>("OnePeeks", 4,
                                                                 6),
      Named<BroadcastModel<{.items = 2,
                            .write_turns = 2,
                            .read_turns = 1,
                            .peeks = true,
                            .one_seat = true,
                            .filled = true},
                           2>>("TwoPeekFromOneSeat", 3, 4),
      Named<BroadcastModel<{.read_turns = 0}, 1>>("OneUntilTheEnd", 3, 5),
      Named<BroadcastModel<{.items = 2, .write_turns = 3, .read_turns = 1}, 2>>(
          "TwoJoin", 2, 3),
      Named<BroadcastModel<{.capacity = 2, .read_turns = 0}, 2>>(
          "TwoUntilTheEnd", 1, 2),
      Named<BroadcastModel<{.items = 2, .read_turns = 1, .waits = true}, 1>>(
          "TheWriterWaits", 4, 5),
      Named<BroadcastModel<{.items = 2, .read_turns = 0, .waits = true}, 1>>(
          "BothWait", 3, 4),
      Named<BroadcastModel<
          {.items = 3, .sessions = 2, .read_turns = 1, .waits = true}, 1>>(
          "TheWriterWaitsForOneThatJoinsTwice", 2, 4),
      Named<BroadcastModel<{.items = 2, .read_turns = 1, .waits = true}, 2>>(
          "TheWriterWaitsForTwo", 1, 2),
      Named<BroadcastModel<{.items = 2, .read_turns = 0, .waits = true}, 2>>(
          "AllWait", 1, 2),
  };
  return kModels;
}

std::span<const NamedModel> OverwriteModels() {
  static constexpr NamedModel kModels[] = {
      Named<OverwriteModel<{.capacity = 1, .items = 2}>>("OneSlot", 4, 6),
      Named<OverwriteModel<{}>>("TwoSlots", 4, 5),
      Named<OverwriteModel<{.items = 5, .batch = 2}>>("Batches", 3, 4),
      Named<OverwriteModel<{.capacity = 4, .lead = 2, .items = 8, .push = 2}>>(
          "ALeadOfTwo", 3, 4),
      Named<OverwriteModel<{
          .capacity = 4, .lead = 2, .items = 8, .push = 2, .batch = 4}>>(
          "BatchesOfALap", 2, 3),
      Named<OverwriteModel<{.turns = 0}>>("UntilTheEnd", 3, 4),
  };
  return kModels;
}

}  // namespace doppel::model
