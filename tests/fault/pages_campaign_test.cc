// SPDX-License-Identifier: Apache-2.0
//
// Every system call of every public operation of Arena, Mapping and GrowingMapping
// fails in turn, with each errno of its manual page, once and for ever: an error
// comes back or the operation does without the call, nothing leaks, and contents
// stay.

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Call;
using ::doppel::testing::CallCounter;
using ::doppel::testing::FailEachCall;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::IsOk;
using ::doppel::testing::StatusIs;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

// What the library asks the machine once only would be missed by the second run:
// first_use_campaign_test.cc fails those calls.
class PagesCampaignTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    TransparentPageBytes();
    BasePageBytes();
    GrowingMapping::DefaultReserveBytes();
  }
};

// An arena with an extent that is shown at 0 and holds a pattern, and one that is
// not shown yet. Destroyed from the last member to the first.
struct World {
  std::shared_ptr<Arena> arena;
  Extent shown;
  Extent spare;
  Extent taken;  // By an operation that allocates.
  Mapping mapping;
  Mapping other;

  uint64_t unit_bytes() const { return shown.size_bytes(); }

  void Fill() const {
    for (uint64_t at = 0; at < unit_bytes(); at += kPage) {
      *reinterpret_cast<volatile uint64_t*>(mapping.data() + at) = at + 1;
    }
  }

  bool Holds() const {
    for (uint64_t at = 0; at < unit_bytes(); at += kPage) {
      if (*reinterpret_cast<volatile uint64_t*>(mapping.data() + at) !=
          at + 1) {
        return false;
      }
    }
    return true;
  }
};

World Make(const Arena::Options& options, uint64_t unit_bytes = 4 * kPage) {
  World world;
  world.arena = *Arena::Create(options);
  world.shown = *world.arena->Allocate(unit_bytes);
  world.spare = *world.arena->Allocate(unit_bytes);
  const uint64_t alignment = world.arena->huge_unit_bytes();
  world.mapping = *Mapping::Reserve(4 * unit_bytes, alignment);
  world.other = *Mapping::Reserve(unit_bytes, alignment);
  EXPECT_THAT(world.mapping.Show(world.shown, 0), IsOk());
  world.Fill();
  return world;
}

World MakeBase() { return Make({.page_size = PageSize::Base()}); }

// Runs the campaign on an operation of the world. What is shown at 0 must hold its
// pattern after an error; `on_success` looks at the world otherwise.
int Campaign(
    const std::function<World()>& make,
    const std::function<absl::Status(World&)>& operation,
    const std::function<void(World&)>& on_success = [](World&) {}) {
  const int faults = FailEachCall(
      make, operation, [](const absl::Status& status) { return !status.ok(); },
      [&](World& world, const absl::Status& status) {
        if (status.ok()) {
          on_success(world);
          return;
        }
        EXPECT_FALSE(status.message().empty());
        EXPECT_TRUE(world.Holds());
        // The world still works: the same operation without a fault succeeds.
        EXPECT_THAT(operation(world), IsOk());
      });
  EXPECT_GT(faults, 0) << "the operation makes no system call";
  return faults;
}

bool HaveHugetlb(uint64_t pages) {
  return testing::FreeHugetlbPages(2 * kMiB) >= pages;
}

// --- Arena ---

TEST_F(PagesCampaignTest, ArenaCreate) {
  for (const PageSize size :
       {PageSize::Base(), PageSize::Transparent(), PageSize::BestAvailable(),
        PageSize::Huge2MiB()}) {
    if (size.is_hugetlb() && !HaveHugetlb(1)) continue;
    FailEachCall(
        [] { return 0; },
        [&](int) {
          return Arena::Create({.page_size = size, .expected_bytes = 2 * kMiB});
        },
        [](const auto& arena) { return !arena.ok(); },
        [](int, const auto& arena) {
          if (arena.ok()) {
            EXPECT_THAT((*arena)->Allocate(kPage), IsOk());
          }
        });
  }
}

