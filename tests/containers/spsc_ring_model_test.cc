// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a ring and on a std::deque: both must agree after each.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;

template <class T>
T ItemOf(uint64_t number);
template <>
uint64_t ItemOf(uint64_t number) {
  return number;
}
template <>
std::array<uint16_t, 5> ItemOf(uint64_t number) {
  const auto low = static_cast<uint16_t>(number);
  return {low, 1, 2, 3, static_cast<uint16_t>(~low)};
}
template <>
unsigned char ItemOf(uint64_t number) {
  return static_cast<unsigned char>(number * 167);
}
template <>
std::string ItemOf(uint64_t number) {
  return std::string(number % 24, 'a') + absl::StrCat(number);
}

template <class T>
class SpscRingModel : public ::testing::Test {
 protected:
  static constexpr bool kBytes = std::is_trivially_copyable_v<T>;

  void Start(LineOwnership owns, uint64_t seed) {
    random_.seed(seed);
    model_.clear();
    writer_.reset();
    reader_.reset();
    ring_.reset();
    absl::StatusOr<SpscRing<T>> ring =
        SpscRing<T>::Create(1, {.line_ownership = owns});
    ASSERT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    writer_.emplace(ring_->writer());
    reader_.emplace(ring_->reader());
  }

  // Small counts mostly, and now and then one as large as the ring and more.
  size_t Count() {
    const uint64_t word = random_();
    if (word % 8 != 0) return word / 8 % 9;
    return word / 8 % (ring_->capacity() + 3);
  }

  void PushOne() {
    const T item = ItemOf<T>(next_);
    const bool fits = model_.size() < ring_->capacity();
    ASSERT_EQ(writer_->try_push(item), fits);
    if (fits) {
      model_.push_back(item);
      ++next_;
    }
  }

  void PushBatch() {
    std::vector<T> items(Count());
    for (T& item : items) item = ItemOf<T>(next_++);
    const size_t n = std::min(items.size(), ring_->capacity() - model_.size());
    ASSERT_EQ(writer_->push(items), n);
    model_.insert(model_.end(), items.begin(), items.begin() + n);
  }

  void ReserveAndCommit() {
    if constexpr (kBytes) {
      const size_t n = Count();
      const std::span<T> slots = writer_->reserve(n);
      if (n > ring_->capacity() - model_.size()) {
        ASSERT_TRUE(slots.empty());
        return;
      }
      ASSERT_EQ(slots.size(), n);
      for (T& slot : slots) slot = ItemOf<T>(next_++);
      const size_t keep = random_() % (n + 1);
      model_.insert(model_.end(), slots.begin(), slots.begin() + keep);
      writer_->commit(keep);
    } else {
      PushOne();
    }
  }

  void PopOne() {
    const std::optional<T> item = reader_->try_pop();
    ASSERT_EQ(item.has_value(), !model_.empty());
    if (!item) return;
    ASSERT_EQ(*item, model_.front());
    model_.pop_front();
  }

  void PopBatch() {
    std::vector<T> items(Count());
    const size_t n = std::min(items.size(), model_.size());
    ASSERT_EQ(reader_->pop(items), n);
    ASSERT_TRUE(std::equal(items.begin(), items.begin() + n, model_.begin()));
    model_.erase(model_.begin(), model_.begin() + n);
  }

  void PeekAndConsume() {
    const size_t at_least = Count();
    const auto items = reader_->peek(at_least);
    if (at_least > model_.size()) {
      ASSERT_TRUE(items.empty());
      return;
    }
    ASSERT_LE(items.size(), model_.size());
    if constexpr (kBytes) {
      ASSERT_GE(items.size(), at_least);
    }
    ASSERT_TRUE(std::equal(items.begin(), items.end(), model_.begin()));
    const size_t n = random_() % (items.size() + 1);
    reader_->consume(n);
    model_.erase(model_.begin(), model_.begin() + n);
  }

  void TakeHandlesAnew() {
    writer_.reset();
    writer_.emplace(ring_->writer());
    reader_.reset();
    reader_.emplace(ring_->reader());
  }

  void Step() {
    switch (random_() % 16) {
      case 0:
        TakeHandlesAnew();
        break;
      case 1:
      case 2:
      case 3:
        PushBatch();
        break;
      case 4:
      case 5:
      case 6:
        ReserveAndCommit();
        break;
      case 7:
      case 8:
        PushOne();
        break;
      case 9:
      case 10:
        PopOne();
        break;
      case 11:
      case 12:
      case 13:
        PopBatch();
        break;
      default:
        PeekAndConsume();
    }
    if (HasFatalFailure()) return;
    ASSERT_EQ(ring_->size(), model_.size());
    ASSERT_EQ(ring_->empty(), model_.empty());
    if (random_() % 8 == 0) {
      ASSERT_EQ(writer_->free(), ring_->capacity() - model_.size());
      ASSERT_EQ(reader_->size(), model_.size());
    }
  }

  std::mt19937_64 random_;
  std::deque<T> model_;
  uint64_t next_ = 0;  // Number of the next item.
  std::optional<SpscRing<T>> ring_;
  // Destroyed before the ring.
  std::optional<typename SpscRing<T>::Writer> writer_;
  std::optional<typename SpscRing<T>::Reader> reader_;
};

using Items = ::testing::Types<uint64_t, std::array<uint16_t, 5>, unsigned char,
                               std::string>;
TYPED_TEST_SUITE(SpscRingModel, Items);

TYPED_TEST(SpscRingModel, AgreesWithADeque) {
  for (const LineOwnership owns : {LineOwnership::kOn, LineOwnership::kOff}) {
    const int64_t runs = Scaled(3, 300);
    for (int64_t seed = 0; seed < runs; ++seed) {
      SCOPED_TRACE(absl::StrCat("seed ", seed));
      this->Start(owns, static_cast<uint64_t>(seed));
      if (this->HasFatalFailure()) return;
      for (int step = 0; step < 3'000; ++step) {
        this->Step();
        if (this->HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace doppel
