// SPDX-License-Identifier: Apache-2.0
//
// Random operations of a producer and of consumers that come and go, on a ring and on a
// std::deque for each consumer: both must agree after each. One way after the other.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;

// Three words, so that items lie over the wrap.
using Item = std::array<uint32_t, 3>;

constexpr size_t kReaders = 3;

Item ItemOf(uint64_t number) {
  const auto word = static_cast<uint32_t>(number);
  return {word, word * 3 + 1, ~word};
}

class BroadcastRingModel : public ::testing::Test {
 protected:
  using Ring = BroadcastRing<Item>;
  struct Seat {
    std::optional<Ring::Reader> reader;
    std::deque<uint64_t> unread;  // Not finished.
    size_t unreleased = 0;        // Finished, and not handed back.
  };

  void Start(uint64_t seed, size_t min_capacity) {
    random_.seed(seed);
    writer_.reset();
    for (Seat& seat : seats_) seat = Seat();
    ring_.reset();
    next_ = 0;
    staged_ = 0;
    absl::StatusOr<Ring> ring =
        Ring::Create(min_capacity, {.max_readers = kReaders});
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    writer_.emplace(ring_->writer());
  }

  // Few mostly, and now and then as many as the ring has and more.
  size_t Some() {
    const uint64_t word = random_();
    return word % 8 == 0 ? word / 8 % (ring_->capacity() + 3) : word / 8 % 20;
  }

  size_t Free() const {
    size_t used = 0;
    for (const Seat& seat : seats_) {
      if (seat.reader) {
        used = std::max(used, seat.unread.size() + seat.unreleased);
      }
    }
    return ring_->capacity() - used - staged_;
  }

  void Publish() {
    for (uint64_t i = next_ - staged_; i < next_; ++i) {
      for (Seat& seat : seats_) {
        if (seat.reader) seat.unread.push_back(i);
      }
    }
    staged_ = 0;
  }

  void Write() {
    const size_t free = Free();
    switch (random_() % 5) {
      case 0:
        ASSERT_EQ(writer_->try_push(ItemOf(next_)), free > 0);
        if (free == 0) return;
        ++next_;
        ++staged_;
        return Publish();
      case 1: {
        std::vector<Item> items(Some());
        for (size_t i = 0; i < items.size(); ++i) items[i] = ItemOf(next_ + i);
        const size_t n = writer_->push(items);
        ASSERT_EQ(n, std::min(items.size(), free));
        if (n == 0) return;  // What is staged stays so.
        next_ += n;
        staged_ += n;
        return Publish();
      }
      case 2: {
        const size_t n = Some();
        const std::span<Item> slots = writer_->reserve(n);
        ASSERT_EQ(slots.size(), n <= free ? n : 0) << free;
        for (size_t i = 0; i < slots.size(); ++i) slots[i] = ItemOf(next_ + i);
        const size_t done = slots.empty() ? 0 : random_() % (n + 1);
        writer_->stage(done);
        next_ += done;
        staged_ += done;
        return;
      }
      case 3:
        writer_->publish();
        return Publish();
      default:
        ASSERT_EQ(writer_->free(), free);
    }
  }

  void Read(Seat& seat) {
    auto& reader = *seat.reader;
    ASSERT_EQ(reader.size(), seat.unread.size());
    switch (random_() % 5) {
      case 0: {
        const std::optional<Item> item = reader.try_pop();
        ASSERT_EQ(item.has_value(), !seat.unread.empty());
        if (!item) return;
        ASSERT_EQ(*item, ItemOf(seat.unread.front()));
        seat.unread.pop_front();
        seat.unreleased = 0;
        return;
      }
      case 1: {
        std::vector<Item> items(Some());
        const size_t n = reader.pop(items);
        ASSERT_EQ(n, std::min(items.size(), seat.unread.size()));
        CheckFront(seat, std::span(items).first(n));
        if (n == 0) return;
        seat.unread.erase(seat.unread.begin(),
                          seat.unread.begin() + static_cast<ptrdiff_t>(n));
        seat.unreleased = 0;
        return;
      }
      case 2: {
        const size_t at_least = Some();
        const std::span<const Item> items = reader.peek(at_least);
        ASSERT_EQ(items.size(),
                  at_least <= seat.unread.size() ? seat.unread.size() : 0);
        CheckFront(seat, items);
        const size_t n = random_() % (items.size() + 1);
        reader.finish(n);
        seat.unread.erase(seat.unread.begin(),
                          seat.unread.begin() + static_cast<ptrdiff_t>(n));
        seat.unreleased += n;
        return;
      }
      case 3:
        reader.release();
        seat.unreleased = 0;
        return;
      default:
        if (random_() % 4 != 0) return;
        seat.reader.reset();
        seat.unread.clear();
        seat.unreleased = 0;
    }
  }

  void CheckFront(const Seat& seat, std::span<const Item> items) {
    for (size_t i = 0; i < items.size(); ++i) {
      ASSERT_EQ(items[i], ItemOf(seat.unread[i]));
    }
  }

