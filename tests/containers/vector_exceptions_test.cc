// SPDX-License-Identifier: Apache-2.0
//
// Walks every throw point: each operation is run again and again, with the first,
// second, third ... construction, copy, move, assignment or read of its elements
// throwing, until one run gets through.

#include <cstddef>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/containers/vector.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

struct Thrown : std::runtime_error {
  Thrown() : std::runtime_error("thrown on purpose") {}
};

int countdown = 0;  // 0: nothing throws.

void Tick() {
  if (countdown > 0 && --countdown == 0) throw Thrown();
}

// Everything about it may throw; counts the living.
class Thrower {
 public:
  Thrower() : Thrower(0) {}
  Thrower(int value) : value_(value) {  // NOLINT: converts on purpose.
    Tick();
    ++alive;
  }
  Thrower(const Thrower& other) : Thrower(other.value_) {}
  // NOLINTNEXTLINE(performance-noexcept-move-constructor): throws on purpose.
  Thrower(Thrower&& other) : Thrower(other.value_) { other.value_ = -1; }
  Thrower& operator=(const Thrower& other) {
    Tick();
    value_ = other.value_;
    return *this;
  }
  // NOLINTNEXTLINE(performance-noexcept-move-constructor): throws on purpose.
  Thrower& operator=(Thrower&& other) {
    Tick();
    value_ = std::exchange(other.value_, -1);
    return *this;
  }
  ~Thrower() { --alive; }

  int value() const { return value_; }
  static inline int alive = 0;

 private:
  int value_;
};

// Reads numbers once; each step and each read may throw.
class ThrowingInput {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = int;
  using difference_type = ptrdiff_t;
  using pointer = const int*;
  using reference = int;

  ThrowingInput() = default;
  explicit ThrowingInput(int left) : left_(left) {}
  int operator*() const {
    Tick();
    return left_;
  }
  ThrowingInput& operator++() {
    Tick();
    --left_;
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const ThrowingInput& a, const ThrowingInput& b) {
    return a.left_ == b.left_;
  }

 private:
  int left_ = 0;
};

using Subject = Vector<Thrower>;

struct Operation {
  const char* name;
  std::function<void(Subject&)> run;
  bool strong;  // No effect if it throws.
};

constexpr int kSize = 10;
const int kFour[] = {101, 102, 103, 104};

// A value that outlives the run, so that only the vector's own elements count.
const Thrower& Value() {
  static const Thrower& value = *new Thrower(7);
  return value;
}

std::vector<Operation> AtTheEnd() {
  return {
      {"push_back copy", [](Subject& v) { v.push_back(Value()); }, true},
      {"push_back element", [](Subject& v) { v.push_back(v[0]); }, true},
      {"emplace_back", [](Subject& v) { v.emplace_back(3); }, true},
      {"emplace at the end", [](Subject& v) { v.emplace(v.end(), 3); }, true},
      {"insert at the end", [](Subject& v) { v.insert(v.end(), Value()); },
       true},
      {"insert 4 at the end", [](Subject& v) { v.insert(v.end(), 4, Value()); },
       true},
      {"insert range at the end",
       [](Subject& v) { v.insert(v.end(), kFour, kFour + 4); }, true},
      {"insert input at the end",
       [](Subject& v) { v.insert(v.end(), ThrowingInput(4), ThrowingInput()); },
       // Appended wholly; the rotation that follows has nothing to do.
       true},
      {"resize", [](Subject& v) { v.resize(kSize + 30); }, true},
      {"resize with a value", [](Subject& v) { v.resize(kSize + 30, Value()); },
       true},
  };
}

std::vector<Operation> InTheMiddle() {
  std::vector<Operation> operations;
  // Before, at and after the point from which the new ones reach past the end.
  for (const ptrdiff_t at : {0, 5, 6, 7, 9}) {
    operations.push_back(
        {"insert", [at](Subject& v) { v.insert(v.begin() + at, Value()); },
         false});
    operations.push_back({"insert element",
                          [at](Subject& v) { v.insert(v.begin() + at, v[3]); },
                          false});
    operations.push_back(
        {"emplace", [at](Subject& v) { v.emplace(v.begin() + at, 5); }, false});
    operations.push_back(
        {"insert 4", [at](Subject& v) { v.insert(v.begin() + at, 4, Value()); },
         false});
    operations.push_back(
        {"insert range",
         [at](Subject& v) { v.insert(v.begin() + at, kFour, kFour + 4); },
         false});
    operations.push_back({"insert input",
                          [at](Subject& v) {
                            v.insert(v.begin() + at, ThrowingInput(4),
                                     ThrowingInput());
                          },
                          false});
    operations.push_back(
        {"erase", [at](Subject& v) { v.erase(v.begin() + at); }, false});
  }
  return operations;
}

