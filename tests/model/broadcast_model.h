// SPDX-License-Identifier: Apache-2.0
//
// The rings of many readers, over the library's own cursors.
//
//   BroadcastModel   thread 0       AvailableFor · write · Publish ... Close
//                    threads 1, 2   Join · read · Publish ... Leave · Join ...
//   OverwriteModel   thread 0       MakeRoom · store words · Publish ... Close
//                    thread 1       AvailableFor · load words · Confirm ...
//
// Invariants:
//   1. BroadcastModel: a reader gets each item from the one at which it joined, once, in
//      order, and no access to an item races.
//   2. OverwriteModel: an item that was confirmed is the one at that position, whole;
//      what was got and what was lost add up to what was pushed.
//   3. Who has seen that the ring is closed, and then an empty ring, got the last item.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<BroadcastModel<{.capacity = 1}>>(4);

#ifndef DOPPEL_TESTS_MODEL_BROADCAST_MODEL_H_
#define DOPPEL_TESTS_MODEL_BROADCAST_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <source_location>

#include "doppel/containers/internal/broadcast_protocol.h"
#include "doppel/containers/internal/ends_protocol.h"
#include "doppel/containers/internal/overwrite_protocol.h"
#include "doppel/containers/ring_layout.h"
#include "doppel/containers/ring_protocol.h"
#include "doppel/tests/model/event_model.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/placed.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// StdFences, made so that Relacy sees them and mutants leave them out.
struct ModelFences {
  using Where = std::source_location;

  static void Acquire(const Where& where = Where::current()) {
    if (!Stands(where)) return;
    rl::ctx().atomic_thread_fence_acquire();
  }
  static void Release(const Where& where = Where::current()) {
    if (!Stands(where)) return;
    rl::ctx().atomic_thread_fence_release();
  }
  static void Full(const Where& where = Where::current()) {
    if (!Stands(where)) return;
    // What was stored before may be late for those who look now.
    rl::ctx().sched();
    rl::ctx().atomic_thread_fence_seq_cst();
  }

 private:
  static bool Stands(const Where& where) {
    return Sites::FenceStandsAt(where, Operation::kHeavyFence);
  }
};

// What the threads do. A turn is one question for room, or for items.
struct BroadcastPlan {
  uint64_t capacity = 1;
  uint64_t items = 3;
  int write_turns = 4;
  int sessions = 1;  // How often each reader joins.
  // In each session. 0: until the ring is closed and empty.
  int read_turns = 2;
  bool peeks = false;     // What is read in the last turn is not handed back.
  bool one_seat = false;  // Readers have one seat in turn.
  bool filled = false;    // There is an item, and the first reader has joined.
  // The writer sleeps until there is room, and who reads to the end until there is an
  // item.
  bool waits = false;
  // Faults: who joins, or leaves, does not wake the writer.
  bool joins_quietly = false;
  bool leaves_quietly = false;
};

template <BroadcastPlan kPlan, int kReaders>
struct BroadcastModel : Model<BroadcastModel<kPlan, kReaders>, kReaders + 1> {
  using Side = RingSide<ModelAtomics>;
  using Sides = std::array<Side, kReaders>;

  BroadcastModel() {
    for (Side& side : *sides.get()) ::doppel::internal::LeaveBroadcast(side);
    if (!kPlan.filled) return;
    Slot(0)(RL_INFO) = 0;
    writer->position.store(1, std::memory_order_relaxed);
    sides.get()->front().position.store(0, std::memory_order_relaxed);
    taken[0].store(1, std::memory_order_relaxed);
  }

  void thread(unsigned index) {
    if (index == 0) {
      Write();
    } else {
      for (int i = 0; i < kPlan.sessions; ++i) {
        Sit(kPlan.one_seat ? 0 : index - 1);
      }
    }
  }

