// SPDX-License-Identifier: Apache-2.0
//
// The allocator in Abseil's containers.

#include <functional>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/container/node_hash_map.h"
#include "absl/hash/hash.h"
#include "doppel/alloc/allocator.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using Pair = std::pair<const int, int>;

template <class Map>
void FillAndErase(Map map, const Region& region) {
  for (int i = 0; i < 10000; ++i) map[i] = i * 3;
  for (int i = 0; i < 10000; i += 2) map.erase(i);
  EXPECT_EQ(map.size(), 5000);
  EXPECT_EQ(map.find(9999)->second, 29997);
  EXPECT_TRUE(region.Contains(&map.find(1)->second));
  Map moved = std::move(map);
  EXPECT_EQ(moved.size(), 5000);
}

TEST(AllocatorAbslTest, FlatHashMap) {
  Region region = *Region::Create();
  FillAndErase(absl::flat_hash_map<int, int, absl::Hash<int>, std::equal_to<>,
                                   Allocator<Pair>>(Allocator<Pair>(region)),
               region);
}

TEST(AllocatorAbslTest, NodeHashMap) {
  Region region = *Region::Create();
  FillAndErase(absl::node_hash_map<int, int, absl::Hash<int>, std::equal_to<>,
                                   Allocator<Pair>>(Allocator<Pair>(region)),
               region);
}

TEST(AllocatorAbslTest, BtreeMap) {
  Region region = *Region::Create();
  FillAndErase(absl::btree_map<int, int, std::less<>, Allocator<Pair>>(
                   Allocator<Pair>(region)),
               region);
}

TEST(AllocatorAbslTest, InlinedVector) {
  Region region = *Region::Create();
  absl::InlinedVector<int, 4, Allocator<int>> v{Allocator<int>(region)};
  for (int i = 0; i < 1000; ++i) v.push_back(i);
  EXPECT_EQ(v.back(), 999);
  EXPECT_TRUE(region.Contains(v.data()));
}

}  // namespace
}  // namespace doppel
