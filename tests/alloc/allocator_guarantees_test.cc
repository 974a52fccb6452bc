// SPDX-License-Identifier: Apache-2.0
//
// What a standard container may rely on when its memory comes from a region: every
// element is destroyed, a failed allocation changes nothing, nodes may go from one
// container to another of the same source, and containers may hold containers.

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <scoped_allocator>
#include <string>
#include <utility>
#include <vector>

#include "doppel/alloc/allocator.h"
#include "doppel/alloc/memory_resource.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

using Pair = std::pair<const int, int>;
using Map = std::map<int, int, std::less<>, Allocator<Pair>>;
using List = std::list<int, Allocator<int>>;
using String = std::basic_string<char, std::char_traits<char>, Allocator<char>>;

Region Small() {
  return *Region::Create(
      {.arena = *Arena::Create({.page_size = PageSize::Base()}),
       .reserve_bytes = 3 << 19});
}

TEST(AllocatorGuaranteesTest, EveryElementIsDestroyed) {
  Region region = Small();
  const auto shared = std::make_shared<int>(1);
  using Shared = std::shared_ptr<int>;
  {
    std::vector<Shared, Allocator<Shared>> v{Allocator<Shared>(region)};
    for (int i = 0; i < 1000; ++i) v.push_back(shared);
    v.erase(v.begin(), v.begin() + 500);
    EXPECT_EQ(shared.use_count(), 501);
  }
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(AllocatorGuaranteesTest, AFailedAllocationChangesNothing) {
  Region region = Small();
  std::vector<int, Allocator<int>> v{Allocator<int>(region)};
  Map map{Allocator<Pair>(region)};
  // The vector doubles up to 512 KiB, and then does not find 1 MiB in what is left;
  // nodes fill that.
  int pushed = 0;
  const auto push_until_full = [&] {
    for (;; ++pushed) v.push_back(pushed);
  };
  EXPECT_THROW(push_until_full(), std::bad_alloc);
  EXPECT_EQ(v.size(), pushed);
  EXPECT_EQ(v.back(), pushed - 1);
  int inserted = 0;
  const auto insert_until_full = [&] {
    for (;; ++inserted) map.emplace(inserted, inserted);
  };
  EXPECT_THROW(insert_until_full(), std::bad_alloc);
  ASSERT_GT(inserted, 1000);
  EXPECT_EQ(map.size(), inserted);
  EXPECT_EQ(map.rbegin()->second, inserted - 1);
  EXPECT_FALSE(region.last_error().ok());
  EXPECT_THROW(v.reserve(v.max_size()), std::bad_alloc);
  EXPECT_EQ(v.front(), 0);
}

TEST(AllocatorGuaranteesTest, NodesGoBetweenContainersOfOneSource) {
  Region region = Small();
  List a({1, 2, 5}, Allocator<int>(region));
  List b({3, 4}, Allocator<int>(region));
  const int* const node = &b.front();
  a.splice(std::prev(a.end()), b);
  EXPECT_THAT(a, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(&*std::next(a.begin(), 2), node);

  Map from({{1, 10}, {2, 20}}, Allocator<Pair>(region));
  Map to({{3, 30}}, Allocator<Pair>(region));
  const int* const value = &from.at(2);
  to.insert(from.extract(2));
  EXPECT_EQ(&to.at(2), value);
  to.merge(from);
  EXPECT_TRUE(from.empty());
  EXPECT_EQ(to.size(), 3);
}

TEST(AllocatorGuaranteesTest, SwapAndMoveAssignmentAcrossSourcesMoveNoElement) {
  Region one = Small();
  Region two = Small();
  List a({1, 2}, Allocator<int>(one));
  List b({3}, Allocator<int>(two));
  const int* const first = &a.front();
  swap(a, b);
  EXPECT_EQ(&b.front(), first);
  EXPECT_EQ(&b.get_allocator().source(), &one);
  a = std::move(b);
  EXPECT_EQ(&a.front(), first);
  EXPECT_EQ(&a.get_allocator().source(), &one);
  a.push_back(7);
  EXPECT_TRUE(one.Contains(&a.back())) << "it goes on with its new source";
  static_assert(std::is_nothrow_move_assignable_v<List>);
  static_assert(std::is_nothrow_move_assignable_v<String>);
}

TEST(AllocatorGuaranteesTest, MoveConstructionToAnotherSourceCopies) {
  Region one = Small();
  Region two = Small();
  std::vector<int, Allocator<int>> a({1, 2, 3}, Allocator<int>(one));
  const std::vector<int, Allocator<int>> b(std::move(a), Allocator<int>(two));
  EXPECT_THAT(b, ElementsAre(1, 2, 3));
  EXPECT_TRUE(two.Contains(b.data()));
}

TEST(AllocatorGuaranteesTest, ContainersOfContainersShareTheSource) {
  Region region = Small();
  using Outer =
      std::vector<String, std::scoped_allocator_adaptor<Allocator<String>>>;
  Outer words{Allocator<String>(region)};
  for (int i = 0; i < 100; ++i) words.emplace_back(100, 'x');
  for (const String& word : words) {
    EXPECT_TRUE(region.Contains(word.data()));
    EXPECT_THAT(word, Each('x'));
  }
}

TEST(AllocatorGuaranteesTest, ARequestLeavesTheRegionAsItFoundIt) {
  Region region = Small();
  uint64_t committed_bytes = 0;
  for (int request = 0; request < 50; ++request) {
    const Region::Mark mark = region.mark();
    {
      Map map{Allocator<Pair>(region)};
      for (int i = 0; i < 1000; ++i) map[i] = i;
      ASSERT_EQ(map.at(999), 999);
    }
    region.Rewind(mark);
    ASSERT_EQ(region.used_bytes(), 0);
    if (request == 0) committed_bytes = region.committed_bytes();
    ASSERT_EQ(region.committed_bytes(), committed_bytes);
  }
}

// Takes memory back, and knows how many bytes are out.
struct Counting {
  void* Allocate(size_t bytes, size_t alignment) {
    live_bytes += bytes;
    return ::operator new(bytes, std::align_val_t(alignment));
  }
  void Deallocate(void* allocation, size_t bytes, size_t alignment) {
    live_bytes -= bytes;
    ::operator delete(allocation, std::align_val_t(alignment));
  }
  size_t live_bytes = 0;
};

TEST(AllocatorGuaranteesTest, EachAllocationGoesBackWithItsSize) {
  Counting source;
  {
    std::map<int, int, std::less<>, Allocator<Pair, Counting>> map{
        Allocator<Pair, Counting>(source)};
    for (int i = 0; i < 1000; ++i) map[i] = i;
    EXPECT_GE(source.live_bytes, 1000 * sizeof(Pair));
  }
  EXPECT_EQ(source.live_bytes, 0);
  {
    MemoryResource resource(source);
    std::pmr::vector<std::pmr::string> words(&resource);
    for (int i = 0; i < 100; ++i) words.emplace_back(100, 'x');
    EXPECT_GE(source.live_bytes, 100 * 100);
  }
  EXPECT_EQ(source.live_bytes, 0);
}

}  // namespace
}  // namespace doppel