TEST_F(PagesCampaignTest, ArenaAllocate) {
  for (const PageSize size : {PageSize::Base(), PageSize::Huge2MiB()}) {
    if (size.is_hugetlb() && !HaveHugetlb(6)) continue;
    const uint64_t unit_bytes = size.is_hugetlb() ? 2 * kMiB : 4 * kPage;
    Campaign([&] { return Make({.page_size = size}, unit_bytes); },
             [&](World& world) {
               auto extent = world.arena->Allocate(unit_bytes);
               if (extent.ok()) world.taken = *std::move(extent);
               return extent.status();
             });
  }
}

TEST_F(PagesCampaignTest, ArenaAllocatePunchesWhatItRetains) {
  Campaign(
      [] {
        World world = Make({.page_size = PageSize::Base(),
                            .max_bytes = 12 * kPage,
                            .retain_bytes = 2 * kPage});
        Extent all = *world.arena->Allocate(4 * kPage);
        return world;
      },
      [&](World& world) {
        auto extent = world.arena->Allocate(4 * kPage);
        if (extent.ok()) world.taken = *std::move(extent);
        return extent.status();
      });
}

TEST_F(PagesCampaignTest, ExtentReset) {
  Campaign(
      MakeBase,
      [](World& world) {
        world.spare.Reset();
        return absl::OkStatus();
      },
      [](World& world) {
        // What could not be punched is retained, and goes with the next.
        const auto before = world.arena->Query();
        ASSERT_THAT(before, IsOk());
        EXPECT_EQ(before->extents, 1);
        EXPECT_EQ(before->free_bytes, 4 * kPage);
        EXPECT_THAT(world.arena->Trim(), IsOk());
        EXPECT_EQ(world.arena->Query()->retained_bytes, 0);
      });
}

TEST_F(PagesCampaignTest, ArenaTrim) {
  Campaign(
      [] {
        World world =
            Make({.page_size = PageSize::Base(), .retain_bytes = kMiB});
        world.spare.Reset();
        return world;
      },
      [](World& world) { return world.arena->Trim(); });
}

TEST_F(PagesCampaignTest, ArenaQuery) {
  Campaign(MakeBase,
           [](World& world) { return world.arena->Query().status(); });
}

// --- Mapping ---

TEST_F(PagesCampaignTest, MappingReserve) {
  for (const uint64_t alignment : {uint64_t{0}, 2 * kMiB}) {
    FailEachCall([] { return Mapping(); },
                 [&](Mapping& made) {
                   auto mapping = Mapping::Reserve(kMiB, alignment);
                   if (mapping.ok()) made = *std::move(mapping);
                   return mapping.status();
                 },
                 [](const absl::Status& status) { return !status.ok(); },
                 [](Mapping& made, const absl::Status& status) {
                   EXPECT_FALSE(status.ok());
                   EXPECT_FALSE(made);
                 });
  }
}

TEST_F(PagesCampaignTest, MappingShow) {
  const auto show = [](World& world) {
    return world.mapping.Show(world.spare, world.unit_bytes());
  };
  Campaign(MakeBase, show);
  Campaign([] { return Make({}, 2 * kMiB); }, show);
  Campaign(
      [] {
        return Make({.page_size = PageSize::Base(),
                     .populate = true,
                     .fork_policy = Arena::ForkPolicy::kDontFork});
      },
      show);
  Campaign([] { return Make({.populate = true}, 2 * kMiB); }, show);
  if (HaveHugetlb(4)) {
    Campaign([] { return Make({.page_size = PageSize::Huge2MiB()}, 2 * kMiB); },
             show);
  }
}

TEST_F(PagesCampaignTest, MappingShowLocked) {
  const Arena::Options options = {.page_size = PageSize::Base(), .lock = true};
  {
    World world = MakeBase();
    const absl::Status locked = world.mapping.Lock(0, 4 * kPage);
    if (!locked.ok()) GTEST_SKIP() << locked;
  }
  Campaign([&] { return Make(options); },
           [](World& world) {
             return world.mapping.Show(world.spare, world.unit_bytes());
           });
}

TEST_F(PagesCampaignTest, MappingShowPrivate) {
  Campaign(MakeBase, [](World& world) {
    return world.mapping.Show(world.spare, world.unit_bytes(),
                              {.sharing = Sharing::kPrivate, .populate = true});
  });
}

