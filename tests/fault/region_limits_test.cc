// SPDX-License-Identifier: Apache-2.0
//
// The limits of the process, the arena and the machine, as a region meets them: an
// error or std::bad_alloc, never a signal; what was allocated stays, and the region
// goes on when the limit is gone.

#include <sys/resource.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "doppel/alloc/allocator.h"
#include "doppel/alloc/memory_resource.h"
#include "doppel/alloc/region.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace doppel {
namespace {

using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::AnyOf;

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::shared_ptr<Arena> BaseArena(Arena::Options options = {}) {
  options.page_size = PageSize::Base();
  return *Arena::Create(options);
}

// 1000 bytes of 'x' in a region, to be found again.
class Kept {
 public:
  explicit Kept(Region& region)
      : bytes_(static_cast<char*>(region.Allocate(1000))) {
    std::memset(bytes_, 'x', 1000);
  }
  bool Intact() const {
    for (int i = 0; i < 1000; ++i) {
      if (bytes_[i] != 'x') return false;
    }
    return true;
  }

 private:
  char* bytes_;
};

// What must hold of a region whose growth some limit refuses.
void ExpectRefused(Region& region, const Kept& kept, size_t bytes) {
  const uint64_t used_bytes = region.used_bytes();
  const uint64_t committed_bytes = region.committed_bytes();
  EXPECT_EQ(region.Allocate(bytes), nullptr);
  EXPECT_THAT(region.last_error(),
              AnyOf(StatusIs(absl::StatusCode::kResourceExhausted),
                    StatusIs(absl::StatusCode::kOutOfRange)));
  EXPECT_FALSE(region.last_error().message().empty());
  EXPECT_THROW((void)Allocator<char>(region).allocate(bytes), std::bad_alloc);
  MemoryResource resource(region);
  EXPECT_THROW((void)resource.allocate(bytes), std::bad_alloc);
  EXPECT_EQ(region.used_bytes(), used_bytes);
  EXPECT_EQ(region.committed_bytes(), committed_bytes);
  EXPECT_TRUE(kept.Intact());
}

TEST(RegionLimitsTest, TheReservation) {
  Region region =
      *Region::Create({.arena = BaseArena(), .reserve_bytes = kMiB});
  const Kept kept(region);
  ExpectRefused(region, kept, kMiB);
  EXPECT_NE(region.Allocate(kMiB - 4096), nullptr);
}

TEST(RegionLimitsTest, TheArena) {
  const auto arena = BaseArena({.max_bytes = kMiB});
  Region region = *Region::Create({.arena = arena, .reserve_bytes = 64 * kMiB});
  const Kept kept(region);
  ExpectRefused(region, kept, 2 * kMiB);
  EXPECT_NE(region.Allocate(kMiB / 2), nullptr);
}

TEST(RegionLimitsTest, SizesThatOverflow) {
  Region region =
      *Region::Create({.arena = BaseArena(), .reserve_bytes = kMiB});
  const Kept kept(region);
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1}) {
    EXPECT_EQ(region.Allocate(bytes, 4096), nullptr);
    EXPECT_EQ(region.Allocate(bytes, 1 << 20), nullptr);
  }
  EXPECT_EQ(region.Allocate(1, size_t{1} << 63), nullptr);
  EXPECT_EQ(region.Allocate(SIZE_MAX, size_t{1} << 63), nullptr);
  EXPECT_THROW((void)Allocator<uint64_t>(region).allocate(SIZE_MAX / 8 + 2),
               std::bad_array_new_length);
  EXPECT_TRUE(kept.Intact());
  EXPECT_NE(region.Allocate(100), nullptr);
}

TEST(RegionLimitsTest, FileSize) {
  Region region =
      *Region::Create({.arena = BaseArena(), .reserve_bytes = 64 * kMiB});
  const Kept kept(region);
  {
    // SIGXFSZ would end the process.
    const ScopedRlimit limit(RLIMIT_FSIZE, 4 * kMiB);
    ExpectRefused(region, kept, 16 * kMiB);
  }
  EXPECT_NE(region.Allocate(16 * kMiB), nullptr);
}

TEST(RegionLimitsTest, AddressSpace) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer has terabytes of addresses";
  const int status = testing::RunInChild([] {
    const auto arena = BaseArena();
    const ScopedRlimit limit(RLIMIT_AS, 512 * kMiB);
    // What was asked for is refused; the default makes do with less.
    if (Region::Create({.arena = arena, .reserve_bytes = 4096 * kMiB}).ok()) {
      return 1;
    }
    auto region = Region::Create({.arena = arena});
    if (!region.ok()) return 2;
    if (region->reserved_bytes() >= 512 * kMiB) return 3;
    return region->Allocate(kMiB) != nullptr ? 0 : 4;
  });
  EXPECT_TRUE(testing::Exited(status, 0)) << "wait status " << status;
}

TEST(RegionLimitsTest, LockedMemory) {
  const int status = testing::RunInChild([] {
    if (!testing::DropLockPrivilege()) return 3;
    const auto arena = BaseArena({.lock = true});
    const ScopedRlimit limit(RLIMIT_MEMLOCK, 0);
    Region region = *Region::Create({.arena = arena, .reserve_bytes = kMiB});
    if (region.Allocate(kMiB / 2) != nullptr) return 1;
    return region.last_error().ok() ? 2 : 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0)) << "wait status " << status;
}

TEST(RegionLimitsTest, WhatAForkedChildAllocatesBeyondItsPagesIsRefused) {
  Region region =
      *Region::Create({.arena = BaseArena(), .reserve_bytes = 64 * kMiB});
  const Kept kept(region);
  const int status = testing::RunInChild([&] {
    if (!kept.Intact()) return 1;
    if (region.Allocate(32 * kMiB) != nullptr) return 2;
    return region.last_error().ok() ? 3 : 0;
  });
  EXPECT_TRUE(testing::Exited(status, 0)) << "wait status " << status;
  EXPECT_NE(region.Allocate(32 * kMiB), nullptr);
}

}  // namespace
}  // namespace doppel
