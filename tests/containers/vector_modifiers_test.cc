// SPDX-License-Identifier: Apache-2.0
//
// insert, emplace, erase, assign, resize: at every place, of every length, from
// every kind of range, beside std::vector.

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <iterator>
#include <limits>
#include <list>
#include <memory>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/containers/vector.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

using Strings = Vector<std::string>;
using Model = std::vector<std::string>;

// Longer than the small buffer of a std::string: a lost move is a lost byte.
std::string Text(size_t i) {
  return "an element with the number " + std::to_string(i);
}

Model Texts(size_t from, size_t count) {
  Model texts;
  for (size_t i = from; i < from + count; ++i) texts.push_back(Text(i));
  return texts;
}

Strings Make(const Model& model) { return {model.begin(), model.end()}; }

// Calls check(vector, model, at, count) for every place and many lengths.
template <class Check>
void AtEveryPlace(Check check) {
  for (ptrdiff_t size = 0; size <= 6; ++size) {
    for (ptrdiff_t at = 0; at <= size; ++at) {
      for (const size_t count : {0, 1, 2, 3, 6, 7, 200}) {
        SCOPED_TRACE(::testing::Message()
                     << count << " at " << at << " of " << size);
        Model model = Texts(0, size);
        Strings v = Make(model);
        check(v, model, at, count);
        ASSERT_THAT(v, ElementsAreArray(model));
      }
    }
  }
}

TEST(VectorModifiersTest, InsertsCounts) {
  AtEveryPlace([](Strings& v, Model& model, ptrdiff_t at, size_t count) {
    const auto place = v.insert(v.begin() + at, count, Text(99));
    EXPECT_EQ(place - v.begin(), at);
    model.insert(model.begin() + at, count, Text(99));
  });
}

template <class Range>
void InsertsFrom() {
  AtEveryPlace([](Strings& v, Model& model, ptrdiff_t at, size_t count) {
    const Model texts = Texts(100, count);
    const Range range(texts.begin(), texts.end());
    const auto place = v.insert(v.begin() + at, range.begin(), range.end());
    EXPECT_EQ(place - v.begin(), at);
    model.insert(model.begin() + at, texts.begin(), texts.end());
  });
}

TEST(VectorModifiersTest, InsertsRandomAccessRanges) { InsertsFrom<Model>(); }
TEST(VectorModifiersTest, InsertsBidirectionalRanges) {
  InsertsFrom<std::list<std::string>>();
}
TEST(VectorModifiersTest, InsertsForwardRanges) {
  InsertsFrom<std::forward_list<std::string>>();
}

TEST(VectorModifiersTest, InsertsInputRanges) {
  AtEveryPlace([](Strings& v, Model& model, ptrdiff_t at, size_t count) {
    std::string line;
    for (size_t i = 0; i < count; ++i) line += "w" + std::to_string(i) + " ";
    std::istringstream words(line);
    const auto place =
        v.insert(v.begin() + at, std::istream_iterator<std::string>(words),
                 std::istream_iterator<std::string>());
    EXPECT_EQ(place - v.begin(), at);
    std::istringstream again(line);
    model.insert(model.begin() + at, std::istream_iterator<std::string>(again),
                 std::istream_iterator<std::string>());
  });
}

// As the iterators of views are: forward to C++20, and input to C++17, since it
// gives values, not references.
class Square {
 public:
  using iterator_concept = std::random_access_iterator_tag;
  using iterator_category = std::input_iterator_tag;
  using value_type = int;
  using difference_type = ptrdiff_t;

  Square() = default;
  explicit Square(ptrdiff_t i) : i_(i) {}
  int operator*() const {
    ++reads;
    return static_cast<int>(i_ * i_);
  }
  Square& operator++() {
    ++i_;
    return *this;
  }
  Square operator++(int) { return Square(i_++); }
  Square& operator--() {
    --i_;
    return *this;
  }
  Square operator--(int) { return Square(i_--); }
  Square& operator+=(ptrdiff_t n) {
    i_ += n;
    return *this;
  }
  Square& operator-=(ptrdiff_t n) { return *this += -n; }
  int operator[](ptrdiff_t n) const { return *(*this + n); }
  friend Square operator+(Square a, ptrdiff_t n) { return a += n; }
  friend Square operator+(ptrdiff_t n, Square a) { return a += n; }
  friend Square operator-(Square a, ptrdiff_t n) { return a -= n; }
  friend ptrdiff_t operator-(Square a, Square b) { return a.i_ - b.i_; }
  friend auto operator<=>(const Square&, const Square&) = default;

  static inline int reads = 0;

 private:
  ptrdiff_t i_ = 0;
};
static_assert(std::random_access_iterator<Square>);