  // As BroadcastStorage::TakeSeat.
  void Sit(unsigned seat) {
    Side& side = (*sides.get())[seat];
    if (!kPlan.filled || rl::thread_index() != 1) {
      if (!::doppel::internal::TakeSeat(taken[seat])) return;
      ::doppel::internal::JoinBroadcast<ModelAtomics, ModelFences>(
          side, *writer.get());
      if (!kPlan.joins_quietly) WakeWriter();
    }
    Read(side);
    ::doppel::internal::LeaveSeat(taken[seat]);
  }

  void Write() {
    ::doppel::internal::BroadcastWatch<ModelAtomics, ModelFences> watch(
        writer.get(), *sides.get(), kPlan.capacity);
    ::doppel::internal::BroadcastCursor<ModelAtomics, ModelFences> cursor(
        &watch);
    for (int turn = 0; cursor.position() < kPlan.items && GoesOn(turn);
         ++turn) {
      const uint64_t n = cursor.AvailableFor(1);
      RL_ASSERT(n <= kPlan.capacity);
      if (n == 0) {
        if (kPlan.waits) {
          WaitForRoom(cursor);
        } else if (kPlan.read_turns == 0) {
          rl::yield(1, RL_INFO);
        }
        continue;
      }
      Slot(cursor.position())(RL_INFO) = cursor.position();
      cursor.Stage(1);
      cursor.Publish();
      if (kPlan.waits) items.Notify();
    }
    RL_ASSERT(!kPlan.waits || cursor.position() == kPlan.items);
    cursor.Close();
    if (kPlan.waits) items.Notify();
  }

  // As WaitForRoom in broadcast_wait.cc.
  template <class Cursor>
  void WaitForRoom(Cursor& cursor) {
    cursor.Wish(1);
    room.Wait([&] {
      cursor.Look();
      return cursor.known() >= 1;
    });
    cursor.EndWish();
  }

  void Read(Side& side) {
    auto watch =
        RingWatch<ModelAtomics>::Reader(&side, writer.get(), kPlan.capacity);
    RingCursor<ModelAtomics> cursor(&watch);
    for (int turn = 0; kPlan.read_turns == 0 || turn < kPlan.read_turns;
         ++turn) {
      const bool closed = cursor.closed();
      const uint64_t n = cursor.AvailableFor(1);
      RL_ASSERT(n <= kPlan.capacity && !cursor.lied());
      if (n > 0) {
        RL_ASSERT(Slot(cursor.position())(RL_INFO) == cursor.position());
        if (kPlan.peeks && turn == kPlan.read_turns - 1) break;
        cursor.Finish(1);
        const bool wakes = cursor.Publish();
        RL_ASSERT(kPlan.waits || !wakes);
        if (wakes) room.NotifySlow();
      } else if (closed) {
        RL_ASSERT(kPlan.read_turns != 0 || cursor.position() == kPlan.items);
        break;
      } else if (kPlan.read_turns == 0 && kPlan.waits) {
        items.Wait([&] {
          const bool ended = cursor.closed();
          cursor.Look();
          return ended || cursor.known() >= 1;
        });
      } else if (kPlan.read_turns == 0) {
        rl::yield(1, RL_INFO);
      }
    }
    ::doppel::internal::LeaveBroadcast(side);
    if (!kPlan.leaves_quietly) WakeWriter();
  }

  // As BroadcastStorage::Join and BroadcastHold do.
  void WakeWriter() {
    if (kPlan.waits && ::doppel::internal::WriterWaits(*writer.get())) {
      room.NotifySlow();
    }
  }

  // Bounded turns make the number of schedules finite.
  static bool GoesOn(int turn) {
    return kPlan.waits || kPlan.read_turns == 0 || turn < kPlan.write_turns;
  }

  rl::var<uint64_t>& Slot(uint64_t position) {
    return slots[position % kPlan.capacity];
  }

  Placed<Side> writer;
  Placed<Sides> sides;
  std::array<ModelAtomic<uint32_t>, kReaders> taken;
  ModelEventCount<kReaders + 1> items;
  ModelEventCount<kReaders + 1> room;
  std::array<rl::var<uint64_t>, kPlan.capacity> slots;
};