// A hugetlb view that may need pages of its own is tried elsewhere first. munmap(2)
// of that trial is left out: if it fails, nothing can undo the trial.
TEST_F(PagesCampaignTest, MappingShowProbesTheHugetlbPool) {
  if (!HaveHugetlb(6)) GTEST_SKIP() << testing::kNoHugetlbPool;
  World world = Make({.page_size = PageSize::Huge2MiB()}, 2 * kMiB);
  const auto show = [&] {
    return world.mapping.Show(world.spare, 2 * kMiB,
                              {.sharing = Sharing::kPrivate});
  };
  std::vector<testing::Fault> faults;
  {
    CallCounter counter;
    ASSERT_THAT(show(), IsOk());
    EXPECT_EQ(counter.count(Call::kMmap), 2);
    faults = FaultsFor(counter);
  }
  ASSERT_THAT(world.mapping.Hide(2 * kMiB, 2 * kMiB), IsOk());
  for (const testing::Fault& fault : faults) {
    if (fault.call == Call::kMunmap && !fault.interrupts()) continue;
    SCOPED_TRACE(fault.ToString());
    const testing::LeakCheck before;
    {
      const FaultPlan plan(fault);
      const absl::Status status = show();
      EXPECT_TRUE(plan.fired());
      if (fault.interrupts()) {
        EXPECT_TRUE(plan.repeated());
        EXPECT_THAT(status, IsOk());
      }
      if (status.ok()) {
        ASSERT_THAT(world.mapping.Hide(2 * kMiB, 2 * kMiB), IsOk());
      }
    }
    EXPECT_TRUE(before.Unchanged());
    EXPECT_TRUE(world.Holds());
  }
}

TEST_F(PagesCampaignTest, MappingShowMemfd) {
  Campaign(MakeBase, [](World& world) {
    return world.mapping.Show(world.arena->memfd(), 0, 4 * kPage, 4 * kPage);
  });
}

TEST_F(PagesCampaignTest, MappingHide) {
  Campaign(
      MakeBase, [](World& world) { return world.mapping.Hide(kPage, kPage); },
      [](World& world) {
        EXPECT_TRUE(testing::Faults(world.mapping.data() + kPage));
        EXPECT_FALSE(testing::Faults(world.mapping.data()));
      });
}

TEST_F(PagesCampaignTest, MappingProtect) {
  Campaign(MakeBase, [](World& world) {
    return world.mapping.Protect(0, 4 * kPage, Protection::kRead);
  });
}

TEST_F(PagesCampaignTest, MappingAdvise) {
  for (const Advice advice :
       {Advice::kWillNeed, Advice::kPopulateWrite, Advice::kDontDump}) {
    Campaign(MakeBase, [advice](World& world) {
      return world.mapping.Advise(0, 4 * kPage, advice);
    });
  }
}

TEST_F(PagesCampaignTest, MappingLockAndUnlock) {
  {
    World world = MakeBase();
    const absl::Status locked = world.mapping.Lock(0, 4 * kPage);
    if (!locked.ok()) GTEST_SKIP() << locked;
  }
  Campaign(MakeBase,
           [](World& world) { return world.mapping.Lock(0, 4 * kPage); });
  Campaign(MakeBase,
           [](World& world) { return world.mapping.Unlock(0, 4 * kPage); });
}

TEST_F(PagesCampaignTest, MappingSync) {
  for (const SyncMode mode :
       {SyncMode::kAsync, SyncMode::kSync, SyncMode::kInvalidate}) {
    Campaign(MakeBase, [mode](World& world) {
      return world.mapping.Sync(0, 4 * kPage, mode);
    });
  }
}

TEST_F(PagesCampaignTest, MappingPopulate) {
  for (const Protection access : {Protection::kRead, Protection::kReadWrite}) {
    Campaign(MakeBase, [access](World& world) {
      return world.mapping.Populate(0, 4 * kPage, access);
    });
  }
  Campaign(
      [] { return Make({}, 4 * kMiB); },
      [](World& world) { return world.mapping.PopulateHuge(0, 4 * kMiB); });
}

