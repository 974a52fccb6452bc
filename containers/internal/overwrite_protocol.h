// SPDX-License-Identifier: Apache-2.0
//
// The protocol of a ring whose writer never waits, and overwrites the oldest: positions
// only, no pointers to items and no system calls.
//
//             reader              oldest                      write
//   ────────────┼───────────────────┼───────────────────────────┼──────▶ position
//               │       lost        │          intact           │
//                           └ lead ─┘ being overwritten
//
// The writer alone stores both words. What it is about to overwrite it first takes out
// of [oldest, write), `lead` items at a time, so that the line of `oldest` stays with
// those who read it. A reader copies items, and looks at `oldest` afterwards: what is
// below was perhaps overwritten while it was copied, and is thrown away (a seqlock).
//
// Invariants:
//   1. The writer stores two words that readers load; readers store none that it loads.
//   2. Its position is stored with release order, after the items; readers load it with
//      acquire order, before them.
//   3. A slot is stored to only when `oldest` is above what it held.
//   4. A copy that was confirmed holds what the writer put in, whole.
//   5. Each item that a reader passes it was given, or it was counted as lost.
//   6. A reader never believes in more than `capacity` items.
//   7. Positions count items from 0. They do not reach 2^64: that takes 58 years at ten
//      items a nanosecond.
//
// Why a confirmed copy is whole. Items are copied by relaxed atomic words. If a load
// took a word of a later lap, then the release fence before that word's store and the
// acquire fence after the load order the store of `oldest` before the load of it
// (H.-J. Boehm, "Can seqlocks get along with programming language memory models?",
// MSPC 2012). No tool needs to know fences to see that nothing races: all is atomic.
//
// Thread safety: a cursor belongs to one thread at a time; the words are shared.
// Errors: none.
//
// Example:
//   OverwriteWriterCursor<> writer(&watch);
//   writer.MakeRoom(1);
//   StoreWords(slot(writer.position()), item);
//   writer.Publish(1);

#ifndef DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_PROTOCOL_H_
#define DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_PROTOCOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "doppel/containers/internal/pause.h"
#include "doppel/containers/internal/ring_fences.h"
#include "doppel/containers/internal/ring_pacing.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {

// What both sides share besides the writer's words.
template <class Atomics = StdAtomics>
struct OverwriteWords {
  using Word = typename Atomics::template Atomic<uint64_t>;
  // Stored by the writer: what is at it and above, up to the writer's position, is
  // intact.
  alignas(kRingLineBytes) Word oldest{0};
};

// Stored by a reader, when it has been overrun.
template <class Atomics = StdAtomics>
struct OverwriteCounts {
  using Word = typename Atomics::template Atomic<uint64_t>;
  Word overruns{0};
  Word lost{0};  // Items.
};

template <class Atomics = StdAtomics, class Fences = StdFences>
class OverwriteWriterWatch {
 public:
  using Side = RingSide<Atomics>;
  using Words = OverwriteWords<Atomics>;

  // REQUIRES: 1 <= lead <= capacity.
  OverwriteWriterWatch(Side* writer, Words* words, uint64_t capacity,
                       uint64_t lead)
      : mine_(writer), words_(words), capacity_(capacity), lead_(lead) {}

  Side* mine() const { return mine_; }
  uint64_t capacity() const { return capacity_; }
  uint64_t lead() const { return lead_; }

  uint64_t End() const {
    return words_->oldest.load(std::memory_order_relaxed) + capacity_;
  }

  // Takes the next `lead` slots from `position` on out of what is intact, and returns
  // where they end.
  ABSL_ATTRIBUTE_NOINLINE uint64_t Advance(uint64_t position) {
    words_->oldest.store(position + lead_ - capacity_,
                         std::memory_order_relaxed);
    Fences::Release();  // Before the items' words.
    return position + lead_;
  }

 private:
  Side* mine_;
  Words* words_;
  uint64_t capacity_;
  uint64_t lead_;
};

template <class Atomics = StdAtomics, class Fences = StdFences>
class OverwriteWriterCursor {
 public:
  using Watch = OverwriteWriterWatch<Atomics, Fences>;

  explicit OverwriteWriterCursor(Watch* watch)
      : mine_(watch->mine()),
        watch_(watch),
        position_(mine_->position.load(std::memory_order_relaxed)),
        end_(watch->End()) {}

  uint64_t position() const { return position_; }
  uint64_t capacity() const { return watch_->capacity(); }
  uint64_t lead() const { return watch_->lead(); }

  // Before the next n items are stored. REQUIRES: n <= lead().
  void MakeRoom(uint64_t n) {
    if (ABSL_PREDICT_FALSE(end_ - position_ < n)) {
      end_ = watch_->Advance(position_);
    }
  }

  // Hands the next n items over, which are stored. REQUIRES: MakeRoom(n).
  void Publish(uint64_t n) {
    position_ += n;
    mine_->position.store(position_, std::memory_order_release);
  }

  // Opens the ring, which a handle before may have closed.
  void Open() { mine_->closed.store(0, std::memory_order_relaxed); }

  // Ends it: nothing comes after what is published.
  void Close() { mine_->closed.store(1, std::memory_order_release); }

 private:
  RingSide<Atomics>* mine_;
  Watch* watch_;
  uint64_t position_;  // Of the next item.
  uint64_t end_;       // Slots below are the writer's.
};

// How a reader looks at the writer. Lives as long as its cursor.
template <class Atomics = StdAtomics, class Fences = StdFences>
class OverwriteReaderWatch {
 public:
  using Side = RingSide<Atomics>;
  using Words = OverwriteWords<Atomics>;
  using Counts = OverwriteCounts<Atomics>;

