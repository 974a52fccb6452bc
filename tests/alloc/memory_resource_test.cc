// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/memory_resource.h"

#include <cstdint>
#include <map>
#include <memory_resource>
#include <new>
#include <string>

#include "gtest/gtest.h"

namespace doppel {
namespace {

TEST(MemoryResourceTest, ServesPmrContainers) {
  Region region = *Region::Create();
  MemoryResource resource(region);
  std::pmr::map<int, std::pmr::string> map(&resource);
  for (int i = 0; i < 1000; ++i) map.emplace(i, std::string(100, 'x'));
  EXPECT_EQ(map.at(999).size(), 100);
  EXPECT_TRUE(region.Contains(map.at(999).data())) << "it reaches the strings";
  EXPECT_EQ(&resource.source(), &region);
}

TEST(MemoryResourceTest, HonoursAlignmentAndTakesTheNewestBack) {
  Region region = *Region::Create();
  MemoryResource resource(region);
  void* at = resource.allocate(10, 512);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % 512, 0);
  const uint64_t used = region.used_bytes();
  void* next = resource.allocate(100, 8);
  resource.deallocate(next, 100, 8);
  EXPECT_LE(region.used_bytes(), used + 8);
}

TEST(MemoryResourceTest, EqualMeansTheSameSource) {
  Region region = *Region::Create();
  Region other = *Region::Create();
  MemoryResource a(region);
  MemoryResource b(region);
  MemoryResource c(other);
  EXPECT_TRUE(a == b);
  EXPECT_FALSE(a == c);
  EXPECT_FALSE(a == *std::pmr::new_delete_resource());
}

TEST(MemoryResourceTest, WithoutMemoryItThrows) {
  Region region = *Region::Create({.reserve_bytes = 1 << 20});
  MemoryResource resource(region);
  EXPECT_THROW((void)resource.allocate(2 << 20), std::bad_alloc);
  size_t everything = SIZE_MAX;  // A constant gcc would warn of.
  EXPECT_THROW((void)resource.allocate(everything), std::bad_alloc);
  EXPECT_NE(resource.allocate(1000), nullptr);
}

}  // namespace
}  // namespace doppel