TEST(VectorModifiersTest, InsertsRangesOfViews) {
  Vector<int> v{7, 8};
  v.insert(v.begin() + 1, Square(1), Square(5));
  EXPECT_THAT(v, ElementsAre(7, 1, 4, 9, 16, 8));
  v.assign(Square(1), Square(5));
  EXPECT_THAT(v, ElementsAre(1, 4, 9, 16));
  v.insert(v.begin(), {3, 2});
  EXPECT_THAT(v, ElementsAre(3, 2, 1, 4, 9, 16));
}

TEST(VectorModifiersTest, InsertsAndEmplacesOne) {
  for (ptrdiff_t size = 0; size <= 6; ++size) {
    for (ptrdiff_t at = 0; at <= size; ++at) {
      Model model = Texts(0, size);
      Strings v = Make(model);
      const std::string copied = Text(50);
      std::string moved = Text(51);
      EXPECT_EQ(*v.insert(v.begin() + at, copied), copied);
      EXPECT_EQ(*v.insert(v.begin() + at, std::move(moved)), Text(51));
      EXPECT_EQ(*v.emplace(v.begin() + at, 40, 'x'), std::string(40, 'x'));
      model.insert(model.begin() + at, copied);
      model.insert(model.begin() + at, Text(51));
      model.insert(model.begin() + at, std::string(40, 'x'));
      ASSERT_THAT(v, ElementsAreArray(model));
    }
  }
}

TEST(VectorModifiersTest, ArgumentsMayBeElements) {
  for (size_t which = 0; which < 5; ++which) {
    for (ptrdiff_t at = 0; at <= 5; ++at) {
      SCOPED_TRACE(::testing::Message() << which << " to " << at);
      const std::string text = Text(which);
      Model model = Texts(0, 5);
      Strings v = Make(model);
      v.insert(v.begin() + at, v[which]);
      model.insert(model.begin() + at, text);
      ASSERT_THAT(v, ElementsAreArray(model));

      v = Make(Texts(0, 5));
      model = Texts(0, 5);
      v.insert(v.begin() + at, 3, v[which]);
      model.insert(model.begin() + at, 3, text);
      ASSERT_THAT(v, ElementsAreArray(model));

      v = Make(Texts(0, 5));
      EXPECT_EQ(*v.emplace(v.begin() + at, std::move(v[which])), text);
      EXPECT_EQ(v.size(), 6);
    }
    for (const size_t count : {0, 1, 3, 5, 9}) {
      Strings v = Make(Texts(0, 5));
      v.assign(count, v[which]);
      ASSERT_THAT(v, ElementsAreArray(Model(count, Text(which))));
    }
    Strings v = Make(Texts(0, 5));
    v.resize(2000, v[which]);
    EXPECT_EQ(v[1999], Text(which));
  }
  // Also across growth.
  Strings v{Text(1)};
  for (int i = 0; i < 1000; ++i) v.push_back(v.front());
  for (int i = 0; i < 1000; ++i) v.emplace_back(v.back());
  EXPECT_EQ(std::count(v.begin(), v.end(), Text(1)), 2001);
}

TEST(VectorModifiersTest, ErasesEveryRange) {
  for (ptrdiff_t size = 0; size <= 6; ++size) {
    for (ptrdiff_t first = 0; first <= size; ++first) {
      for (ptrdiff_t last = first; last <= size; ++last) {
        Model model = Texts(0, size);
        Strings v = Make(model);
        const auto place = v.erase(v.begin() + first, v.begin() + last);
        EXPECT_EQ(place - v.begin(), first);
        model.erase(model.begin() + first, model.begin() + last);
        ASSERT_THAT(v, ElementsAreArray(model));
      }
    }
  }
  Strings v = Make(Texts(0, 3));
  EXPECT_EQ(*v.erase(v.cbegin() + 1), Text(2));
  const auto place = v.erase(v.end() - 1);
  EXPECT_EQ(place, v.end());
  EXPECT_THAT(v, ElementsAre(Text(0)));
}

TEST(VectorModifiersTest, ErasesWhatIsAsked) {
  Vector<int> v(size_t{100});
  std::iota(v.begin(), v.end(), 0);
  EXPECT_EQ(erase_if(v, [](int x) { return x % 3 == 0; }), 34);
  EXPECT_EQ(erase(v, 1), 1);
  EXPECT_EQ(erase(v, 1), 0);
  EXPECT_EQ(v.size(), 65);
  EXPECT_EQ(v.front(), 2);
}