  void Step() {
    Seat& seat = seats_[random_() % kReaders];
    if (random_() % 2 == 0) {
      Write();
    } else if (seat.reader) {
      Read(seat);
    } else {
      absl::StatusOr<Ring::Reader> reader = ring_->reader();
      ASSERT_TRUE(reader.ok()) << reader.status();
      seat.reader.emplace(*std::move(reader));
    }
    size_t most = 0;
    uint32_t readers = 0;
    for (const Seat& each : seats_) {
      if (!each.reader) continue;
      ++readers;
      most = std::max(most, each.unread.size() + each.unreleased);
    }
    ASSERT_EQ(ring_->size(), most);
    ASSERT_EQ(ring_->readers(), readers);
  }

  std::mt19937_64 random_;
  std::optional<Ring> ring_;
  std::optional<Ring::Writer> writer_;
  std::array<Seat, kReaders> seats_;
  uint64_t next_ = 0;  // Number of the next item.
  size_t staged_ = 0;
};

TEST_F(BroadcastRingModel, AgreesWithADequeForEachReader) {
  const int64_t steps = Scaled(20'000, 5'000'000);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Start(seed, seed % 2 == 0 ? 1 : 1000);
    for (int64_t step = 0; step < steps; ++step) {
      Step();
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", step " << step;
    }
  }
}

class OverwritingRingModel : public ::testing::Test {
 protected:
  using Ring = OverwritingRing<Item>;
  struct Seat {
    std::optional<Ring::Reader> reader;
    uint64_t next = 0;  // What it gets next, unless it was overwritten.
    uint64_t lost = 0;
  };

  void Start(uint64_t seed, size_t min_capacity) {
    random_.seed(seed);
    writer_.reset();
    for (Seat& seat : seats_) seat = Seat();
    ring_.reset();
    items_.clear();
    pushed_ = 0;
    absl::StatusOr<Ring> ring =
        Ring::Create(min_capacity, {.max_readers = kReaders});
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    writer_.emplace(ring_->writer());
  }

  size_t Some() {
    const uint64_t word = random_();
    return word % 8 == 0 ? word / 8 % (2 * ring_->capacity()) : word / 8 % 20;
  }

  void Write() {
    std::vector<Item> items(random_() % 2 == 0 ? 1 : Some());
    for (Item& item : items) {
      item = ItemOf(random_());
      items_.push_back(item);
      if (items_.size() > ring_->capacity()) items_.pop_front();
      ++pushed_;
    }
    if (items.size() == 1) {
      writer_->push(items[0]);
    } else {
      writer_->push(items);
    }
  }

  // The item of a number that the ring may still have.
  const Item& At(uint64_t number) const {
    return items_[items_.size() - (pushed_ - number)];
  }

  void Read(Seat& seat) {
    auto& reader = *seat.reader;
    std::vector<Item> items(random_() % 2 == 0 ? 1 : Some());
    size_t n = 0;
    if (items.size() == 1) {
      n = reader.try_pop(items[0]) ? 1 : 0;
    } else {
      n = reader.pop(items);
    }
    const uint64_t lost = reader.lost() - seat.lost;
    const uint64_t behind = pushed_ - seat.next;
    const uint64_t kept = ring_->capacity() - ring_->capacity() / 16;
    if (behind <= kept) {
      ASSERT_EQ(lost, 0);
    }
    if (behind > ring_->capacity() && !items.empty()) {
      ASSERT_GE(lost, behind - ring_->capacity());
    }
    if (lost > 0) {
      ASSERT_LE(lost, behind - kept);
    }
    seat.next += lost;
    seat.lost += lost;
    // A copy that was spoiled at its beginning gives fewer.
    ASSERT_LE(n, std::min<uint64_t>(items.size(), pushed_ - seat.next));
    if (lost == 0) {
      ASSERT_EQ(n, std::min<uint64_t>(items.size(), pushed_ - seat.next));
    }
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(items[i], At(seat.next + i));
    seat.next += n;
    if (n < items.size() && lost == 0) {
      ASSERT_EQ(seat.next, pushed_);
    }
    // This look may find out that more is lost.
    ASSERT_LE(reader.size(), pushed_ - seat.next);
    seat.next += reader.lost() - seat.lost;
    seat.lost = reader.lost();
  }

  void Step() {
    Seat& seat = seats_[random_() % kReaders];
    if (random_() % 2 == 0) return Write();
    if (!seat.reader) {
      absl::StatusOr<Ring::Reader> reader = ring_->reader();
      ASSERT_TRUE(reader.ok()) << reader.status();
      seat = {.reader = *std::move(reader), .next = pushed_, .lost = 0};
      return;
    }
    if (random_() % 32 == 0) {
      seat.reader.reset();
      return;
    }
    Read(seat);
  }

  std::mt19937_64 random_;
  std::optional<Ring> ring_;
  std::optional<Ring::Writer> writer_;
  std::array<Seat, kReaders> seats_;
  std::deque<Item> items_;  // The last ones that were pushed.
  uint64_t pushed_ = 0;
};

TEST_F(OverwritingRingModel, AgreesWithADequeOfTheLast) {
  const int64_t steps = Scaled(20'000, 5'000'000);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Start(seed, seed % 2 == 0 ? 1 : 1000);
    for (int64_t step = 0; step < steps; ++step) {
      Step();
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", step " << step;
    }
  }
}

}  // namespace
}  // namespace doppel
