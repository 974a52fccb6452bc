// SPDX-License-Identifier: Apache-2.0
//
// Items that are not bytes: move-only, without a default, that throw, that count
// their lives.

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/support/child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;

template <class T>
SpscRing<T> MakeRing(size_t min_capacity = 1) {
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(min_capacity);
  EXPECT_TRUE(ring.ok()) << ring.status();
  return *std::move(ring);
}

// Counts how many of it live, and knows where it was built.
class Tracked {
 public:
  explicit Tracked(int value) : value_(value), self_(this) { ++live; }
  Tracked(const Tracked& other) : value_(other.value_), self_(this) {
    if (value_ == throw_on_copy_of) throw std::runtime_error("copy");
    ++live;
  }
  Tracked(Tracked&& other) noexcept : value_(other.value_), self_(this) {
    ++live;
  }
  Tracked& operator=(const Tracked&) = delete;
  // NOLINTNEXTLINE(performance-noexcept-move-constructor): it throws.
  Tracked& operator=(Tracked&& other) {
    if (other.value_ == throw_on_assignment_of) throw std::runtime_error("=");
    EXPECT_EQ(other.self_, &other);
    value_ = other.value_;
    return *this;
  }
  ~Tracked() {
    EXPECT_EQ(self_, this) << "destroyed by another address";
    --live;
  }
  int value() const { return value_; }
  bool at_home() const { return self_ == this; }

  static int live;
  static int throw_on_copy_of;
  static int throw_on_assignment_of;

 private:
  int value_;
  Tracked* self_;
  std::byte filler_[8] = {};  // 24 bytes: a page is no multiple.
};
int Tracked::live = 0;
int Tracked::throw_on_copy_of = -1;
int Tracked::throw_on_assignment_of = -1;

TEST(SpscRingObjects, MoveOnlyItems) {
  SpscRing<std::unique_ptr<int>> ring = MakeRing<std::unique_ptr<int>>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(writer.try_push(std::make_unique<int>(i)));
    std::optional<std::unique_ptr<int>> item = reader.try_pop();
    ASSERT_TRUE(item.has_value());
    ASSERT_EQ(**item, i);
  }
}

TEST(SpscRingObjects, AFullRingLeavesTheArgumentAlone) {
  SpscRing<std::unique_ptr<int>> ring = MakeRing<std::unique_ptr<int>>();
  auto writer = ring.writer();
  while (writer.try_push(std::make_unique<int>(1))) {
  }
  auto item = std::make_unique<int>(7);
  EXPECT_FALSE(writer.try_push(std::move(item)));
  ASSERT_NE(item, nullptr);
  EXPECT_EQ(*item, 7);
}

TEST(SpscRingObjects, WhatIsLeftIsDestroyedWithTheRing) {
  {
    SpscRing<Tracked> ring = MakeRing<Tracked>();
    auto writer = ring.writer();
    auto reader = ring.reader();
    // Past the wrap, so that both ends of the memory hold some.
    for (size_t i = 0; i < ring.capacity() - 3; ++i) {
      ASSERT_TRUE(writer.emplace(1));
      ASSERT_NE(reader.front(), nullptr);
      reader.pop();
    }
    EXPECT_EQ(Tracked::live, 0);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(writer.emplace(i));
    EXPECT_EQ(Tracked::live, 10);
  }
  EXPECT_EQ(Tracked::live, 0);
}

TEST(SpscRingObjects, AssignmentDestroysWhatIsLeft) {
  SpscRing<Tracked> ring = MakeRing<Tracked>();
  ASSERT_TRUE(ring.writer().emplace(1));
  SpscRing<Tracked> other = MakeRing<Tracked>();
  ASSERT_TRUE(other.writer().emplace(2));
  EXPECT_EQ(Tracked::live, 2);
  ring = std::move(other);
  EXPECT_EQ(Tracked::live, 1);
  EXPECT_EQ(ring.reader().front()->value(), 2);
}

// An object that is reached by its alias address is another object: std::string
// holds the address of its own buffer.
TEST(SpscRingObjects, ObjectsAreReachedByOneAddress) {
  SpscRing<Tracked> ring = MakeRing<Tracked>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  const size_t capacity = ring.capacity();
  int next = 0;
  int expected = 0;
  for (int round = 0; round < 20; ++round) {
    while (writer.emplace(next)) ++next;
    size_t seen = 0;
    while (seen < capacity) {
      std::span<Tracked> items = reader.peek(capacity - seen);
      ASSERT_FALSE(items.empty());
      for (const Tracked& item : items) {
        ASSERT_TRUE(item.at_home());
        ASSERT_EQ(item.value(), expected++);
      }
      seen += items.size();
      reader.consume(items.size());
    }
    // Another place for the wrap in the next round.
    for (int i = 0; i < 7; ++i) {
      ASSERT_TRUE(writer.emplace(next++));
      reader.size();
      ASSERT_EQ(reader.front()->value(), expected++);
      reader.pop();
    }
  }
  EXPECT_EQ(Tracked::live, 0);
}

