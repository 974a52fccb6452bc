// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/allocator.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;

static_assert(MemorySource<Region>);
using Traits = std::allocator_traits<Allocator<int>>;
static_assert(!Traits::propagate_on_container_copy_assignment::value);
static_assert(Traits::propagate_on_container_move_assignment::value);
static_assert(Traits::propagate_on_container_swap::value);
static_assert(!Traits::is_always_equal::value);
static_assert(std::is_same_v<Traits::rebind_alloc<char>, Allocator<char>>);

class AllocatorTest : public ::testing::Test {
 protected:
  template <class T>
  Allocator<T> Get() {
    return Allocator<T>(region_);
  }
  Region region_ = *Region::Create();
  Region other_ = *Region::Create();
};

TEST_F(AllocatorTest, EqualMeansTheSameSource) {
  EXPECT_TRUE(Get<int>() == Get<int>());
  EXPECT_TRUE(Get<int>() == Get<char>());
  EXPECT_TRUE(Allocator<int>(Get<char>()) == Get<int>());
  EXPECT_FALSE(Get<int>() == Allocator<int>(other_));
  EXPECT_EQ(&Get<int>().source(), &region_);
}

TEST_F(AllocatorTest, AllocatesAlignedAndRefusesWhatHasNoSize) {
  struct alignas(256) Wide {
    char bytes[256];
  };
  Allocator<Wide> wide = Get<Wide>();
  (void)region_.Allocate(1, 1);
  Wide* at = wide.allocate(3);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 256, 0);
  const auto result = wide.allocate_at_least(2);
#ifdef __cpp_lib_allocate_at_least
  static_assert(
      std::is_same_v<
          decltype(result),
          const std::allocation_result<typename decltype(wide)::value_type*>>);
#endif
  EXPECT_GE(result.count, 2);
  EXPECT_EQ(wide.max_size(), PTRDIFF_MAX / 256);
  EXPECT_THROW((void)wide.allocate(wide.max_size() + 1),
               std::bad_array_new_length);
  EXPECT_THROW((void)wide.allocate(SIZE_MAX), std::bad_array_new_length);
  EXPECT_THROW((void)wide.allocate(wide.max_size()), std::bad_alloc);
  const uint64_t used = region_.used_bytes();
  wide.deallocate(wide.allocate(4), 4);
  EXPECT_EQ(region_.used_bytes(), used) << "the newest goes back";
}

TEST_F(AllocatorTest, PropagatesAsStated) {
  using Vector = std::vector<int, Allocator<int>>;
  Vector a({1, 2, 3}, Get<int>());
  const int* const data = a.data();
  Vector b({4}, Allocator<int>(other_));
  b = a;
  EXPECT_EQ(&b.get_allocator().source(), &other_);
  EXPECT_THAT(b, ElementsAre(1, 2, 3));
  Vector c(Allocator<int>{other_});
  c = std::move(a);
  EXPECT_EQ(c.data(), data) << "the memory moved";
  EXPECT_EQ(&c.get_allocator().source(), &region_);
  swap(b, c);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(&c.get_allocator().source(), &other_);
  const Vector d = b;
  EXPECT_EQ(&d.get_allocator().source(), &region_);
}

TEST_F(AllocatorTest, ServesStandardContainers) {
  using Pair = std::pair<const int, int>;
  std::list<int, Allocator<int>> list(Get<int>());
  std::deque<int, Allocator<int>> deque(Get<int>());
  std::map<int, int, std::less<>, Allocator<Pair>> map(Get<Pair>());
  std::unordered_map<int, int, std::hash<int>, std::equal_to<>, Allocator<Pair>>
      hash(Get<Pair>());
  for (int i = 0; i < 10000; ++i) {
    list.push_back(i);
    deque.push_front(i);
    map[i] = hash[i] = i * 2;
  }
  for (int i = 0; i < 10000; i += 2) {
    map.erase(i);
    hash.erase(i);
    list.pop_front();
  }
  EXPECT_EQ(list.front(), 5000);
  EXPECT_EQ(deque.back(), 0);
  EXPECT_EQ(map.size(), 5000);
  EXPECT_EQ(map.at(9999), hash.at(9999));
  EXPECT_TRUE(region_.Contains(&list.front()));
  EXPECT_TRUE(region_.Contains(&map.begin()->second));
}

TEST_F(AllocatorTest, ServesStrings) {
  using String =
      std::basic_string<char, std::char_traits<char>, Allocator<char>>;
  String text(Get<char>());
  for (int i = 0; i < 1000; ++i) text += "some text ";
  EXPECT_EQ(text.size(), 10000);
  EXPECT_TRUE(region_.Contains(text.data()));
}

// The seam for another policy of allocation.
struct Counting {
  void* Allocate(size_t bytes, size_t alignment) {
    ++live;
    return ::operator new(bytes, std::align_val_t(alignment));
  }
  void Deallocate(void* allocation, size_t /*bytes*/, size_t alignment) {
    --live;
    ::operator delete(allocation, std::align_val_t(alignment));
  }
  int live = 0;
};

TEST(AllocatorSourceTest, AnySourceWillDo) {
  Counting source;
  {
    std::vector<int, Allocator<int, Counting>> v(
        {1, 2}, Allocator<int, Counting>(source));
    v.resize(1000);
    EXPECT_EQ(source.live, 1);
  }
  EXPECT_EQ(source.live, 0);
}

}  // namespace
}  // namespace doppel
