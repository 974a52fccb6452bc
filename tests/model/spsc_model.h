// SPDX-License-Identifier: Apache-2.0
//
// A writer and a reader who never wait, over the library's own RingCursor.
//
//   thread 0   AvailableFor · write slots · Stage ... · Publish
//                    │ position              position │
//   thread 1         └── Publish · Stage · read slots ── AvailableFor
//
// A slot is an rl::var: Relacy reports a race on it, that is, an access that nothing
// orders against another thread's.
//
// A reader may be relieved: its cursor ends, whatever it had finished and not handed
// back, and a new one goes on over the same words.
//
//   reader   Finish · Take · Publish · Finish ┊ the next: goes on behind · Publish · Take
//            finished is behind position      ┊ and here it is ahead of it
//
// Invariants:
//   1. The readers read each item once, in order, and nothing else.
//   2. Neither side ever knows of more than the capacity.
//   3. Nobody lies: a position that goes back would be taken for a lie.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<SpscModel<{.capacity = 2, .items = 3, .write_turns = 3}>>();

#ifndef DOPPEL_TESTS_MODEL_SPSC_MODEL_H_
#define DOPPEL_TESTS_MODEL_SPSC_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <cstdint>

#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/placed.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// What the two sides do. A turn is one question for room, or for items, and what
// follows if there are some. Bounded turns make the number of schedules finite; with
// 0 turns a side goes on until it is done, and yields after each turn in vain.
struct SpscPlan {
  uint64_t capacity = 2;
  uint64_t items = 3;
  uint64_t first_position = 0;
  int write_turns = 0;
  int read_turns = 0;
  uint64_t write_batch =
      1;  // Free slots asked for; all that are known are used.
  uint64_t read_batch = 1;  // Items asked for; all that are known are read.
  uint64_t stage = 1;       // Items staged at a time, before one Publish.
  // Of the reader's items each second one is taken, and handed back at once; the others
  // are finished, and handed back with the next. Else all are finished.
  bool takes = false;
  // Items after which a reader is relieved, at the end of its turn; 0: it never is.
  uint64_t relieved_after = 0;
};

template <SpscPlan kPlan>
struct SpscModel : Model<SpscModel<kPlan>, 2> {
  using Watch = RingWatch<ModelAtomics>;
  using Cursor = RingCursor<ModelAtomics>;

  SpscModel() {
    writer_side->position.store(kPlan.first_position,
                                std::memory_order_relaxed);
    reader_side->position.store(kPlan.first_position,
                                std::memory_order_relaxed);
    reader_side->finished.store(kPlan.first_position,
                                std::memory_order_relaxed);
  }

  void thread(unsigned index) {
    if (index == 0) {
      Write();
    } else {
      Read();
    }
  }

  void Check() {
    RL_ASSERT(read <= written);
    RL_ASSERT(kPlan.write_turns != 0 || read == kPlan.items);
  }

  void Write() {
    Watch watch =
        Watch::Writer(writer_side.get(), reader_side.get(), kPlan.capacity);
    Cursor cursor(&watch);
    for (int turn = 0; GoesOn(written, turn, kPlan.write_turns); ++turn) {
      uint64_t n = cursor.AvailableFor(kPlan.write_batch);
      RL_ASSERT(n <= kPlan.capacity && !cursor.lied());
      if (n == 0) {
        TurnInVain(kPlan.write_turns);
        continue;
      }
      for (; n > 0 && written < kPlan.items; --n) {
        Slot(cursor)(RL_INFO) = ++written;
        cursor.Stage(1);
        if (written % kPlan.stage == 0 && n > 1) Hand(cursor);
      }
      Hand(cursor);
    }
  }

  void Read() {
    int turn = 0;
    do {
      Watch watch =
          Watch::Reader(reader_side.get(), writer_side.get(), kPlan.capacity);
      Cursor cursor(&watch);
      RL_ASSERT(cursor.position() == kPlan.first_position + read);
      // As RingHandle does: what the one before had finished is handed back.
      if (kPlan.relieved_after != 0) Hand(cursor);
      ReadUntilRelieved(cursor, turn);
    } while (GoesOn(read, turn, kPlan.read_turns));
  }

  void ReadUntilRelieved(Cursor& cursor, int& turn) {
    const uint64_t first = read;
    const auto stays = [&] {
      return kPlan.relieved_after == 0 || read - first < kPlan.relieved_after;
    };
    for (; stays() && GoesOn(read, turn, kPlan.read_turns); ++turn) {
      uint64_t n = cursor.AvailableFor(kPlan.read_batch);
      RL_ASSERT(n <= kPlan.capacity && !cursor.lied());
      if (n == 0) {
        TurnInVain(kPlan.read_turns);
        continue;
      }
      for (; n > 0; --n) {
        RL_ASSERT(Slot(cursor)(RL_INFO) == ++read);
        if (kPlan.takes) {
          TakeOrFinish(cursor);
          continue;
        }
        cursor.Finish(1);
        if (read % kPlan.stage == 0 && n > 1) Hand(cursor);
      }
      if (!kPlan.takes) Hand(cursor);
    }
  }

  // The item that was just read.
  void TakeOrFinish(Cursor& cursor) {
    if (read % 2 != 0) {
      cursor.Finish(1);
    } else {
      cursor.Take(1);
      Hand(cursor);
    }
  }

  static bool GoesOn(uint64_t done, int turn, int turns) {
    return done < kPlan.items && (turns == 0 || turn < turns);
  }

  static void TurnInVain(int turns) {
    if (turns == 0) rl::yield(1, RL_INFO);
  }

  rl::var<uint64_t>& Slot(const Cursor& cursor) {
    return slots[cursor.position() % kPlan.capacity];
  }

  // Nobody waits, so nobody is to be woken.
  static void Hand(Cursor& cursor) { RL_ASSERT(!cursor.Publish()); }

  Placed<RingSide<ModelAtomics>> writer_side;
  Placed<RingSide<ModelAtomics>> reader_side;
  std::array<rl::var<uint64_t>, kPlan.capacity> slots;
  uint64_t written = 0;  // The writer's.
  uint64_t read = 0;     // The reader's, and those that relieve it.
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_SPSC_MODEL_H_
