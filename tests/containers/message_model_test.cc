// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a ring of messages and on a std::deque: both must agree after
// each.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;
using Message = std::vector<std::byte>;

class MessageModel : public ::testing::TestWithParam<LineOwnership> {
 protected:
  void Start(uint64_t seed) {
    random_.seed(seed);
    model_.clear();
    committed_ = 0;
    shown_.clear();
    writer_.reset();
    reader_.reset();
    ring_.reset();
    absl::StatusOr<SpscRing<>> ring =
        SpscRing<>::Create(1, {.line_ownership = GetParam()});
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    writer_.emplace(ring_->writer());
    reader_.emplace(ring_->reader());
  }

  // Short mostly, and now and then as long as the ring and longer.
  size_t Length() {
    const uint64_t word = random_();
    if (word % 16 != 0) return word / 16 % 120;
    return word / 16 % (ring_->capacity() + 20);
  }

  Message MakeMessage(size_t bytes) {
    Message message(bytes);
    for (std::byte& byte : message) byte = static_cast<std::byte>(++next_);
    return message;
  }

  // What the messages in the ring, committed ones too, take of it.
  size_t Used() const {
    size_t bytes = 0;
    for (const Message& message : model_) {
      bytes += MessageFrameBytes(message.size());
    }
    return bytes;
  }

  RingRoom Expected(size_t bytes) const {
    if (bytes + sizeof(MessageHeader) > ring_->capacity()) {
      return RingRoom::kTooBig;
    }
    return Used() + MessageFrameBytes(bytes) > ring_->capacity()
               ? RingRoom::kFull
               : RingRoom::kRoom;
  }

  void Push() {
    const Message message = MakeMessage(Length());
    const RingRoom expected = Expected(message.size());
    ASSERT_EQ(writer_->push(message), expected);
    if (expected != RingRoom::kRoom) return;
    model_.push_back(message);
    committed_ = 0;
  }

  void ReserveAndCommit() {
    const Message message = MakeMessage(Length());
    const MessageReservation space = writer_->reserve(message.size());
    ASSERT_EQ(space.room, Expected(message.size()));
    if (!space) {
      ASSERT_TRUE(space.payload.empty());
      return;
    }
    ASSERT_EQ(space.payload.size(), message.size());
    std::ranges::copy(message, space.payload.begin());
    switch (random_() % 8) {
      case 0:
        writer_->abort();
        return;
      case 1:
        return;  // Forgotten.
      default:
        break;
    }
    const size_t keep =
        random_() % 2 == 0 ? message.size() : random_() % (message.size() + 1);
    writer_->stage(keep);
    const auto kept = std::span(message).first(keep);
    model_.emplace_back(kept.begin(), kept.end());
    ++committed_;
  }

  void Publish() {
    writer_->publish();
    committed_ = 0;
  }

  // Messages that the reader may be shown.
  size_t Unseen() const { return model_.size() - shown_.size() - committed_; }

  void ShowOne() {
    const auto message = reader_->next();
    ASSERT_EQ(message.has_value(), Unseen() > 0);
    if (!message) return;
    ASSERT_TRUE(std::ranges::equal(*message, model_[shown_.size()]));
    shown_.push_back(*message);
  }

  void ForgetShown() {
    for (size_t i = 0; i < shown_.size(); ++i) model_.pop_front();
    shown_.clear();
  }

  void Release() {
    // All of them are still as they were shown.
    for (size_t i = 0; i < shown_.size(); ++i) {
      ASSERT_TRUE(std::ranges::equal(shown_[i], model_[i]));
    }
    reader_->release();
    ForgetShown();
  }

  void Pop() {
    Message buffer(Length());
    const std::optional<size_t> bytes = reader_->pop(buffer);
    ASSERT_EQ(bytes.has_value(), Unseen() > 0);
    if (!bytes) return;
    const Message& message = model_[shown_.size()];
    ASSERT_EQ(*bytes, message.size());
    if (*bytes > buffer.size()) return;
    ASSERT_TRUE(std::ranges::equal(std::span(buffer).first(*bytes), message));
    shown_.emplace_back();
    ForgetShown();
  }

  // What is not published, and what is shown and not released, are the handles'.
  void TakeHandlesAnew() {
    writer_.reset();
    writer_.emplace(ring_->writer());
    reader_.reset();
    reader_.emplace(ring_->reader());
    model_.resize(model_.size() - committed_);
    committed_ = 0;
    shown_.clear();
  }

  void Step() {
    switch (random_() % 16) {
      case 0:
        TakeHandlesAnew();
        break;
      case 1:
      case 2:
      case 3:
        Push();
        break;
      case 4:
      case 5:
      case 6:
      case 7:
        ReserveAndCommit();
        break;
      case 8:
      case 9:
        Publish();
        break;
      case 10:
        Pop();
        break;
      case 11:
      case 12:
        Release();
        break;
      default:
        ShowOne();
    }
    if (HasFatalFailure()) return;
    size_t unpublished = 0;
    for (size_t i = 0; i < committed_; ++i) {
      unpublished += MessageFrameBytes(model_[model_.size() - 1 - i].size());
    }
    ASSERT_EQ(ring_->size(), Used() - unpublished);
    ASSERT_TRUE(reader_->status().ok()) << reader_->status();
  }

  std::mt19937_64 random_;
  uint64_t next_ = 0;          // Bytes made so far.
  std::deque<Message> model_;  // Shown, not shown, committed: in this order.
  size_t committed_ = 0;       // Not published.
  std::vector<std::span<const std::byte>> shown_;  // Not released.
  std::optional<SpscRing<>> ring_;
  // Destroyed before the ring.
  std::optional<MessageWriter> writer_;
  std::optional<MessageReader> reader_;
};

INSTANTIATE_TEST_SUITE_P(LineOwnership, MessageModel,
                         ::testing::Values(LineOwnership::kOn,
                                           LineOwnership::kOff),
                         [](const auto& info) {
                           return info.param == LineOwnership::kOn ? "On"
                                                                   : "Off";
                         });

TEST_P(MessageModel, AgreesWithADeque) {
  const int64_t runs = Scaled(8, 1'000);
  for (int64_t seed = 0; seed < runs; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Start(static_cast<uint64_t>(seed));
    if (HasFatalFailure()) return;
    for (int step = 0; step < 3'000; ++step) {
      Step();
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace doppel
