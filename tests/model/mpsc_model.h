// SPDX-License-Identifier: Apache-2.0
//
// Two producers and a consumer, over the library's own cursors of the MPSC protocol.
//
//   threads 0, 1   Claim · write payload · Commit (or Commit a frame to skip)
//                     │ claim, headers          position │
//   thread 2          └── Look · read payload · Pass ... HandBack · zero
//
// The memory's words are headers at one time and payload at another, so each word is
// two things here (ModelWord): an atomic, which the consumer may take for a header
// whatever was meant, and an rl::var, on which Relacy reports races of the accesses
// that are plain in the library.
//
// Invariants:
//   1. Each producer's messages arrive whole, in order and once; frames to skip do not
//      arrive.
//   2. Who finds the ring full saw a claim together with the consumer's position that
//      it rested on, or a later one: it never takes more than the capacity for used.
//   3. The consumer never takes anything for a header but what was committed.
//
// Thread safety: as for search.h.
// Errors: as for search.h.
//
// Example:
//   SearchAll<MpscModel<{.capacity_words = 4, .messages = 2}>>(4);

#ifndef DOPPEL_TESTS_MODEL_MPSC_MODEL_H_
#define DOPPEL_TESTS_MODEL_MPSC_MODEL_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <source_location>

#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"
#include "doppel/tests/model/event_model.h"
#include "doppel/tests/model/model_atomics.h"
#include "doppel/tests/model/search.h"

namespace doppel::model {

// Eight bytes of the ring's memory, which are 0 at first.
class ModelWord {
 public:
  using Where = std::source_location;

  // --- As a header. The plain load stands for the race that it would be if somebody
  // wrote to the word meanwhile in any other way. ---

  uint64_t load(std::memory_order order,
                const Where& where = Where::current()) {
    const uint64_t value = atomic_.load(order, where);
    static_cast<void>(plain_(RL_INFO).load());
    return value;
  }
  void store(uint64_t value, std::memory_order order,
             const Where& where = Where::current()) {
    static_cast<void>(plain_(RL_INFO).load());
    atomic_.store(value, order, where);
  }

  // --- As plain memory. Threads are not switched there: if it made a difference, it
  // would be a race, and is reported as one. ---

  void Write(uint64_t value) {
    plain_(RL_INFO) = value;
    const rl::preemption_disabler no_switch(rl::ctx());
    atomic_.store(value, std::memory_order_relaxed);
  }
  uint64_t Read() { return plain_(RL_INFO); }

 private:
  ModelAtomic<uint64_t> atomic_{0};
  rl::var<uint64_t> plain_{0};
};

struct MpscPlan {
  uint64_t capacity_words = 4;
  uint64_t messages = 2;       // Of each producer.
  uint64_t payload_words = 1;  // Of the shortest message.
  uint64_t lengths = 1;  // Messages have so many lengths in turn, a word apart.
  uint64_t skip = 0;     // Each message of this number is given up; 0: none.
  uint64_t batch = 1;    // Messages that the consumer hands back at once.
  uint64_t forgets = 0;  // Words at a run's end that are not zeroed: a fault.
  bool frames_wrap = true;
  int turns = 0;       // Of each thread; 0: until all is done, with yields.
  bool waits = false;  // Sleeps and is woken, instead of yields.
};

template <MpscPlan kPlan>
struct MpscModel : Model<MpscModel<kPlan>, 3> {
  using Producer =
      ::doppel::internal::MpscProducerCursor<kPlan.frames_wrap, ModelAtomics>;
  using Consumer = ::doppel::internal::MpscConsumerCursor<ModelAtomics>;
  using Header = ::doppel::internal::MpscHeader;

  static constexpr uint64_t kUnit = ::doppel::internal::kFrameUnitBytes;
  static constexpr uint64_t kCapacityBytes = kPlan.capacity_words * kUnit;

  void thread(unsigned index) {
    if (index < 2) {
      Produce(index);
    } else {
      Consume();
    }
  }

  void Check() {
    for (const uint64_t n : arrived) {
      RL_ASSERT(n <= kPlan.messages);
      RL_ASSERT(kPlan.turns != 0 || n == kPlan.messages);
    }
  }