struct OverwritePlan {
  uint64_t capacity = 2;
  uint64_t lead = 1;
  uint64_t items = 4;
  uint64_t push = 1;   // Items a push, at most `lead`.
  uint64_t batch = 1;  // Items copied at a time, at most.
  int turns = 3;       // Of the reader. 0: until the ring is closed and empty.
};

template <OverwritePlan kPlan>
struct OverwriteModel : Model<OverwriteModel<kPlan>, 2> {
  using Side = RingSide<ModelAtomics>;

  void thread(unsigned index) {
    if (index == 0) {
      Write();
    } else {
      Read();
    }
  }

  void Write() {
    ::doppel::internal::OverwriteWriterWatch<ModelAtomics, ModelFences> watch(
        writer.get(), shared.get(), kPlan.capacity, kPlan.lead);
    ::doppel::internal::OverwriteWriterCursor<ModelAtomics, ModelFences> cursor(
        &watch);
    while (cursor.position() < kPlan.items) {
      cursor.MakeRoom(kPlan.push);
      for (uint64_t i = 0; i < kPlan.push; ++i) {
        const uint64_t at = cursor.position() + i;
        for (ModelAtomic<uint64_t>& word : Slot(at)) {
          word.store(at + 1, std::memory_order_relaxed);
        }
      }
      cursor.Publish(kPlan.push);
    }
    cursor.Close();
  }

  void Read() {
    ::doppel::internal::OverwriteReaderWatch<ModelAtomics, ModelFences> watch(
        reader.get(), counts.get(), writer.get(), shared.get(), kPlan.capacity);
    ::doppel::internal::OverwriteReaderCursor<ModelAtomics, ModelFences> cursor(
        &watch, 0);
    uint64_t got = 0;
    uint32_t tries = 0;
    for (int turn = 0; kPlan.turns == 0 || turn < kPlan.turns; ++turn) {
      const bool closed = cursor.closed();
      const uint64_t n =
          std::min(cursor.AvailableFor(kPlan.batch), kPlan.batch);
      RL_ASSERT(cursor.known() <= kPlan.capacity);
      if (n > 0) {
        got += Take(cursor, n, tries);
      } else if (closed) {
        RL_ASSERT(cursor.position() == kPlan.items);
        break;
      } else if (kPlan.turns == 0) {
        rl::yield(1, RL_INFO);
      }
      RL_ASSERT(got + cursor.lost() == cursor.position());
    }
  }

  // Copies n items; returns how many of them it got.
  template <class Cursor>
  uint64_t Take(Cursor& cursor, uint64_t n, uint32_t& tries) {
    const uint64_t first = cursor.position();
    std::array<Item, kPlan.batch> copies = {};
    for (uint64_t i = 0; i < n; ++i) {
      auto& words = Slot(first + i);
      for (uint64_t w = 0; w < words.size(); ++w) {
        copies[i][w] = words[w].load(std::memory_order_relaxed);
      }
    }
    const uint64_t spoiled = cursor.Confirm(n, tries);
    for (uint64_t i = spoiled; i < n; ++i) {
      for (const uint64_t word : copies[i]) RL_ASSERT(word == first + i + 1);
    }
    tries = spoiled == n ? tries + 1 : 0;
    return n - spoiled;
  }

  using Item = std::array<uint64_t, 2>;
  using Words = std::array<ModelAtomic<uint64_t>, 2>;

  Words& Slot(uint64_t position) { return slots[position % kPlan.capacity]; }

  Placed<Side> writer;
  Placed<Side> reader;
  Placed<::doppel::internal::OverwriteWords<ModelAtomics>> shared;
  Placed<::doppel::internal::OverwriteCounts<ModelAtomics>> counts;
  std::array<Words, kPlan.capacity> slots;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_BROADCAST_MODEL_H_
