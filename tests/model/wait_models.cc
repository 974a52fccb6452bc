// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/model/wait_model.h"
//
#include <cstdint>
#include <span>

#include "doppel/tests/model/models.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// Full searches end within seconds where one side waits once; the rest is searched up
// to a number of switches.
std::span<const NamedModel> WaitModels() {
  static constexpr NamedModel kModels[] = {
      Named<WaitModel<{.writes = 1, .reads = 1}>>("ReaderWaitsForOne",
                                                  kAnyNumber, kAnyNumber),
      Named<WaitModel<{.read_batch = 2}>>("ReaderWaitsForTwo", kAnyNumber,
                                          kAnyNumber),
      Named<WaitModel<{}>>("ReaderWaitsTwice", 4, 6),
      Named<WaitModel<{.capacity = 1, .filled = 1, .writes = 1, .reads = 1}>>(
          "WriterWaitsForOne", kAnyNumber, kAnyNumber),
      Named<WaitModel<{.filled = 2, .write_batch = 2}>>("WriterWaitsForTwo", 5,
                                                        kAnyNumber),
      Named<WaitModel<{.filled = 2}>>("WriterWaitsTwice", 4, 6),
      Named<WaitModel<{.capacity = 1}>>("BothWait", 4, 5),
      Named<WaitModel<{.capacity = 1, .writes = 3, .reads = 3}>>("BothWaitMore",
                                                                 3, 4),
      Named<WaitModel<{.writes = 0, .reads = 1, .closes = true}>>(
          "WriterClosesAnEmptyRing", kAnyNumber, kAnyNumber),
      Named<WaitModel<{.writes = 1, .reads = 9, .closes = true}>>(
          "WriterCloses", 4, 6),
      Named<WaitModel<{
          .writes = 1, .reads = 9, .read_batch = 2, .closes = true}>>(
          "WriterClosesTooEarly", kAnyNumber, kAnyNumber),
      Named<WaitModel<{.capacity = 1,
                       .filled = 1,
                       .writes = 1,
                       .reads = 0,
                       .closes = true}>>("ReaderClosesAFullRing", kAnyNumber,
                                         kAnyNumber),
      Named<WaitModel<{.capacity = 1,
                       .filled = 1,
                       .writes = 9,
                       .reads = 1,
                       .closes = true}>>("ReaderCloses", 4, 6),
      Named<WaitModel<{
          .writes = 1, .reads = 1, .closes = true, .reopens = true}>>(
          "Reopened", 4, 6),
      Named<WaitModel<{.writes = 3, .reads = 3, .events = true}>>("Events", 3,
                                                                  4),
      Named<
          WaitModel<{.writes = 1, .reads = 9, .closes = true, .events = true}>>(
          "EventsAndClose", 4, 6),
      Named<WaitModel<{.writes = 1, .reads = 1, .gives_up = 1}>>(
          "ReaderGivesUp", 7, kAnyNumber),
      Named<WaitModel<{.read_batch = 2, .gives_up = 1}>>("ReaderGivesUpForTwo",
                                                         5, kAnyNumber),
      Named<WaitModel<{
          .capacity = 1, .filled = 1, .writes = 1, .reads = 1, .gives_up = 1}>>(
          "WriterGivesUp", kAnyNumber, kAnyNumber),
      Named<WaitModel<{.capacity = 1, .gives_up = 1}>>("BothGiveUp", 3, 4),
      Named<WaitModel<{.writes = 2,
                       .reads = 2,
                       .closes = true,
                       .events = true,
                       .gives_up = 2}>>("EventsGivenUpAndClose", 3, 4),
      Named<WaitModel<{.writes = 1, .reads = 1, .trials = 1}>>("ReaderTries", 7,
                                                               kAnyNumber),
      Named<WaitModel<{
          .capacity = 1, .filled = 1, .writes = 1, .reads = 1, .trials = 1}>>(
          "WriterTries", kAnyNumber, kAnyNumber),
      Named<WaitModel<{.capacity = 1, .closes = true, .trials = 1}>>(
          "BothTryAndClose", 3, 4),
  };
  return kModels;
}

}  // namespace doppel::model