  void Produce(uint64_t producer) {
    Producer cursor(&claim, &consumer, kCapacityBytes);
    uint64_t sent = 0;
    for (int turn = 0; sent < kPlan.messages && GoesOn(turn); ++turn) {
      const uint64_t payload_words = PayloadWords(sent + 1);
      const uint64_t frame_bytes = (payload_words + 1) * kUnit;
      const std::optional<uint64_t> offset = cursor.Claim(
          frame_bytes, HeaderAt(),
          [](uint64_t /*position*/, uint64_t used_bytes, bool /*full*/) {
            RL_ASSERT(used_bytes <= kCapacityBytes);
          });
      if (!offset) {
        TurnInVain(room, [&] { return cursor.HasRoom(frame_bytes); });
        continue;
      }
      ++sent;
      for (uint64_t i = 1; i <= payload_words; ++i) {
        At(*offset + i * kUnit).Write(Content(producer, sent));
      }
      Producer::Commit(
          *offset,
          IsSkipped(sent) ? Header::Skip(frame_bytes)
                          : Header::Message(payload_words * kUnit, frame_bytes),
          HeaderAt());
      if (kPlan.waits) committed.Notify();
    }
  }

  void Consume() {
    Consumer cursor(&consumer, kCapacityBytes);
    uint64_t shown = 0;
    for (int turn = 0; !AllArrived() && GoesOn(turn); ++turn) {
      const Header header = cursor.Look(HeaderAt());
      if (!header.committed()) {
        HandBack(cursor);
        shown = 0;
        TurnInVain(committed,
                   [&] { return cursor.Look(HeaderAt()).committed(); });
        continue;
      }
      // What was never committed has a length that no frame has.
      RL_ASSERT(header.frame_bytes() > 0 &&
                header.frame_bytes() <= kCapacityBytes);
      if (!header.skip()) {
        Take(cursor.offset_bytes(), header);
        ++shown;
      }
      cursor.Pass(header);
      if (shown < kPlan.batch) continue;
      HandBack(cursor);
      shown = 0;
    }
    HandBack(cursor);
  }

  // Checks a message.
  void Take(uint64_t offset, Header header) {
    const uint64_t first = At(offset + kUnit).Read();
    const uint64_t producer = first & 1;
    uint64_t& n = arrived[producer];
    ++n;
    while (IsSkipped(n)) ++n;
    RL_ASSERT(header.payload_bytes() == PayloadWords(n) * kUnit);
    for (uint64_t i = 1; i <= header.payload_bytes() / kUnit; ++i) {
      RL_ASSERT(At(offset + i * kUnit).Read() == Content(producer, n));
    }
    // What is given up last counts as arrived.
    while (n < kPlan.messages && IsSkipped(n + 1)) ++n;
  }

  void HandBack(Consumer& cursor) {
    cursor.HandBack([this](uint64_t offset, uint64_t bytes) {
      const uint64_t forgotten = kPlan.forgets * kUnit;
      for (uint64_t i = 0; i + forgotten < bytes; i += kUnit) {
        At(offset + i).Write(0);
      }
    });
    if (kPlan.waits) room.Notify();
  }

  bool AllArrived() const {
    return arrived[0] == kPlan.messages && arrived[1] == kPlan.messages;
  }
  static bool GoesOn(int turn) {
    return kPlan.turns == 0 || turn < kPlan.turns;
  }
  template <class Look>
  static void TurnInVain(ModelEventCount<3>& count, Look look) {
    if (kPlan.waits) {
      count.Wait(look);
    } else if (kPlan.turns == 0) {
      rl::yield(1, RL_INFO);
    }
  }

  static uint64_t PayloadWords(uint64_t message) {
    return kPlan.payload_words + (message - 1) % kPlan.lengths;
  }
  static bool IsSkipped(uint64_t message) {
    return kPlan.skip != 0 && message % kPlan.skip == 0;
  }
  // Not 0, and as a header a frame of no length.
  static uint64_t Content(uint64_t producer, uint64_t message) {
    return message << 1 | producer;
  }

  // The second view shows the first words again.
  ModelWord& At(uint64_t offset) {
    return words[offset / kUnit % kPlan.capacity_words];
  }
  auto HeaderAt() {
    return [this](uint64_t offset) -> ModelWord& { return At(offset); };
  }

  ModelAtomic<uint64_t> claim{0};
  ModelAtomic<uint64_t> consumer{0};
  ModelEventCount<3> committed;
  ModelEventCount<3> room;
  std::array<ModelWord, kPlan.capacity_words> words;
  std::array<uint64_t, 2> arrived = {};  // The consumer's, by producer.
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_MPSC_MODEL_H_
