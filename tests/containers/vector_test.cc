// SPDX-License-Identifier: Apache-2.0
//
// What std::vector's interface says of construction, access and comparison. Its
// other halves: vector_modifiers_test.cc, vector_growth_test.cc,
// vector_exceptions_test.cc, vector_model_test.cc.

#include "doppel/containers/vector.h"

#include <compare>
#include <cstdint>
#include <forward_list>
#include <iterator>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::CallCounter;
using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

static_assert(std::contiguous_iterator<Vector<int>::iterator>);
static_assert(std::contiguous_iterator<Vector<int>::const_iterator>);
static_assert(std::is_nothrow_default_constructible_v<Vector<std::string>>);
static_assert(std::is_nothrow_move_constructible_v<Vector<std::string>>);
static_assert(std::is_nothrow_move_assignable_v<Vector<std::string>>);
static_assert(std::is_nothrow_swappable_v<Vector<std::string>>);
static_assert(std::is_same_v<decltype(Vector<double>() <=> Vector<double>()),
                             std::partial_ordering>);
static_assert(std::three_way_comparable<Vector<std::string>>);
static_assert(!std::is_convertible_v<size_t, Vector<int>>);

GrowingMapping::Options BasePages() {
  return {.arena = *Arena::Create({.page_size = PageSize::Base()})};
}

TEST(VectorTest, AnEmptyOneMakesNoSystemCall) {
  const LeakCheck before;
  CallCounter counter;
  {
    Vector<int> empty;
    Vector<int> moved = std::move(empty);
    Vector<int> copy = moved;
    EXPECT_THAT(copy, IsEmpty());
    copy.clear();
    copy.shrink_to_fit();
    copy.resize(0);
    copy.reserve(0);
    copy.insert(copy.begin(), 0, 7);
    copy.erase(copy.begin(), copy.end());
    copy.assign(moved.begin(), moved.end());
    swap(copy, moved);
    EXPECT_EQ(copy.data(), nullptr);
    EXPECT_EQ(copy.memory(), nullptr);
    EXPECT_GT(copy.max_size(), 1 << 20);
    EXPECT_TRUE(copy == moved);
  }
  EXPECT_EQ(counter.total(), 0);
  EXPECT_TRUE(before.Unchanged());
}

TEST(VectorTest, ConstructsFromCountsRangesAndLists) {
  EXPECT_THAT(Vector<int>({3, 1, 2}), ElementsAre(3, 1, 2));
  EXPECT_THAT(Vector<int>(3, 7), ElementsAre(7, 7, 7));
  EXPECT_THAT(Vector<int>(size_t{2}), ElementsAre(0, 0));
  const std::forward_list<int> forward{4, 5};
  EXPECT_THAT(Vector<int>(forward.begin(), forward.end()), ElementsAre(4, 5));
  std::istringstream words("a b c");
  const Vector<std::string> read{std::istream_iterator<std::string>(words),
                                 std::istream_iterator<std::string>()};
  EXPECT_THAT(read, ElementsAre("a", "b", "c"));
}

TEST(VectorTest, EveryConstructorTakesOptions) {
  const auto options = BasePages();
  const int source[] = {1, 2};
  const Vector<int> counted(size_t{2}, options);
  const Vector<int> filled(2, 1, options);
  const Vector<int> ranged(source, source + 2, options);
  const Vector<int> listed({1, 2}, options);
  const Vector<int> copied(Vector<int>{1, 2}, options);
  for (const Vector<int>* v : {&counted, &filled, &ranged, &listed, &copied}) {
    ASSERT_NE(v->memory(), nullptr);
    EXPECT_EQ(v->memory()->arena(), options.arena);
    EXPECT_EQ(v->size(), 2);
  }
}

TEST(VectorTest, DeducesItsElements) {
  const std::vector<int16_t> source{1, 2};
  const Vector ranged(source.begin(), source.end());
  static_assert(std::is_same_v<decltype(ranged), const Vector<int16_t>>);
  const Vector listed{1.5, 2.5};
  static_assert(std::is_same_v<decltype(listed), const Vector<double>>);
  const Vector filled(3, 'x');
  static_assert(std::is_same_v<decltype(filled), const Vector<char>>);
  const Vector copied(filled);
  static_assert(std::is_same_v<decltype(copied), const Vector<char>>);
  EXPECT_THAT(ranged, ElementsAre(1, 2));
  EXPECT_THAT(copied, ElementsAre('x', 'x', 'x'));
}

