// SPDX-License-Identifier: Apache-2.0
//
// Random operations, each done to a Vector and to a std::vector: what one holds and
// returns, the other does too. Data stays where it is all the time.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "doppel/containers/vector.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Scaled;

// An odd size: elements cross the ends of pages.
struct Odd {
  char bytes[37];
  friend bool operator==(const Odd&, const Odd&) = default;
};

template <class T>
T MakeValue(uint64_t random) {
  if constexpr (std::is_same_v<T, std::string>) {
    return std::string(random % 40, static_cast<char>('a' + random % 26));
  } else if constexpr (std::is_same_v<T, Odd>) {
    Odd odd;
    std::fill(std::begin(odd.bytes), std::end(odd.bytes), random % 128);
    return odd;
  } else {
    return static_cast<T>(random);
  }
}

template <class T>
class Model {
 public:
  explicit Model(uint32_t seed)
      : random_(seed),
        options_{.arena = *Arena::Create({.page_size = PageSize::Base()})},
        ours_(options_) {}

  void Step() {
    const auto at = static_cast<ptrdiff_t>(Below(model_.size() + 1));
    switch (Below(16)) {
      case 0:
      case 1:
        PushBack();
        break;
      case 2:
        if (model_.empty()) break;
        ours_.pop_back();
        model_.pop_back();
        break;
      case 3:
        InsertOne(at);
        break;
      case 4:
        InsertCount(at, Below(9));
        break;
      case 5:
      case 6:
        InsertRange(at, Below(300));
        break;
      case 7:
      case 8:
        Erase(at, at + static_cast<ptrdiff_t>(Below(model_.size() - at + 1)));
        break;
      case 9:
        Resize(Below(600));
        break;
      case 10:
        Assign(Below(600));
        break;
      case 11:
        ours_.shrink_to_fit();
        break;
      case 12:
        ours_.reserve(Below(4000));
        break;
      case 13:
        CopyAndMove();
        break;
      case 14:
        InsertElement(at);
        break;
      default:
        EraseEqual();
    }
  }

  void Check() const {
    ASSERT_EQ(ours_.size(), model_.size());
    ASSERT_TRUE(std::equal(ours_.begin(), ours_.end(), model_.begin()));
    ASSERT_GE(ours_.capacity(), ours_.size());
  }

 private:
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  T Value() { return MakeValue<T>(random_()); }

  void PushBack() {
    const T value = Value();
    EXPECT_EQ(ours_.emplace_back(value), value);
    model_.push_back(value);
  }

  void InsertOne(ptrdiff_t at) {
    const T value = Value();
    const auto place = ours_.insert(ours_.begin() + at, value);
    EXPECT_EQ(place - ours_.begin(), at);
    model_.insert(model_.begin() + at, value);
  }

  void InsertCount(ptrdiff_t at, size_t count) {
    const T value = Value();
    const auto place = ours_.insert(ours_.begin() + at, count, value);
    EXPECT_EQ(place - ours_.begin(), at);
    model_.insert(model_.begin() + at, count, value);
  }

  void InsertRange(ptrdiff_t at, size_t count) {
    std::vector<T> range;
    for (size_t i = 0; i < count; ++i) range.push_back(Value());
    const auto place =
        ours_.insert(ours_.begin() + at, range.begin(), range.end());
    EXPECT_EQ(place - ours_.begin(), at);
    model_.insert(model_.begin() + at, range.begin(), range.end());
  }

  // An argument that is an element itself.
  void InsertElement(ptrdiff_t at) {
    if (model_.empty()) return;
    const size_t which = Below(model_.size());
    ours_.insert(ours_.begin() + at, ours_[which]);
    model_.insert(model_.begin() + at, model_[which]);
    const size_t other = Below(model_.size());
    ours_.insert(ours_.begin() + at, 2, ours_[other]);
    model_.insert(model_.begin() + at, 2, model_[other]);
  }

  void Erase(ptrdiff_t first, ptrdiff_t last) {
    EXPECT_EQ(ours_.erase(ours_.begin() + first, ours_.begin() + last),
              ours_.begin() + first);
    model_.erase(model_.begin() + first, model_.begin() + last);
  }

  void Resize(size_t count) {
    if (Below(2) == 0) {
      ours_.resize(count);
      model_.resize(count);
      return;
    }
    const T value = Value();
    ours_.resize(count, value);
    model_.resize(count, value);
  }

  void Assign(size_t count) {
    const T value = Value();
    if (Below(2) == 0) {
      ours_.assign(count, value);
      model_.assign(count, value);
      return;
    }
    const std::vector<T> range(count, value);
    ours_.assign(range.begin(), range.end());
    model_ = range;
  }

  void CopyAndMove() {
    Vector<T> copy = ours_;
    EXPECT_TRUE(copy == ours_);
    ours_.clear();
    if (Below(2) == 0) {
      ours_ = copy;
    } else {
      ours_ = std::move(copy);
    }
  }

  void EraseEqual() {
    if (model_.empty()) return;
    const T value = model_[Below(model_.size())];
    EXPECT_EQ(erase(ours_, value), std::erase(model_, value));
  }

  std::mt19937 random_;
  GrowingMapping::Options options_;
  Vector<T> ours_;
  std::vector<T> model_;
};

template <class T>
class VectorModelTest : public ::testing::Test {};

using Elements = ::testing::Types<char, uint64_t, Odd, std::string>;
TYPED_TEST_SUITE(VectorModelTest, Elements);

TYPED_TEST(VectorModelTest, AgreesWithStdVector) {
  const int64_t seeds = Scaled(4, 200);
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(seed);
    Model<TypeParam> model(static_cast<uint32_t>(seed));
    for (int step = 0; step < 4000; ++step) {
      model.Step();
      model.Check();
      if (this->HasFailure()) FAIL() << "at step " << step;
    }
  }
}

}  // namespace
}  // namespace doppel
