// SPDX-License-Identifier: Apache-2.0
//
// A writer and a reader who sleep when there is too little, over the library's own
// RingCursor: its steps of waiting, a fence and the kernel's part (sleep.h) between
// them.
//
//   writer:  WaitFor(room)  ── write, Publish ──▶ wakes the reader if it wants that
//   reader:  WaitFor(items) ── read,  Publish ──▶ wakes the writer if it wants that
//   either:  Close ─────▶ wakes the other in any case
//
// A wake-up that is lost is a thread that sleeps when the other has ended: a deadlock,
// and Relacy reports it.
//
// Invariants:
//   1. The reader reads each item once, in order, and nothing else.
//   2. Who waits for what comes gets it; who waits for what never comes learns that
//      the other side has ended, and has all that was handed over before.
//   3. Nobody lies.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<WaitModel<{.capacity = 2, .writes = 2, .reads = 2}>>();

#ifndef DOPPEL_TESTS_MODEL_WAIT_MODEL_H_
#define DOPPEL_TESTS_MODEL_WAIT_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <cstdint>

#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/placed.h"
#include "doppel/tests/model/search.h"
#include "doppel/tests/model/sleep.h"

namespace doppel::model {

struct WaitPlan {
  uint64_t capacity = 2;
  uint64_t filled = 0;  // Items in the ring when the threads begin.
  uint64_t writes = 2;  // Items that the writer writes.
  uint64_t reads = 2;   // Items that the reader reads.
  uint64_t first_position = 0;
  uint64_t write_batch = 1;  // Waited for, written, and handed over at once.
  uint64_t read_batch = 1;
  bool closes = false;   // Each side ends when it is done.
  bool reopens = false;  // Each is closed at first, and opened by its thread.
  bool events = false;   // Every second wait is for an event, not on a futex.
  // Sleeps of each side that its deadline ends: it gives up, and asks again.
  uint64_t gives_up = 0;
  // How many rounds each side first makes without the heavy fence.
  uint64_t trials = 0;
};

template <WaitPlan kPlan>
struct WaitModel : Model<WaitModel<kPlan>, 2> {
  using Watch = RingWatch<ModelAtomics>;
  using Cursor = RingCursor<ModelAtomics>;

  // What one side has besides its words.
  struct Side {
    Placed<RingSide<ModelAtomics>> words;
    ModelFutex<2> futex;  // On words->signal: the other side sleeps there.
    ModelEvent<2> event;  // This side sleeps there.
    uint64_t waits = 0;
    uint64_t given_up = 0;
    uint64_t trials = 0;
    uint64_t done = 0;
  };

  WaitModel() {
    const uint64_t first = kPlan.first_position;
    writer.words->position.store(first + kPlan.filled,
                                 std::memory_order_relaxed);
    reader.words->position.store(first, std::memory_order_relaxed);
    reader.words->finished.store(first, std::memory_order_relaxed);
    writer.words->closed.store(kPlan.reopens, std::memory_order_relaxed);
    reader.words->closed.store(kPlan.reopens, std::memory_order_relaxed);
    for (; writer.done < kPlan.filled; ++writer.done) {
      slots[(first + writer.done) % kPlan.capacity](RL_INFO) = writer.done + 1;
    }
  }

  void thread(unsigned index) {
    if (index == 0) {
      Write();
    } else {
      Read();
    }
  }

  void Check() {
    RL_ASSERT(kPlan.closes || reader.done == kPlan.reads);
    RL_ASSERT(reader.done <= writer.done);
  }

  void Write() {
    Watch watch =
        Watch::Writer(writer.words.get(), reader.words.get(), kPlan.capacity);
    Cursor cursor(&watch);
    if (kPlan.reopens) cursor.Open();
    while (writer.done < kPlan.filled + kPlan.writes) {
      if (!WaitFor(kPlan.write_batch, cursor, writer, reader)) break;
      for (uint64_t i = 0; i < kPlan.write_batch; ++i) {
        Slot(cursor)(RL_INFO) = ++writer.done;
        cursor.Stage(1);
      }
      Hand(cursor, watch, writer, reader);
    }
    Finish(cursor, watch, writer, reader);
  }

  void Read() {
    Watch watch =
        Watch::Reader(reader.words.get(), writer.words.get(), kPlan.capacity);
    Cursor cursor(&watch);
    if (kPlan.reopens) cursor.Open();
    while (reader.done < kPlan.reads) {
      uint64_t n = kPlan.read_batch;
      const bool goes_on = WaitFor(n, cursor, reader, writer);
      if (!goes_on) n = cursor.known();
      for (; n > 0; --n) {
        RL_ASSERT(Slot(cursor)(RL_INFO) == ++reader.done);
        cursor.Finish(1);
      }
      Hand(cursor, watch, reader, writer);
      if (goes_on) continue;
      // The writer ended before: nothing that it wrote may be missed.
      RL_ASSERT(kPlan.reopens || reader.done == writer.done);
      break;
    }
    Finish(cursor, watch, reader, writer);
  }

  // False if the other side has ended and there will never be enough.
  static bool WaitFor(uint64_t wanted, Cursor& cursor, Side& mine,
                      Side& theirs) {
    using Next = typename Cursor::Next;
    if (cursor.AvailableFor(wanted) >= wanted) return true;
    for (;;) {
      const bool by_event = kPlan.events && mine.waits++ % 2 == 0;
      uint32_t signal = 0;
      const bool is_trial = mine.trials < kPlan.trials;
      if (is_trial) ++mine.trials;
      const Next next = cursor.BeforeSleep(
          wanted, by_event ? WakeBy::kEvent : WakeBy::kFutex, signal, [=] {
            if (!is_trial) HeavyFence();
          });
      RL_ASSERT(!cursor.lied());
      if (next != Next::kSleep) return next == Next::kGoOn;
      // Whatever was overlooked: the sleep ends by itself.
      if (is_trial) continue;
      if (mine.given_up < kPlan.gives_up) {
        ++mine.given_up;
        cursor.EndWait();
        continue;
      }
      if (by_event) {
        mine.event.Wait();
      } else {
        theirs.futex.Wait(theirs.words->signal, signal);
      }
      if (cursor.EndWaitIf(wanted)) return true;
    }
  }

  static void Hand(Cursor& cursor, Watch& watch, Side& mine, Side& theirs) {
    if (!cursor.Publish()) return;
    const WakeBy by = cursor.theirs()->wake_by.load(std::memory_order_relaxed);
    watch.ChangeSignal();
    if (by == WakeBy::kEvent) {
      theirs.event.Signal();
    } else {
      mine.futex.Wake();
    }
  }

  // How the other side waits is not known here: it is woken both ways.
  static void Finish(Cursor& cursor, Watch& watch, Side& mine, Side& theirs) {
    if (!kPlan.closes) return;
    cursor.Close();
    watch.ChangeSignal();
    mine.futex.Wake();
    if (kPlan.events) theirs.event.Signal();
  }

  rl::var<uint64_t>& Slot(const Cursor& cursor) {
    return slots[cursor.position() % kPlan.capacity];
  }

  Side writer;
  Side reader;
  std::array<rl::var<uint64_t>, kPlan.capacity> slots;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_WAIT_MODEL_H_
