// SPDX-License-Identifier: Apache-2.0
//
// Objects that a region destroys: those that make others while they are made or
// destroyed, those that throw, and every order of marks.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/alloc/region.h"
#include "doppel/tests/support/child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Writes its id down when it is destroyed; what `during` does happens within the
// constructor.
struct Logged {
  Logged(
      std::vector<int>& log, int id,
      const std::function<void()>& during = [] {})
      : log(log), id(id) {
    during();
  }
  ~Logged() { log.push_back(id); }

  std::vector<int>& log;
  int id;
};

class RegionOwnTest : public ::testing::Test {
 protected:
  std::vector<int> log_;
  Region region_ = *Region::Create({.reserve_bytes = uint64_t{16} << 20});
};

TEST_F(RegionOwnTest, AnObjectMadeWithinAConstructorIsOlder) {
  region_.Own<Logged>(log_, 1, [&] { region_.Own<Logged>(log_, 2); });
  region_.Reset();
  EXPECT_THAT(log_, ElementsAre(1, 2));
}

TEST_F(RegionOwnTest, AMarkTakenWithinAConstructorIsOlderThanTheObject) {
  std::vector<Region::Mark> marks;
  region_.Own<Logged>(log_, 1, [&] {
    marks.push_back(region_.mark());
    region_.Own<Logged>(log_, 2);
  });
  region_.Own<Logged>(log_, 3);
  region_.Rewind(marks.front());
  EXPECT_THAT(log_, ElementsAre(3, 1, 2));
  region_.Reset();
  EXPECT_THAT(log_, ElementsAre(3, 1, 2)) << "once is enough";
}

TEST_F(RegionOwnTest, AThrowingConstructorTakesWhatItMadeWithIt) {
  region_.Own<Logged>(log_, 1);
  const uint64_t used_bytes = region_.used_bytes();
  const auto make_and_throw = [&] {
    region_.Own<Logged>(log_, 2);
    throw std::runtime_error("no");
  };
  EXPECT_THROW(region_.Own<Logged>(log_, 3, make_and_throw),
               std::runtime_error);
  EXPECT_THAT(log_, ElementsAre(2));
  EXPECT_EQ(region_.used_bytes(), used_bytes);
  region_.Reset();
  EXPECT_THAT(log_, ElementsAre(2, 1));
}

// Makes another object of the region when it is destroyed.
struct MakesAnother {
  MakesAnother(Region& region, std::vector<int>& log)
      : region(region), log(log) {}
  ~MakesAnother() { region.Own<Logged>(log, 9); }
  Region& region;
  std::vector<int>& log;
};

TEST_F(RegionOwnTest, WhatADestructorMakesIsDestroyedToo) {
  region_.Own<Logged>(log_, 1);
  region_.Own<MakesAnother>(region_, log_);
  region_.Reset();
  EXPECT_THAT(log_, ElementsAre(9, 1));
  EXPECT_EQ(region_.used_bytes(), 0);
}

TEST_F(RegionOwnTest, ARegionWithoutMemoryConstructsNothing) {
  struct Huge {
    explicit Huge(std::vector<int>& log) : log(log) { log.push_back(0); }
    ~Huge() { log.push_back(1); }
    std::vector<int>& log;
    std::byte bytes[32 << 20];
  };
  EXPECT_THROW(region_.Own<Huge>(log_), std::bad_alloc);
  region_.Reset();
  EXPECT_THAT(log_, IsEmpty());
}

TEST_F(RegionOwnTest, HonoursTheAlignmentOfTheObject) {
  struct alignas(512) Wide {
    explicit Wide(std::vector<int>& log) : log(log) {}
    ~Wide() {
      log.push_back(static_cast<int>(reinterpret_cast<uintptr_t>(this) % 512));
    }
    std::vector<int>& log;
  };
  for (int i = 0; i < 3; ++i) {
    ASSERT_NE(region_.Allocate(1, 1), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(region_.Own<Wide>(log_)) % 512, 0);
  }
  region_.Reset();
  EXPECT_THAT(log_, ElementsAre(0, 0, 0));
}

TEST_F(RegionOwnTest, FreesWhatItsObjectsHold) {
  // The leak checker of AddressSanitizer looks on.
  const auto shared = std::make_shared<int>(1);
  for (int i = 0; i < 100; ++i) {
    region_.Own<std::shared_ptr<int>>(shared);
    region_.Own<std::string>(1000, 'x');
    region_.Own<std::vector<std::string>>(3, std::string(100, 'y'));
  }
  EXPECT_EQ(shared.use_count(), 101);
  const Region moved = std::move(region_);
  EXPECT_EQ(shared.use_count(), 101);
  region_ = *Region::Create();
  EXPECT_EQ(shared.use_count(), 101);
}

TEST(RegionOwnDeathTest, AMarkThatWasGoneBehindIsRefused) {
  Region region = *Region::Create();
  ASSERT_NE(region.Allocate(100), nullptr);
  const Region::Mark stale = region.mark();
  region.Reset();
  EXPECT_DEATH(region.Rewind(stale), "");
}

TEST_F(RegionOwnTest, AForkedChildLeavesTheObjectsToTheParent) {
  std::optional<Region> region = std::move(region_);
  region->Own<Logged>(log_, 1);
  const int status = testing::RunInChild([&] {
    region.reset();
    return static_cast<int>(log_.size());
  });
  EXPECT_TRUE(testing::Exited(status, 0));
  EXPECT_THAT(log_, IsEmpty());
  region.reset();
  EXPECT_THAT(log_, ElementsAre(1));
}

}  // namespace
}  // namespace doppel
