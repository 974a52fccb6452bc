// SPDX-License-Identifier: Apache-2.0
//
// Every system call behind Region, Allocator, MemoryResource and Vector fails in turn,
// with each errno of its manual page: nullptr, a status, or the exception that the
// standard names; nothing leaks, contents stay, and the object goes on.

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doppel/alloc/allocator.h"
#include "doppel/alloc/memory_resource.h"
#include "doppel/alloc/region.h"
#include "doppel/containers/vector.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using Numbers = Vector<uint64_t>;
constexpr uint64_t kCount = 3000;  // More than a few pages.

// A region and a vector with contents, on an arena of their own.
struct Fixture {
  explicit Fixture(PageSize page_size)
      : arena(*Arena::Create({.page_size = page_size})),
        region(*Region::Create({.arena = arena})),
        spare(*Region::Create({.arena = arena, .initial_bytes = 100000})),
        numbers({.arena = arena, .reserve_bytes = 64 << 20}) {
    allocated = static_cast<uint64_t*>(region.Allocate(kCount * 8, 8));
    for (uint64_t i = 0; i < kCount; ++i) {
      allocated[i] = i;
      numbers.push_back(i);
    }
  }
  bool Intact() const {
    if (numbers.size() < kCount) return false;
    for (uint64_t i = 0; i < kCount; ++i) {
      if (allocated[i] != i || numbers[i] != i) return false;
    }
    return true;
  }

  std::shared_ptr<Arena> arena;
  Region region;
  Region spare;
  Numbers numbers;
  uint64_t* allocated;
  std::optional<Region> made_region;
  std::optional<Numbers> made_numbers;
};

struct Operation {
  const char* name;
  std::function<bool(Fixture&)> run;  // False: it failed as documented.
};

// True if `function` returned, false if it threw what a lack of memory throws.
template <class Function>
bool Allocates(Function function) {
  try {
    function();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

std::vector<Operation> Operations() {
  return {
      {"Region::Create",
       [](Fixture& f) {
         auto region =
             Region::Create({.arena = f.arena, .initial_bytes = 100000});
         if (region.ok()) f.made_region.emplace(*std::move(region));
         return region.ok();
       }},
      {"Region::Allocate",
       [](Fixture& f) {
         const bool ok = f.region.Allocate(5 << 20) != nullptr;
         EXPECT_EQ(ok, f.region.last_error().ok());
         return ok;
       }},
      {"Region::ResetAndRelease",
       [](Fixture& f) { return f.spare.ResetAndRelease(4096).ok(); }},
      {"Allocator",
       [](Fixture& f) {
         return Allocates([&] {
           Allocator<uint64_t> allocator(f.region);
           (void)allocator.allocate(1 << 20);
         });
       }},
      {"MemoryResource",
       [](Fixture& f) {
         return Allocates([&] {
           MemoryResource resource(f.region);
           (void)resource.allocate(8 << 20);
         });
       }},
      {"Vector::Create",
       [](Fixture& f) {
         auto numbers =
             Numbers::Create({.arena = f.arena, .reserve_bytes = 1 << 20});
         if (numbers.ok()) f.made_numbers.emplace(*std::move(numbers));
         return numbers.ok();
       }},
      {"Vector: first element",
       [](Fixture& f) {
         f.made_numbers.emplace(
             Numbers::Options{.arena = f.arena, .reserve_bytes = 1 << 20});
         return Allocates([&] { f.made_numbers->push_back(1); });
       }},
      {"Vector::reserve",
       [](Fixture& f) {
         return Allocates([&] { f.numbers.reserve(1 << 20); });
       }},
      {"Vector::resize",
       [](Fixture& f) {
         const bool ok = Allocates([&] { f.numbers.resize(1 << 19); });
         EXPECT_TRUE(ok || f.numbers.size() == kCount);
         return ok;
       }},
      {"Vector::insert",
       [](Fixture& f) {
         const bool ok =
             Allocates([&] { f.numbers.insert(f.numbers.end(), 1 << 19, 7); });
         EXPECT_TRUE(ok || f.numbers.size() == kCount);
         return ok;
       }},
      {"Vector: copy",
       [](Fixture& f) {
         return Allocates([&] { f.made_numbers.emplace(f.numbers); });
       }},
      {"Vector::shrink_to_fit",
       [](Fixture& f) {
         f.numbers.shrink_to_fit();
         return true;
       }},
  };
}

class UserCampaignTest : public ::testing::TestWithParam<PageSize> {};

INSTANTIATE_TEST_SUITE_P(Pages, UserCampaignTest,
                         ::testing::Values(PageSize::Base(),
                                           PageSize::Transparent(),
                                           PageSize::Huge2MiB()));

TEST_P(UserCampaignTest, EveryCallOfEveryOperationFails) {
  if (GetParam().is_hugetlb() &&
      testing::FreeHugetlbPages(GetParam().hugetlb_bytes()) < 48) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  int faults = 0;
  for (const Operation& operation : Operations()) {
    SCOPED_TRACE(operation.name);
    faults += testing::FailEachCall(
        [] { return std::make_unique<Fixture>(GetParam()); },
        [&](std::unique_ptr<Fixture>& fixture) {
          return operation.run(*fixture);
        },
        [](bool ok) { return !ok; },
        [](std::unique_ptr<Fixture>& fixture, bool) {
          EXPECT_TRUE(fixture->Intact());
          // It goes on where it stopped.
          EXPECT_NE(fixture->region.Allocate(100000), nullptr);
          EXPECT_NO_THROW(fixture->numbers.push_back(1));
        });
    if (HasFailure()) return;
  }
  EXPECT_GT(faults, 200);
}

TEST(UserLimitsTest, SizesBeyondReasonAreErrors) {
  Numbers numbers(Numbers::Options{.reserve_bytes = 1 << 20});
  EXPECT_THROW(numbers.resize(SIZE_MAX), std::length_error);
  EXPECT_THROW(numbers.insert(numbers.begin(), SIZE_MAX, 1), std::length_error);
  EXPECT_THROW(Numbers(SIZE_MAX / 4), std::length_error);
  EXPECT_FALSE(Region::Create({.reserve_bytes = UINT64_MAX}).ok());
  EXPECT_FALSE(Region::Create(
                   {.reserve_bytes = 4096, .initial_bytes = uint64_t{1} << 40})
                   .ok());
}

}  // namespace
}  // namespace doppel