TEST(VectorModifiersTest, AssignsEveryWay) {
  for (const size_t size : {0, 1, 5, 300}) {
    for (const size_t count : {0, 1, 5, 6, 700}) {
      SCOPED_TRACE(::testing::Message() << count << " over " << size);
      const Model texts = Texts(1000, count);
      Strings v = Make(Texts(0, size));
      v.assign(texts.begin(), texts.end());
      ASSERT_THAT(v, ElementsAreArray(texts));

      v = Make(Texts(0, size));
      v.assign(count, Text(5));
      ASSERT_THAT(v, ElementsAreArray(Model(count, Text(5))));

      v = Make(Texts(0, size));
      std::istringstream words("x y z");
      v.assign(std::istream_iterator<std::string>(words),
               std::istream_iterator<std::string>());
      ASSERT_THAT(v, ElementsAre("x", "y", "z"));

      const Strings source = Make(texts);
      v = Make(Texts(0, size));
      v = source;
      ASSERT_THAT(v, ElementsAreArray(texts));
    }
  }
  Strings v;
  v.assign({"a", "b"});
  EXPECT_THAT(v, ElementsAre("a", "b"));
  v = {};
  EXPECT_THAT(v, IsEmpty());
}

TEST(VectorModifiersTest, Resizes) {
  Strings v = Make(Texts(0, 3));
  v.resize(5);
  EXPECT_THAT(v, ElementsAre(Text(0), Text(1), Text(2), "", ""));
  v.resize(2);
  v.resize(4, "x");
  EXPECT_THAT(v, ElementsAre(Text(0), Text(1), "x", "x"));
  v.resize(0);
  EXPECT_THAT(v, IsEmpty());
  // Pages that come back from the arena are not zero; elements are.
  Vector<uint64_t> numbers(1 << 16, 7);
  numbers.clear();
  numbers.resize(1 << 16);
  EXPECT_EQ(std::count(numbers.begin(), numbers.end(), 0), 1 << 16);
}

TEST(VectorModifiersTest, HoldsWhatOnlyMoves) {
  Vector<std::unique_ptr<int>> v;
  for (int i = 0; i < 10; ++i) v.push_back(std::make_unique<int>(i));
  v.insert(v.begin() + 3, std::make_unique<int>(33));
  v.emplace(v.begin(), new int(-1));
  v.erase(v.begin() + 5, v.begin() + 8);
  v.resize(9);
  std::vector<std::unique_ptr<int>> more;
  more.push_back(std::make_unique<int>(70));
  more.push_back(std::make_unique<int>(71));
  v.insert(v.begin() + 1, std::make_move_iterator(more.begin()),
           std::make_move_iterator(more.end()));
  std::vector<int> values;
  for (const auto& pointer : v) values.push_back(pointer ? *pointer : 0);
  EXPECT_THAT(values, ElementsAre(-1, 70, 71, 0, 1, 2, 33, 6, 7, 8, 9));
}

// Sizes whose sum or product overflows, on a vector that holds something.
TEST(VectorModifiersTest, SizesThatOverflowAreLengthErrorsWithoutEffect) {
  Vector<uint64_t> v{1, 2, 3};
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  for (const size_t count :
       {kMax, kMax - 2, kMax / 2, kMax / 8, kMax / 8 - 2, v.max_size() + 1}) {
    SCOPED_TRACE(count);
    EXPECT_THROW(v.resize(count), std::length_error);
    EXPECT_THROW(v.resize(count, 7), std::length_error);
    EXPECT_THROW(v.reserve(count), std::length_error);
    EXPECT_THROW(v.assign(count, 7), std::length_error);
    EXPECT_THROW(v.insert(v.begin() + 1, count, 7), std::length_error);
    EXPECT_THROW(v.insert(v.end(), count, 7), std::length_error);
    EXPECT_THROW(Vector<uint64_t>(count, 7), std::length_error);
    EXPECT_THROW(Vector<uint64_t>{count}.resize(count), std::length_error);
    EXPECT_THAT(v, ElementsAre(1, 2, 3));
  }
  EXPECT_THROW(v.insert(v.begin(), v.max_size() - 2, 7), std::length_error);
  EXPECT_THAT(v, ElementsAre(1, 2, 3));
}

TEST(VectorModifiersTest, RangesThatDoNotFitAreNotRead) {
  Vector<uint64_t> v({1, 2, 3}, {.reserve_bytes = 1 << 20});
  const Square end(ptrdiff_t{1} << 30);
  Square::reads = 0;
  EXPECT_THROW(v.insert(v.begin(), Square(0), end), std::length_error);
  EXPECT_THROW(v.assign(Square(0), end), std::length_error);
  EXPECT_EQ(Square::reads, 0);
  EXPECT_THAT(v, ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace doppel