// madvise(2) says EFAULT where a touch would have been SIGBUS: no page is to be had.
TEST_F(PagesCampaignTest, PopulatingInsteadOfSigbusIsResourceExhausted) {
  World world = MakeBase();
  auto memory = *GrowingMapping::Create({.arena = world.arena});
  const FaultPlan plan(
      {.call = Call::kMadvise, .nth = 1, .error = EFAULT, .sticky = true});
  EXPECT_THAT(world.mapping.Populate(0, 4 * kPage), StatusIs(kExhausted));
  EXPECT_THAT(world.mapping.Populate(0, 4 * kPage, Protection::kRead),
              StatusIs(kExhausted));
  EXPECT_THAT(world.mapping.Show(world.spare, 4 * kPage, {.populate = true}),
              StatusIs(kExhausted));
  EXPECT_THAT(memory.Grow(1), StatusIs(kExhausted));
  EXPECT_EQ(memory.committed_bytes(), 0);
  EXPECT_TRUE(world.Holds());
}

TEST_F(PagesCampaignTest, MappingMove) {
  const auto arrived = [](World& world) {
    EXPECT_EQ(*reinterpret_cast<volatile uint64_t*>(world.other.data()), 1);
    EXPECT_TRUE(testing::Faults(world.mapping.data()));
  };
  const auto move = [](World& world) {
    return world.mapping.Move(0, world.unit_bytes(), world.other, 0);
  };
  Campaign(MakeBase, move, arrived);
  // The pages of a private view are nowhere else.
  Campaign(
      [] {
        World world = MakeBase();
        EXPECT_THAT(
            world.mapping.Show(world.spare, 0, {.sharing = Sharing::kPrivate}),
            IsOk());
        world.Fill();
        return world;
      },
      move, arrived);
}

TEST_F(PagesCampaignTest, MappingAlias) {
  Campaign(MakeBase, [](World& world) {
    return world.mapping.Alias(0, 4 * kPage, 8 * kPage);
  });
}

TEST_F(PagesCampaignTest, MappingQuery) {
  Campaign(MakeBase, [](World& world) {
    return world.mapping.Query(0, 4 * kPage).status();
  });
}

TEST_F(PagesCampaignTest, MappingUnmap) {
  Campaign(MakeBase, [](World& world) { return world.mapping.Unmap(); });
}

TEST_F(PagesCampaignTest, LockProcessAndUnlockProcess) {
  const auto failed = [](const absl::Status& status) { return !status.ok(); };
  const auto is_error = [](int, const absl::Status& status) {
    EXPECT_FALSE(status.ok());
  };
  FailEachCall([] { return 0; }, [](int) { return UnlockProcess(); }, failed,
               is_error);
  // The clean run must not lock this process: only the failing ones.
  for (const int error : testing::ErrnosOf(Call::kMlockall)) {
    const FaultPlan plan({.call = Call::kMlockall, .nth = 1, .error = error});
    EXPECT_FALSE(LockProcess(true, true).ok());
    EXPECT_TRUE(plan.fired());
  }
}

// --- GrowingMapping ---

struct Growing {
  GrowingMapping memory;
  uint64_t filled_bytes = 0;

  void Fill() {
    for (; filled_bytes < memory.committed_bytes(); filled_bytes += kPage) {
      std::memcpy(memory.data() + filled_bytes, &filled_bytes, 8);
    }
  }
  bool Holds(uint64_t bytes) const {
    for (uint64_t at = 0; at < bytes; at += kPage) {
      if (std::memcmp(memory.data() + at, &at, 8) != 0) return false;
    }
    return true;
  }
};

Growing MakeGrowing(PageSize size, uint64_t committed_bytes) {
  Growing growing{
      *GrowingMapping::Create({.arena = *Arena::Create({.page_size = size}),
                               .reserve_bytes = 64 * kMiB})};
  EXPECT_THAT(growing.memory.Grow(committed_bytes), IsOk());
  growing.Fill();
  return growing;
}

