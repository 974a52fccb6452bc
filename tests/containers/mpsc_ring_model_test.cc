// SPDX-License-Identifier: Apache-2.0
//
// Random operations of several producers and the consumer on a ring, and on a
// std::deque of frames: both must agree after each.

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

#include "absl/strings/str_cat.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;

constexpr bool kCanonical = internal::Mirror::kMaxViews == 1;
constexpr size_t kProducers = 3;

std::byte ByteOf(uint64_t number, uint64_t i) {
  return static_cast<std::byte>(number * 167 + i * 31 + 1);
}

class MpscRingModel : public ::testing::Test {
 protected:
  enum class State : uint8_t { kOpen, kMessage, kSkip };
  struct Frame {
    State state = State::kOpen;
    uint64_t frame_bytes = 0;
    uint64_t payload_bytes = 0;
    uint64_t number = 0;  // Decides the contents.
  };
  struct Open {
    uint64_t number;
    std::span<std::byte> payload;
  };

  void Start(uint64_t seed, uint64_t min_capacity_bytes) {
    random_.seed(seed);
    model_.clear();
    passed_ = 0;
    shown_ = 0;
    claimed_bytes_ = 0;
    handed_back_ = 0;
    consumer_.reset();
    for (size_t i = 0; i < kProducers; ++i) {
      producers_[i].reset();
      open_[i].reset();
    }
    ring_.reset();
    absl::StatusOr<MpscRing> ring = MpscRing::Create(min_capacity_bytes);
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    capacity_bytes_ = ring_->capacity_bytes();
    consumer_.emplace(ring_->consumer());
    for (auto& producer : producers_) producer.emplace(ring_->producer());
  }

  // Small lengths mostly, and now and then one as long as may be and longer.
  uint64_t Length() {
    const uint64_t word = random_();
    if (word % 8 != 0) return word / 8 % 70;
    return word / 8 % (ring_->max_message_bytes() + 20);
  }

  uint64_t UsedBytes() const {
    uint64_t sum = 0;
    for (const Frame& frame : model_) sum += frame.frame_bytes;
    return sum;
  }

  // What a claim of the length returns; enters it into the model.
  RingRoom ModelClaim(uint64_t bytes, uint64_t number) {
    if (bytes > ring_->max_message_bytes()) return RingRoom::kTooBig;
    const uint64_t frame_bytes = internal::FrameBytes(bytes);
    const uint64_t to_end = capacity_bytes_ - claimed_bytes_ % capacity_bytes_;
    const uint64_t skip = kCanonical && to_end < frame_bytes ? to_end : 0;
    if (UsedBytes() + skip + frame_bytes > capacity_bytes_) {
      return RingRoom::kFull;
    }
    claimed_bytes_ += skip + frame_bytes;
    if (skip > 0) model_.push_back({State::kSkip, skip, 0, 0});
    model_.push_back({State::kOpen, frame_bytes, bytes, number});
    return RingRoom::kRoom;
  }

  Frame& Find(uint64_t number) {
    return *std::ranges::find_if(model_, [number](const Frame& frame) {
      return frame.state == State::kOpen && frame.number == number;
    });
  }

