// SPDX-License-Identifier: Apache-2.0
//
// Ends and seats, over the library's own words of them.
//
//   SendersModel  threads 0, 1  commit · Close or Go        thread 2  ended()? all is there
//   EndModel      thread 0  hand over · Close               thread 1  closed()? it is there
//   SeatModel     threads 0, 1, 2  TakeSeat · use what is the seat's · LeaveSeat
//
// Invariants:
//   1. Who was told of the end, and looks after that, misses nothing.
//   2. What belongs to a seat is no race between its holders.
//   3. Who waits for the end is woken by it, whether it came by Close or by Go.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<SendersModel<{.closes = {true, false}}>>();

#ifndef DOPPEL_TESTS_MODEL_ENDS_MODEL_H_
#define DOPPEL_TESTS_MODEL_ENDS_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <atomic>
#include <cstdint>

#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/tests/model/event_model.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

struct SendersPlan {
  std::array<bool, 2> closes = {true, true};  // Each producer; else it goes.
  bool waits = false;                         // The consumer, until the end.
};

template <SendersPlan kPlan>
struct SendersModel : Model<SendersModel<kPlan>, 3> {
  SendersModel() {
    for (int i = 0; i < 2; ++i) senders.Open();
  }

  void thread(unsigned index) {
    if (index < 2) {
      Send(index);
    } else {
      Receive();
    }
  }

  // As MpscProducer does, and LeaveProducer.
  void Send(unsigned index) {
    payload[index](RL_INFO) = index + 1;
    header[index].store(1, std::memory_order_relaxed);
    if (kPlan.closes[index]) {
      senders.Close();
      committed.Notify();
    } else if (senders.Go()) {
      committed.Notify();
    }
  }

  void Receive() {
    if (kPlan.waits) {
      committed.Wait([&] { return senders.ended(); });
    } else if (!senders.ended()) {
      return;
    }
    // Loads that order nothing: all was there before the end.
    for (unsigned i = 0; i < 2; ++i) {
      RL_ASSERT(header[i].load(std::memory_order_relaxed) == 1);
      RL_ASSERT(payload[i](RL_INFO) == i + 1);
    }
  }

  ::doppel::internal::MpscSenders<ModelAtomics> senders;
  ModelEventCount<3> committed;
  std::array<ModelAtomic<uint64_t>, 2> header;
  std::array<rl::var<uint64_t>, 2> payload;
};

// One that takes no more, or hands over no more, and is opened again by the next.
struct EndModel : Model<EndModel, 2> {
  void thread(unsigned index) {
    if (index == 0) {
      end.Open();
      position.store(1, std::memory_order_relaxed);
      end.Close();
    } else if (end.closed()) {
      RL_ASSERT(position.load(std::memory_order_relaxed) == 1);
    }
  }

  ::doppel::internal::EndWord<ModelAtomics> end;
  ModelAtomic<uint64_t> position{0};
};

struct SeatModel : Model<SeatModel, 3> {
  void thread(unsigned) {
    if (!::doppel::internal::TakeSeat(taken)) return;
    const uint64_t holders = scratch(RL_INFO);
    scratch(RL_INFO) = holders + 1;
    ::doppel::internal::LeaveSeat(taken);
  }

  ModelAtomic<bool> taken{false};
  rl::var<uint64_t> scratch{0};
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_ENDS_MODEL_H_