TEST(VectorTest, CopiesAreApartAndShareOptions) {
  const auto options = BasePages();
  Vector<std::string> original({"a", "b"}, options);
  Vector<std::string> copy = original;
  EXPECT_EQ(copy.memory()->arena(), options.arena);
  copy[0] = "changed";
  EXPECT_THAT(original, ElementsAre("a", "b"));

  // Assignment keeps the options that the target has.
  Vector<std::string> other({"c"}, BasePages());
  const auto arena = other.memory()->arena();
  other = original;
  EXPECT_EQ(other.memory()->arena(), arena);
  EXPECT_THAT(other, ElementsAre("a", "b"));
  const auto& self = other;
  other = self;
  EXPECT_THAT(other, ElementsAre("a", "b"));
  other = {"x"};
  EXPECT_THAT(other, ElementsAre("x"));
}

TEST(VectorTest, MovesTakeThePagesAndLeaveAnEmptyVector) {
  const auto options = BasePages();
  Vector<std::string> from({"a", "b"}, options);
  const std::string* const first = &from[0];
  Vector<std::string> to = std::move(from);
  EXPECT_EQ(&to[0], first);
  EXPECT_THAT(from, IsEmpty());
  EXPECT_EQ(from.capacity(), 0);
  from.push_back("again");  // In the arena of its options.
  EXPECT_EQ(from.memory()->arena(), options.arena);
  to = std::move(from);
  EXPECT_THAT(to, ElementsAre("again"));
  EXPECT_THAT(from, IsEmpty());
  auto& self = to;
  to = std::move(self);
  EXPECT_THAT(to, ElementsAre("again"));
}

TEST(VectorTest, SwapsWithoutTouchingElements) {
  Vector<std::string> a({"a"}, BasePages());
  Vector<std::string> b;
  const std::string* const first = &a[0];
  swap(a, b);
  EXPECT_THAT(a, IsEmpty());
  EXPECT_EQ(&b[0], first);
  a.swap(b);
  EXPECT_EQ(&a[0], first);
  EXPECT_EQ(b.data(), nullptr);
}

TEST(VectorTest, AccessesEveryWay) {
  Vector<int> v{1, 2, 3};
  const Vector<int>& constant = v;
  v.front() = 10;
  v.back() = 30;
  v[1] = 20;
  *v.data() += 1;
  EXPECT_EQ(constant.front() + constant.back() + constant[1], 61);
  EXPECT_EQ(constant.data(), v.data());
  EXPECT_EQ(std::accumulate(constant.cbegin(), constant.cend(), 0), 61);
  EXPECT_EQ(*v.rbegin(), 30);
  EXPECT_EQ(*constant.crbegin(), 30);
  EXPECT_EQ(v.rend() - v.rbegin(), 3);
  EXPECT_EQ(constant.crend() - constant.crbegin(), 3);
  EXPECT_EQ(constant.rend() - constant.rbegin(), 3);
  EXPECT_FALSE(constant.empty());
  EXPECT_GE(constant.capacity(), constant.size());
  EXPECT_GE(constant.max_size(), constant.capacity());
}

TEST(VectorTest, AtChecksAndSaysWhat) {
  Vector<int> v{1};
  EXPECT_EQ(v.at(0), 1);
  EXPECT_THROW(v.at(1), std::out_of_range);
  try {
    (void)std::as_const(v).at(7);
    FAIL();
  } catch (const std::out_of_range& error) {
    EXPECT_THAT(error.what(), HasSubstr("index 7 of 1"));
  }
}

TEST(VectorTest, ComparesAsSequences) {
  const Vector<int> a{1, 2};
  const Vector<int> b{1, 2, 0};
  const Vector<int> c{1, 3};
  EXPECT_TRUE(a == a);
  EXPECT_TRUE(a != b);
  EXPECT_TRUE(a < b);
  EXPECT_TRUE(c > b);
  EXPECT_TRUE(a <= a);
  EXPECT_TRUE((a <=> c) == std::strong_ordering::less);
  const Vector<double> nan{std::numeric_limits<double>::quiet_NaN()};
  EXPECT_TRUE((nan <=> nan) == std::partial_ordering::unordered);
}

// Has an order but no operator<=>.
struct OldStyle {
  int value;
  friend bool operator<(const OldStyle& a, const OldStyle& b) {
    return a.value < b.value;
  }
};

TEST(VectorTest, ComparesElementsThatOnlyHaveLess) {
  const Vector<OldStyle> a{{1}, {2}};
  const Vector<OldStyle> b{{1}, {3}};
  EXPECT_TRUE((a <=> b) == std::weak_ordering::less);
  EXPECT_TRUE((b <=> a) == std::weak_ordering::greater);
  EXPECT_TRUE((a <=> a) == std::weak_ordering::equivalent);
}