  void Reserve(size_t i) {
    const uint64_t bytes = Length();
    const uint64_t number = next_number_++;
    const RingRoom expected = ModelClaim(bytes, number);
    const MessageReservation space = producers_[i]->reserve(bytes);
    ASSERT_EQ(space.room, expected);
    if (expected != RingRoom::kRoom) return;
    ASSERT_EQ(space.payload.size(), bytes);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(space.payload.data()) % 8, 0);
    open_[i] = Open{number, space.payload};
    for (size_t at = 0; at < bytes; ++at) {
      space.payload[at] = ByteOf(number, at);
    }
  }

  void Close(size_t i) {
    Frame& frame = Find(open_[i]->number);
    const uint64_t keep = random_() % (open_[i]->payload.size() + 1);
    switch (random_() % 4) {
      case 0:
        producers_[i]->abort();
        frame.state = State::kSkip;
        break;
      case 1:
        producers_[i].reset();  // Aborts too.
        producers_[i].emplace(ring_->producer());
        frame.state = State::kSkip;
        break;
      case 2:
        producers_[i]->commit(keep);
        frame.state = State::kMessage;
        frame.payload_bytes = keep;
        break;
      default:
        producers_[i]->commit(frame.payload_bytes);
        frame.state = State::kMessage;
    }
    open_[i].reset();
  }

  void Push(size_t i) {
    const uint64_t number = next_number_++;
    std::vector<std::byte> message(Length());
    for (size_t at = 0; at < message.size(); ++at) {
      message[at] = ByteOf(number, at);
    }
    const RingRoom expected = ModelClaim(message.size(), number);
    ASSERT_EQ(producers_[i]->push(message), expected);
    if (expected == RingRoom::kRoom) Find(number).state = State::kMessage;
  }

  // The frame of the next message, if there is one: past what is to be skipped.
  const Frame* ModelNext() {
    while (passed_ < model_.size() && model_[passed_].state == State::kSkip) {
      ++passed_;
    }
    const bool is_message =
        passed_ < model_.size() && model_[passed_].state == State::kMessage;
    if (!is_message && shown_ == 0) ModelRelease();
    return is_message ? &model_[passed_] : nullptr;
  }

  void ModelRelease() {
    model_.erase(model_.begin(),
                 model_.begin() + static_cast<std::ptrdiff_t>(passed_));
    handed_back_ += shown_;
    passed_ = 0;
    shown_ = 0;
  }

  static void Compare(std::span<const std::byte> message, const Frame& frame) {
    ASSERT_EQ(message.size(), frame.payload_bytes);
    for (size_t at = 0; at < message.size(); ++at) {
      ASSERT_EQ(message[at], ByteOf(frame.number, at)) << at;
    }
  }

  void Next() {
    const Frame* const expected = ModelNext();
    const auto message = consumer_->next();
    ASSERT_EQ(message.has_value(), expected != nullptr);
    if (expected == nullptr) return;
    Compare(*message, *expected);
    ++passed_;
    ++shown_;
  }

  void Pop() {
    std::vector<std::byte> buffer(random_() % 100);
    const Frame* const expected = ModelNext();
    const std::optional<uint64_t> bytes = consumer_->pop(buffer);
    ASSERT_EQ(bytes.has_value(), expected != nullptr);
    if (expected == nullptr) return;
    ASSERT_EQ(*bytes, expected->payload_bytes);
    if (*bytes > buffer.size()) return;
    Compare(std::span(buffer).first(*bytes), *expected);
    ++passed_;
    ++shown_;
    ModelRelease();
  }

  void Step() {
    const size_t i = random_() % kProducers;
    switch (random_() % 8) {
      case 0:
        Pop();
        break;
      case 1:
      case 2:
        Next();
        break;
      case 3:
        consumer_->release();
        ModelRelease();
        break;
      case 4:
        if (random_() % 8 == 0) {
          // What was shown and not released is shown again.
          consumer_.reset();
          consumer_.emplace(ring_->consumer());
          passed_ = 0;
          shown_ = 0;
        }
        break;
      default:
        if (open_[i]) {
          Close(i);
        } else if (random_() % 2 == 0) {
          Reserve(i);
        } else {
          Push(i);
        }
    }
    if (HasFatalFailure()) return;
    ASSERT_EQ(ring_->size_bytes(), UsedBytes());
    ASSERT_EQ(ring_->empty(), model_.empty());
    ASSERT_EQ(ring_->statistics().messages, handed_back_);
  }

  std::mt19937_64 random_;
  std::deque<Frame> model_;  // Claimed and not handed back.
  size_t passed_ = 0;        // Frames of the model that the consumer is past.
  uint64_t shown_ = 0;       // Messages among them.
  uint64_t capacity_bytes_ = 1;
  uint64_t claimed_bytes_ = 0;
  uint64_t handed_back_ = 0;
  uint64_t next_number_ = 0;
  std::array<std::optional<Open>, kProducers> open_;
  std::optional<MpscRing> ring_;
  // Destroyed before the ring.
  std::array<std::optional<MpscRing::Producer>, kProducers> producers_;
  std::optional<MpscRing::Consumer> consumer_;
};

TEST_F(MpscRingModel, AgreesWithADeque) {
  // Three pages: a capacity that is no power of two.
  for (const uint64_t min_capacity_bytes : {1, 9'000}) {
    const int64_t runs = Scaled(20, 2'000);
    for (int64_t seed = 0; seed < runs; ++seed) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", ", min_capacity_bytes));
      Start(static_cast<uint64_t>(seed), min_capacity_bytes);
      if (HasFatalFailure()) return;
      for (int step = 0; step < 5'000; ++step) {
        Step();
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace doppel