std::vector<Operation> OfTheWhole() {
  return {
      {"reserve", [](Subject& v) { v.reserve(100000); }, true},
      {"shrink_to_fit", [](Subject& v) { v.shrink_to_fit(); }, true},
      {"pop_back", [](Subject& v) { v.pop_back(); }, true},
      {"clear", [](Subject& v) { v.clear(); }, true},
      {"copy", [](Subject& v) { EXPECT_EQ(Subject(v).size(), v.size()); },
       true},
      {"move", [](Subject& v) { v = Subject(std::move(v)); }, true},
      {"assign fewer", [](Subject& v) { v.assign(3, Value()); }, false},
      {"assign more", [](Subject& v) { v.assign(30, Value()); }, false},
      {"assign a range", [](Subject& v) { v.assign(kFour, kFour + 4); }, false},
      {"assign input",
       [](Subject& v) { v.assign(ThrowingInput(4), ThrowingInput()); }, false},
      {"erase_if",
       [](Subject& v) {
         erase_if(v, [](const Thrower& t) { return t.value() % 2 == 0; });
       },
       false},
  };
}

std::vector<int> ValuesOf(const Subject& v) {
  std::vector<int> values;
  for (const Thrower& t : v) values.push_back(t.value());
  return values;
}

// One run with the n-th point throwing. Returns whether it threw.
bool RunOnce(const Operation& operation, int n) {
  Subject subject;
  subject.reserve(kSize);
  for (int i = 0; i < kSize; ++i) subject.emplace_back(i);
  const int others = Thrower::alive - kSize;
  const std::vector<int> before = ValuesOf(subject);
  const Thrower* const data = subject.data();
  bool threw = false;
  countdown = n;
  try {
    operation.run(subject);
  } catch (const Thrown&) {
    threw = true;
  }
  countdown = 0;
  if (threw && operation.strong) {
    EXPECT_EQ(ValuesOf(subject), before);
  }
  EXPECT_EQ(subject.data(), data);
  // Each element lives exactly once, none is lost and none is forgotten.
  EXPECT_EQ(Thrower::alive, others + static_cast<int>(subject.size()));
  // Still usable.
  subject.push_back(Thrower(1));
  EXPECT_EQ(subject.back().value(), 1);
  subject.clear();
  EXPECT_EQ(Thrower::alive, others);
  return threw;
}

// Returns how many points of the operation threw.
int Walk(const Operation& operation) {
  for (int n = 1; n < 1000; ++n) {
    SCOPED_TRACE(n);
    if (!RunOnce(operation, n)) return n - 1;
    if (::testing::Test::HasFailure()) break;
  }
  ADD_FAILURE() << "no run got through";
  return 0;
}

TEST(VectorExceptionsTest, WhatHappensAtTheEndHappensWhollyOrNotAtAll) {
  (void)Value();
  for (const Operation& operation : AtTheEnd()) {
    SCOPED_TRACE(operation.name);
    EXPECT_GE(Walk(operation), 1);
  }
}

TEST(VectorExceptionsTest, InsertionInTheMiddleLeavesAValidVector) {
  (void)Value();
  for (const Operation& operation : InTheMiddle()) {
    SCOPED_TRACE(operation.name);
    const int points = Walk(operation);
    // To erase the last is to move none.
    EXPECT_GE(points, operation.name == std::string("erase") ? 0 : 1);
  }
}

TEST(VectorExceptionsTest, OperationsOnTheWholeLeaveAValidVector) {
  (void)Value();
  for (const Operation& operation : OfTheWhole()) {
    SCOPED_TRACE(operation.name);
    Walk(operation);
  }
}

TEST(VectorExceptionsTest, WhatDoesNotCopyDoesNotThrow) {
  for (const Operation& operation : OfTheWhole()) {
    SCOPED_TRACE(operation.name);
    const std::string name = operation.name;
    if (name == "reserve" || name == "shrink_to_fit" || name == "pop_back" ||
        name == "clear" || name == "move") {
      EXPECT_EQ(Walk(operation), 0);
    }
  }
}

TEST(VectorExceptionsTest, ConstructorsLeaveNothingBehind) {
  (void)Value();
  const Subject source(kFour, kFour + 4);
  const std::vector<std::function<Subject()>> constructors = {
      [] { return Subject(size_t{6}); },
      [] { return Subject(6, Value()); },
      [] { return Subject(kFour, kFour + 4); },
      [] { return Subject(ThrowingInput(6), ThrowingInput()); },
      [] {
        return Subject{1, 2, 3};
      },
      [&source] { return Subject(source); },
  };
  for (size_t i = 0; i < constructors.size(); ++i) {
    SCOPED_TRACE(i);
    const int before = Thrower::alive;
    int points = 0;
    for (bool threw = true; threw && points < 100; points += threw ? 1 : 0) {
      threw = false;
      countdown = points + 1;
      try {
        const Subject made = constructors[i]();
      } catch (const Thrown&) {
        threw = true;
      }
      countdown = 0;
      ASSERT_EQ(Thrower::alive, before);
    }
    EXPECT_GE(points, 3);
    EXPECT_LT(points, 100);
  }
}

#ifdef __SANITIZE_ADDRESS__
TEST(VectorExceptionsDeathTest, WhatWasNotMadeIsNobodysAgain) {
  Subject subject(size_t{3});
  countdown = 2;
  EXPECT_THROW(subject.resize(6), Thrown);
  countdown = 0;
  volatile char* const past = reinterpret_cast<char*>(subject.data() + 3);
  EXPECT_DEATH(*past = 1, "use-after-poison");
}
#endif

}  // namespace
}  // namespace doppel