TEST_F(PagesCampaignTest, GrowingMappingCreate) {
  const auto arena = *Arena::Create();
  using Made = std::optional<GrowingMapping>;
  for (const uint64_t reserve_bytes : {uint64_t{0}, kMiB}) {
    FailEachCall([] { return Made(); },
                 [&](Made& made) {
                   auto memory = GrowingMapping::Create(
                       {.arena = arena, .reserve_bytes = reserve_bytes});
                   if (memory.ok()) made = *std::move(memory);
                   return memory.status();
                 },
                 [](const absl::Status& status) { return !status.ok(); },
                 [](Made& made, const absl::Status& status) {
                   ASSERT_EQ(made.has_value(), status.ok());
                   // It did with a smaller reservation than was tried at first.
                   if (made) {
                     EXPECT_THAT(made->Grow(kPage), IsOk());
                   }
                 });
  }
}

TEST_F(PagesCampaignTest, GrowingMappingGrow) {
  struct Step {
    PageSize size;
    uint64_t from_bytes;
    uint64_t to_bytes;
  };
  for (const Step& step :
       {Step{PageSize::Base(), 0, 1}, Step{PageSize::Base(), kMiB, 3 * kMiB},
        Step{PageSize::Transparent(), 0, 1},
        Step{PageSize::Transparent(), kMiB, 2 * kMiB},
        Step{PageSize::Transparent(), 3 * kMiB, 8 * kMiB},
        Step{PageSize::Huge2MiB(), 2 * kMiB, 6 * kMiB}}) {
    if (step.size.is_hugetlb() && !HaveHugetlb(8)) continue;
    SCOPED_TRACE(step.size.ToString());
    FailEachCall(
        [&] { return MakeGrowing(step.size, step.from_bytes); },
        [&](Growing& growing) { return growing.memory.Grow(step.to_bytes); },
        [](const absl::Status& status) { return !status.ok(); },
        [&](Growing& growing, const absl::Status& status) {
          EXPECT_TRUE(growing.Holds(growing.filled_bytes));
          if (status.ok()) {
            EXPECT_GE(growing.memory.committed_bytes(), step.to_bytes);
          } else {
            EXPECT_EQ(growing.memory.committed_bytes(), growing.filled_bytes);
            EXPECT_THAT(growing.memory.Grow(step.to_bytes), IsOk());
          }
          growing.Fill();
          EXPECT_TRUE(growing.Holds(growing.memory.committed_bytes()));
        });
  }
}

// A step of several extents that fails after the first.
TEST_F(PagesCampaignTest, GrowingMappingGrowFailsHalfway) {
  for (const bool sticky : {false, true}) {
    Growing growing = MakeGrowing(PageSize::Transparent(), 3 * kMiB);
    {
      const FaultPlan plan(
          {.call = Call::kMmap, .nth = 2, .error = ENOMEM, .sticky = sticky});
      const absl::Status status = growing.memory.Grow(9 * kMiB);
      EXPECT_TRUE(plan.fired());
      // Once: the second try, without headroom, succeeds.
      EXPECT_EQ(status.ok(), !sticky);
    }
    EXPECT_TRUE(growing.Holds(growing.filled_bytes));
    if (sticky) {
      EXPECT_EQ(growing.memory.committed_bytes(), growing.filled_bytes);
      EXPECT_TRUE(testing::Faults(growing.memory.data() + 4 * kMiB));
      EXPECT_THAT(growing.memory.Grow(9 * kMiB), IsOk());
    }
    growing.Fill();
    EXPECT_TRUE(growing.Holds(growing.memory.committed_bytes()));
  }
}

TEST_F(PagesCampaignTest, GrowingMappingShrink) {
  FailEachCall([] { return MakeGrowing(PageSize::Transparent(), 5 * kMiB); },
               [](Growing& growing) { return growing.memory.ShrinkTo(kMiB); },
               [](const absl::Status& status) { return !status.ok(); },
               [](Growing& growing, const absl::Status& status) {
                 EXPECT_TRUE(growing.Holds(growing.memory.committed_bytes()));
                 EXPECT_EQ(growing.memory.committed_bytes(),
                           status.ok() ? kMiB : growing.filled_bytes);
                 EXPECT_THAT(growing.memory.ShrinkTo(0), IsOk());
                 EXPECT_EQ(growing.memory.arena()->Query()->extents, 0);
               });
}

}  // namespace
}  // namespace doppel