  // `mine` and `counts` are the reader's, for statistics only.
  OverwriteReaderWatch(Side* mine, Counts* counts, const Side* writer,
                       const Words* words, uint64_t capacity,
                       const RingPacing& pacing = {})
      : mine_(mine),
        counts_(counts),
        writer_(writer),
        words_(words),
        capacity_(capacity),
        high_water_(mine->high_water.load(std::memory_order_relaxed)),
        pacing_(pacing) {}

  const Side* writer() const { return writer_; }
  const Words* words() const { return words_; }
  uint64_t capacity() const { return capacity_; }
  uint64_t lost() const { return lost_; }

  // The newest position, or the oldest that is intact, for a reader that begins.
  uint64_t Newest() const {
    return writer_->position.load(std::memory_order_relaxed);
  }
  uint64_t Oldest() const {
    return words_->oldest.load(std::memory_order_relaxed);
  }

  // Where a reader stands and how far it may go.
  struct Stand {
    uint64_t position;
    uint64_t limit;
  };

  ABSL_ATTRIBUTE_NOINLINE Stand Look(uint64_t position) {
    // A position that the reader was moved to may be newer than this load's value.
    const uint64_t limit =
        std::max(position, writer_->position.load(std::memory_order_acquire));
    const uint64_t items = std::min(limit - position, capacity_);
    if (items > high_water_) {
      high_water_ = items;
      mine_->high_water.store(items, std::memory_order_relaxed);
    }
    if (ABSL_PREDICT_FALSE(limit - position > capacity_)) {
      return MoveOn(position, 0);
    }
    return {position, limit};
  }

  ABSL_ATTRIBUTE_NOINLINE Stand LookFor(uint64_t position) {
    for (uint32_t i = pacing_.pauses(); i > 0; --i) Pause();
    const Stand stand = Look(position);
    pacing_.Found(stand.limit - stand.position);
    return stand;
  }

  // Moves a reader that was overrun to the oldest item that is intact. A reader to
  // which that happened `tries` times before it got an item is too slow to copy the
  // oldest one in time, and is moved to the middle of what is intact.
  ABSL_ATTRIBUTE_NOINLINE Stand MoveOn(uint64_t position, uint32_t tries) {
    const uint64_t oldest = std::max(position, Oldest());
    const uint64_t written =
        std::max(oldest, writer_->position.load(std::memory_order_acquire));
    const uint64_t intact = std::min(written - oldest, capacity_);
    const uint64_t to = oldest + (tries == 0 ? 0 : intact / 2);
    Lose(to - position);
    return {to, std::min(written, to + capacity_)};
  }

  ABSL_ATTRIBUTE_NOINLINE void Lose(uint64_t n) {
    lost_ += n;
    AddTo(counts_->lost, n);
    AddTo(counts_->overruns, 1);
  }

 private:
  Side* mine_;           // Stored by this reader.
  Counts* counts_;       // The same.
  const Side* writer_;   // Loaded by this reader.
  const Words* words_;   // The same.
  uint64_t capacity_;    // Copied: where it comes from is shared.
  uint64_t lost_ = 0;    // By this reader.
  uint64_t high_water_;  // What mine_->high_water holds.
  RingPacing pacing_;
};

template <class Atomics = StdAtomics, class Fences = StdFences>
class OverwriteReaderCursor {
 public:
  using Watch = OverwriteReaderWatch<Atomics, Fences>;

  OverwriteReaderCursor(Watch* watch, uint64_t position)
      : oldest_(&watch->words()->oldest),
        watch_(watch),
        position_(position),
        limit_(position) {}

  // Of the next item.
  uint64_t position() const { return position_; }
  uint64_t capacity() const { return watch_->capacity(); }
  uint64_t lost() const { return watch_->lost(); }

  // Items that are known of, at most capacity(). They may be overwritten at any time.
  uint64_t known() const { return limit_ - position_; }

  // Looks at the writer if fewer than `wanted` are known of. position() may change.
  uint64_t AvailableFor(uint64_t wanted) {
    if (ABSL_PREDICT_FALSE(known() < wanted)) {
      Take(watch_->LookFor(position_));
    }
    return known();
  }

  void Look() { Take(watch_->Look(position_)); }

  // Items that are known of and were intact at a moment of this call.
  uint64_t Intact() const {
    const uint64_t oldest = oldest_->load(std::memory_order_relaxed);
    return limit_ - std::min(limit_, std::max(oldest, position_));
  }

  // After a copy of n items from position(): passes them, and says how many of the
  // first of them may have been overwritten meanwhile. If all were, position() is not n
  // items further, but where to go on. `tries`: how often that came about in a row.
  // REQUIRES: 0 < n <= known().
  uint64_t Confirm(uint64_t n, uint32_t tries) {
    Fences::Acquire();  // After the items' words.
    const uint64_t oldest = oldest_->load(std::memory_order_relaxed);
    if (ABSL_PREDICT_TRUE(oldest <= position_)) {
      position_ += n;
      return 0;
    }
    if (oldest - position_ >= n) {
      Take(watch_->MoveOn(position_, tries));
      return n;
    }
    const uint64_t spoiled = oldest - position_;
    watch_->Lose(spoiled);
    position_ += n;
    return spoiled;
  }

  // Whether the writer has ended. What it had handed over before is found by a look
  // that comes after.
  bool closed() const {
    return watch_->writer()->closed.load(std::memory_order_acquire) != 0;
  }

 private:
  void Take(const typename Watch::Stand& stand) {
    position_ = stand.position;
    limit_ = stand.limit;
  }

  const typename OverwriteWords<Atomics>::Word* oldest_;
  Watch* watch_;
  uint64_t position_;  // Of the next item.
  uint64_t limit_;     // The writer's position as it was seen last.
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_OVERWRITE_PROTOCOL_H_