TEST(SpscRingObjects, ASpanEndsWhereTheMemoryWraps) {
  SpscRing<std::string> ring = MakeRing<std::string>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (size_t i = 0; i < ring.capacity() - 2; ++i) {
    ASSERT_TRUE(writer.try_push(""));
    reader.size();
    reader.pop();
  }
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(writer.emplace(absl::StrCat(i)));
  EXPECT_THAT(reader.peek(5), ElementsAre("0", "1"));
  reader.consume(2);
  std::span<std::string> rest = reader.peek(3);
  EXPECT_THAT(rest, ElementsAre("2", "3", "4"));
  const std::string taken = std::move(rest[1]);
  EXPECT_EQ(taken, "3");
  reader.consume(3);
}

TEST(SpscRingObjects, BatchesOfStrings) {
  SpscRing<std::string> ring = MakeRing<std::string>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  const std::vector<std::string> items = {"short", std::string(100, 'x'), ""};
  std::vector<std::string> out(3);
  for (size_t i = 0; i < ring.capacity(); ++i) {
    ASSERT_EQ(writer.push(items), 3);
    ASSERT_EQ(reader.pop(out), 3);
    ASSERT_EQ(out, items);
  }
}

TEST(SpscRingObjects, AConstructorThatThrowsLeavesTheRingAsItWas) {
  struct Throws {
    explicit Throws(bool now) : text("built") {
      if (now) throw std::runtime_error("now");
    }
    std::string text;
  };
  SpscRing<Throws> ring = MakeRing<Throws>();
  auto writer = ring.writer();
  ASSERT_TRUE(writer.emplace(false));
  EXPECT_THROW(writer.emplace(true), std::runtime_error);
  EXPECT_EQ(ring.size(), 1);
  ASSERT_TRUE(writer.emplace(false));
  EXPECT_EQ(ring.size(), 2);
}

TEST(SpscRingObjects, ABatchThatThrowsKeepsWhatCameBefore) {
  {
    SpscRing<Tracked> ring = MakeRing<Tracked>();
    auto writer = ring.writer();
    auto reader = ring.reader();
    std::vector<Tracked> items;
    items.reserve(4);
    for (int i = 0; i < 4; ++i) items.emplace_back(i);

    Tracked::throw_on_copy_of = 2;
    EXPECT_THROW(writer.push(items), std::runtime_error);
    Tracked::throw_on_copy_of = -1;
    EXPECT_EQ(reader.size(), 2);
    EXPECT_EQ(writer.push(items), 4);

    std::vector<Tracked> out;
    out.reserve(6);
    for (int i = 0; i < 6; ++i) out.emplace_back(-2);
    Tracked::throw_on_assignment_of = 3;
    EXPECT_THROW(reader.pop(out), std::runtime_error);
    Tracked::throw_on_assignment_of = -1;
    EXPECT_EQ(out[4].value(), 2);
    ASSERT_EQ(reader.size(), 1);
    EXPECT_EQ(reader.front()->value(), 3);
    std::optional<Tracked> last = reader.try_pop();
    EXPECT_EQ(last->value(), 3);
  }
  EXPECT_EQ(Tracked::live, 0);
}

TEST(SpscRingObjects, AnAssignmentThatThrowsLeavesTheItem) {
  SpscRing<Tracked> ring = MakeRing<Tracked>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  ASSERT_TRUE(writer.emplace(5));
  Tracked item(0);
  Tracked::throw_on_assignment_of = 5;
  EXPECT_THROW(reader.try_pop(item), std::runtime_error);
  Tracked::throw_on_assignment_of = -1;
  EXPECT_EQ(reader.size(), 1);
  EXPECT_TRUE(reader.try_pop(item));
  EXPECT_EQ(item.value(), 5);
}

TEST(SpscRingObjects, OverAlignedItems) {
  struct alignas(256) Wide {
    explicit Wide(int n) : number(n) {}
    ~Wide() { number = -1; }
    int number;
  };
  SpscRing<Wide> ring = MakeRing<Wide>();
  auto writer = ring.writer();
  auto reader = ring.reader();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(writer.emplace(i));
    const Wide* const item = reader.front();
    ASSERT_EQ(reinterpret_cast<uintptr_t>(item) % 256, 0);
    ASSERT_EQ(item->number, i);
    reader.pop();
  }
}

// Says in its own memory when it is destroyed.
struct Marked {
  ~Marked() { alive = false; }
  volatile bool alive = true;
};

TEST(SpscRingObjectsTest, AForkedChildLeavesTheItemsToTheParent) {
  std::optional<SpscRing<Marked>> ring = MakeRing<Marked>();
  auto writer = ring->writer();
  ASSERT_TRUE(writer.emplace());
  const int status = testing::RunInChild([&] {
    ring.reset();  // With a handle that lives, as at any moment of a server.
    return 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0));
  EXPECT_TRUE(ring->reader().front()->alive);
}

}  // namespace
}  // namespace doppel
