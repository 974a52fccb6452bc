// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/smaps.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <optional>

#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::IsOk;

TEST(SmapsTest, FindsAMappingOfAFileWithItsPages) {
  constexpr size_t kBytes = size_t{8} * 4096;
  const int fd = memfd_create("smaps_test", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, kBytes), 0);
  struct stat file = {};
  ASSERT_EQ(fstat(fd, &file), 0);
  void* const map =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(map, MAP_FAILED);
  std::memset(map, 1, size_t{3} * 4096);

  auto smaps = Smaps::Read();
  ASSERT_THAT(smaps, IsOk());
  int found = 0;
  int stacks = 0;
  uint64_t end = 0;
  while (const std::optional<Smaps::Mapping> mapping = smaps->Next()) {
    EXPECT_GE(mapping->begin, end) << "in the order of addresses";
    EXPECT_GT(mapping->end, mapping->begin);
    end = mapping->end;
    const auto here = reinterpret_cast<uint64_t>(&found);
    if (mapping->begin <= here && here < mapping->end) {
      ++stacks;
      EXPECT_EQ(mapping->inode, 0);
      EXPECT_GT(mapping->resident_bytes, 0);
    }
    if (mapping->device != file.st_dev || mapping->inode != file.st_ino) {
      continue;
    }
    ++found;
    EXPECT_EQ(mapping->begin, reinterpret_cast<uint64_t>(map));
    EXPECT_EQ(mapping->end - mapping->begin, kBytes);
    EXPECT_EQ(mapping->resident_bytes, 3 * 4096);
    EXPECT_EQ(mapping->proportional_bytes, 3 * 4096);
    EXPECT_EQ(mapping->swapped_bytes, 0);
  }
  EXPECT_EQ(found, 1);
  EXPECT_EQ(stacks, 1);
  EXPECT_FALSE(smaps->Next()) << "the end stays the end";
  munmap(map, kBytes);
  close(fd);
}

}  // namespace
}  // namespace doppel::internal
