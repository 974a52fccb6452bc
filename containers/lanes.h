// SPDX-License-Identifier: Apache-2.0
//
// Many producers, one consumer, a ring each: whoever dies, stalls or lies holds up its
// own lane only. This is the way for producers in processes of their own; within one
// process mpsc_ring.h needs less memory.
//
//   producer 0 ── ring ──▶ lane 0 ┐
//   producer 1 ── ring ──▶ lane 1 ├─ Next(): in turn, those that have something
//   producer 2 ── ring ──▶ lane 2 ┘
//
// Invariants:
//   1. Next() goes round: between two turns of a lane each other lane that has something
//      has had one, whatever lanes were added or removed in between. How much is taken in
//      a turn is the caller's choice.
//   2. Items of one lane come in their order. Between lanes there is none.
//   3. A lane is removed when it is drained and its producer has closed, died or lied;
//      until then it stays, whatever the others do.
//   4. While some lane has something, Next and wait make no system call.
//
// Lanes of messages: a lane has something if there is a message that was not shown yet.
// What next() has shown takes up room until it is released: release before you wait.
//
// Thread safety: belongs to one thread at a time, as the readers in it.
// Errors: a Status, or those of RingWait. Add and RemoveEnded take memory as std::vector
//   does (std::bad_alloc).
//
// Example:
//   Lanes<RingReader<int>> lanes;
//   absl::StatusOr<size_t> lane = lanes.Add(*ring.reader());
//   while (lanes.size() > 0) {
//     if (lanes.wait() != RingWait::kReady) lanes.RemoveEnded();
//     RingReader<int>* reader = lanes.Next();
//     if (reader == nullptr) continue;
//     for (int i = 0; i < 64 && !reader->empty(); ++i) Use(*reader->try_pop());
//   }
//   // Of messages: Lanes<MessageReader>, and in a turn
//   while (auto message = reader->next()) Use(*message);
//   reader->release();

#ifndef DOPPEL_CONTAINERS_LANES_H_
#define DOPPEL_CONTAINERS_LANES_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "doppel/containers/internal/lanes_poll.h"
#include "doppel/containers/internal/wait_pace.h"
#include "doppel/containers/ring_wait.h"

namespace doppel {

// `Reader` is RingReader<T> or MessageReader: it has empty(), event() and TryArm().
template <class Reader>
class Lanes {
 public:
  // A lane that has ended, and why.
  struct Ended {
    size_t lane = 0;
    RingWait why = RingWait::kClosed;  // kClosed, kPeerGone or kDataLoss.
  };

  // Takes a reader in, and gives it a number that no other has had. Linear in the lanes
  // where the vector grows. Fails with what Reader::event() reports.
  absl::StatusOr<size_t> Add(Reader reader) {
    const absl::StatusOr<int> event = reader.event();
    if (!event.ok()) return event.status();
    events_.reserve(lanes_.size() + 1);
    lanes_.push_back({std::move(reader), next_number_, *event});
    return next_number_++;
  }

  size_t size() const { return lanes_.size(); }

  // The next lane, in turn, that has something; nullptr if none has. Valid until lanes
  // are added or removed. Looks at each lane at most once.
  Reader* Next() {
    for (size_t looked = 0; looked < lanes_.size(); ++looked) {
      if (next_ == lanes_.size()) next_ = 0;
      Lane& lane = lanes_[next_++];
      if (lane.reader.empty()) continue;
      current_ = lane.number;
      return &lane.reader;
    }
    return nullptr;
  }

  // The number of the lane whose reader Next() gave last. REQUIRES: it gave one.
  size_t current() const { return current_; }

  // Waits until a lane has something: kReady. kClosed: none has, and one has ended, by
  // whatever (RemoveEnded says which, and why), or there is no lane. kDeadlineExceeded as
  // usual. A system call or two a lane before it sleeps. REQUIRES: no MessageReader
  // shows its whole ring.
  RingWait wait(const RingWaitOptions& options = {}) {
    const absl::Time spin_end =
        std::min(options.deadline, absl::Now() + options.spin);
    for (;;) {
      const absl::Time round_end =
          std::min(spin_end, absl::Now() + internal::kSpinRound);
      do {
        if (HasSomething()) return RingWait::kReady;
      } while (absl::Now() < round_end);
      // To arm them tells which have ended.
      events_.clear();
      bool all_sure = true;
      for (Lane& lane : lanes_) {
        bool sure = true;
        const RingWait armed = lane.reader.TryArm(sure);
        if (armed == RingWait::kReady) return RingWait::kReady;
        if (armed != RingWait::kArmed) continue;
        events_.push_back(lane.event);
        all_sure = all_sure && sure;
      }
      if (lanes_.empty() || events_.size() < lanes_.size()) {
        return RingWait::kClosed;
      }
      const absl::Time now = absl::Now();
      if (now >= options.deadline) return RingWait::kDeadlineExceeded;
      if (now < spin_end) continue;
      const absl::Time at_most =
          all_sure ? absl::InfiniteFuture() : now + internal::kBlindSleep;
      internal::PollAny(events_, std::min(options.deadline, at_most));
    }
  }

  // Removes the lanes that have ended and are drained, and says which. The others keep
  // their turns. A system call a lane. REQUIRES: as wait.
  std::vector<Ended> RemoveEnded() {
    std::vector<Ended> ended;
    size_t next = next_;
    for (size_t i = 0; i < lanes_.size(); ++i) {
      // Arming looks after it has seen the end: nothing is left then.
      bool sure = true;
      const RingWait armed = lanes_[i].reader.TryArm(sure);
      if (armed == RingWait::kReady || armed == RingWait::kArmed) continue;
      ended.push_back({lanes_[i].number, armed});
      if (i < next_) --next;
    }
    std::erase_if(lanes_, [&](const Lane& lane) {
      return std::ranges::any_of(
          ended, [&](const Ended& one) { return one.lane == lane.number; });
    });
    next_ = next;
    return ended;
  }

 private:
  struct Lane {
    Reader reader;
    size_t number;
    int event;  // The reader's.
  };

  bool HasSomething() {
    return std::ranges::any_of(lanes_,
                               [](Lane& lane) { return !lane.reader.empty(); });
  }

  std::vector<Lane> lanes_;
  std::vector<int> events_;  // Of the lanes that are armed.
  size_t next_number_ = 0;
  // Index of the lane that is looked at first. At the end of a round lanes_.size(): a
  // lane that is added then comes before those that had their turn.
  size_t next_ = 0;
  size_t current_ = 0;  // Number of the lane that was given last.
};

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_LANES_H_