struct Pinned {
  explicit Pinned(int value) : value(value) {}
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  int value;
};

TEST(VectorTest, HoldsWhatCanNeitherBeCopiedNorMoved) {
  Vector<Pinned> pinned(BasePages());
  for (int i = 0; i < 10000; ++i) pinned.emplace_back(i);
  for (int i = 0; i < 10000; ++i) ASSERT_EQ(pinned[i].value, i);
  pinned.pop_back();
  pinned.reserve(20000);
  pinned.shrink_to_fit();
  Vector<Pinned> moved = std::move(pinned);
  EXPECT_EQ(moved.size(), 9999);
  moved.clear();
}

struct Node {
  int value = 0;
  Vector<Node> children;  // Of a type that is not complete yet.
};

TEST(VectorTest, HoldsItself) {
  Node root{.value = 1, .children = {}};
  root.children.emplace_back().value = 2;
  root.children[0].children.emplace_back().value = 3;
  const Node copy = root;
  root.children[0].children.clear();
  EXPECT_EQ(copy.children[0].children[0].value, 3);
}

struct alignas(4096) Page {
  std::byte bytes[3 * 4096];
};

TEST(VectorTest, AlignsAndHoldsElementsLargerThanAPage) {
  Vector<Page> pages(BasePages());
  for (int i = 0; i < 20; ++i) {
    pages.emplace_back().bytes[3 * 4096 - 1] = std::byte(i);
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(&pages[i]) % 4096, 0);
    EXPECT_EQ(pages[i].bytes[3 * 4096 - 1], std::byte(i));
  }
}

TEST(VectorTest, BoolsAreBools) {
  Vector<bool> bools(3, true);
  bool* const first = &bools[0];
  *first = false;
  EXPECT_THAT(bools, ElementsAre(false, true, true));
}

TEST(VectorTest, DestroysWhatItHolds) {
  auto alive = std::make_shared<int>(0);
  {
    Vector<std::shared_ptr<int>> v(10, alive);
    EXPECT_EQ(alive.use_count(), 11);
    v.pop_back();
    v.resize(5);
    EXPECT_EQ(alive.use_count(), 6);
    Vector<std::shared_ptr<int>> other(3, alive);
    other = std::move(v);
    EXPECT_EQ(alive.use_count(), 6);
    other.clear();
    EXPECT_EQ(alive.use_count(), 1);
    other.push_back(alive);
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(VectorTest, CreateReportsWhatIsWrong) {
  EXPECT_FALSE(Vector<int>::Create({.reserve_bytes = uint64_t{1} << 60}).ok());
  EXPECT_FALSE(Vector<int>::Create({.reserve_bytes = UINT64_MAX}).ok());
  auto v = Vector<int>::Create(BasePages());
  ASSERT_THAT(v, IsOk());
  EXPECT_NE(v->memory(), nullptr);
  EXPECT_THAT(*v, IsEmpty());
  v->push_back(1);
  EXPECT_THAT(*v, ElementsAre(1));
}

TEST(VectorTest, AReservationThatCannotBeIsBadAllocAtTheFirstElement) {
  Vector<char> v(Vector<char>::Options{.reserve_bytes = UINT64_MAX});
  EXPECT_EQ(v.max_size(), PTRDIFF_MAX);
  EXPECT_THROW(v.push_back('x'), std::bad_alloc);
  EXPECT_THAT(v, IsEmpty());
}

#ifdef __SANITIZE_ADDRESS__
TEST(VectorDeathTest, AddressSanitizerSeesTheUnusedTail) {
  Vector<int> v{1, 2, 3};
  volatile int* const past = v.data() + 3;
  EXPECT_DEATH(*past = 1, "use-after-poison");
  v.push_back(4);
  *past = 5;
  v.pop_back();
  EXPECT_DEATH(*past = 1, "use-after-poison");
  v.insert(v.begin(), 0);
  *past = 5;
  v.erase(v.begin());
  EXPECT_DEATH(*past = 1, "use-after-poison");
}
#endif

// Says in its own memory when it is destroyed.
struct Marked {
  ~Marked() { alive = false; }
  volatile bool alive = true;
};

TEST(VectorTest, AForkedChildLeavesTheElementsToTheParent) {
  std::optional<Vector<Marked>> v(std::in_place);
  v->emplace_back();
  const int status = testing::RunInChild([&] {
    v.reset();
    return 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0));
  EXPECT_TRUE(v->front().alive);
}

}  // namespace
}  // namespace doppel
