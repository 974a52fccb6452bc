// SPDX-License-Identifier: Apache-2.0
//
// Arena and Mapping where operator new has no memory any more: what ends goes on
// ending, what fails fails whole, and afterwards everything works again.

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

constexpr int64_t kUnlimited = INT64_MAX;

// How often operator new still succeeds in this thread.
constinit thread_local int64_t allocations_left = kUnlimited;

}  // namespace

// Not inlined: gcc would take malloc and delete, or new and free, for a mismatch.
[[gnu::noinline]] void* operator new(size_t bytes) {
  if (allocations_left <= 0) throw std::bad_alloc();
  if (allocations_left != kUnlimited) --allocations_left;
  void* const memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace doppel {
namespace {

using ::doppel::testing::Call;
using ::doppel::testing::Fault;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::Faults;
using ::doppel::testing::IsOk;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;

// Abseil makes its table of texts for errno at the first use, and leaks what it has
// of it where that fails.
const absl::Status kFirstText = absl::ErrnoToStatus(ENOMEM, "");

// The heap of this thread has memory for so many allocations more, for its life.
class ExhaustedHeap {
 public:
  explicit ExhaustedHeap(int64_t allocations = 0) {
    allocations_left = allocations;
  }
  ~ExhaustedHeap() { allocations_left = kUnlimited; }
  ExhaustedHeap(const ExhaustedHeap&) = delete;
  ExhaustedHeap& operator=(const ExhaustedHeap&) = delete;
};

// Whether it succeeds with a heap that has memory for `allocations`; an exception is
// as good as an error.
template <class Operation>
bool SucceedsWith(int64_t allocations, Operation operation) {
  const ExhaustedHeap heap(allocations);
  try {
    return operation().ok();
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// Gives each page of the extent contents, and so memory.
void Touch(const Extent& extent) {
  Mapping mapping = *Mapping::Reserve(extent.size_bytes());
  ASSERT_THAT(mapping.Show(extent, 0, {.populate = true}), IsOk());
}

// That every byte of the file is in an extent or in a free run.
void ExpectAccountsForAll(const Arena& arena, uint64_t handed_out_bytes) {
  const auto stats = arena.Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->handed_out_bytes, handed_out_bytes);
  EXPECT_EQ(stats->handed_out_bytes + stats->free_bytes, stats->file_bytes);
}

TEST(ExhaustedHeapTest, ExtentsGoBackWithoutMemory) {
  for (const uint64_t retain_bytes : {uint64_t{0}, 9 * kPage, kMiB}) {
    SCOPED_TRACE(retain_bytes);
    const auto arena = *Arena::Create(
        {.page_size = PageSize::Base(), .retain_bytes = retain_bytes});
    std::vector<Extent> extents;
    for (uint64_t i = 0; i < 120; ++i) {
      extents.push_back(*arena->Allocate((i % 7 + 1) * kPage));
      Touch(extents.back());
    }
    {
      const ExhaustedHeap heap;
      // No two neighbours first: as many free runs as there can be.
      for (size_t i = 0; i < extents.size(); i += 2) extents[i].Reset();
    }
    EXPECT_LE(arena->Query()->retained_bytes, retain_bytes);
    EXPECT_LE(arena->Query()->allocated_bytes,
              arena->Query()->handed_out_bytes + retain_bytes);
    {
      const ExhaustedHeap heap;
      extents[1] = std::move(extents[3]);
      for (Extent& extent : extents) extent.Reset();
    }
    ExpectAccountsForAll(*arena, 0);
    EXPECT_LE(arena->Query()->allocated_bytes, retain_bytes);
    // Joined, all of it is one run.
    const uint64_t file_bytes = arena->Query()->file_bytes;
    EXPECT_THAT(arena->Trim(), IsOk());
    EXPECT_THAT(arena->Allocate(file_bytes), IsOk());
    EXPECT_EQ(arena->Query()->file_bytes, file_bytes);
  }
}

TEST(ExhaustedHeapTest, APageThatCannotBePunchedStaysRetained) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  Extent extent = *arena->Allocate(4 * kPage);
  Touch(extent);
  {
    // Its error's message finds no memory.
    const FaultPlan plan(
        {.call = Call::kFallocate, .nth = 1, .error = ENOSPC, .sticky = true});
    const ExhaustedHeap heap;
    extent.Reset();
  }
  EXPECT_EQ(arena->Query()->retained_bytes, 4 * kPage);
  ExpectAccountsForAll(*arena, 0);
  EXPECT_THAT(arena->Trim(), IsOk());
  EXPECT_EQ(arena->Query()->allocated_bytes, 0);
}

TEST(ExhaustedHeapTest, AllocateFailsWhole) {
  bool succeeded = false;
  for (int64_t allocations = 0; !succeeded; ++allocations) {
    SCOPED_TRACE(allocations);
    const auto arena = *Arena::Create(
        {.page_size = PageSize::Base(), .retain_bytes = 5 * kPage});
    std::vector<Extent> extents(40);
    for (Extent& extent : extents) extent = *arena->Allocate(3 * kPage);
    for (size_t i = 0; i < extents.size(); i += 3) extents[i].Reset();
    // Cut from the middle of a run, and beyond the end of the file.
    for (const uint64_t bytes : {kPage, 64 * kPage}) {
      const uint64_t before_bytes = arena->Query()->handed_out_bytes;
      Extent taken;
      succeeded = SucceedsWith(allocations, [&] {
        auto extent = arena->Allocate(bytes, 2 * kPage);
        if (extent.ok()) taken = *std::move(extent);
        return extent.status();
      });
      ExpectAccountsForAll(*arena, before_bytes + taken.size_bytes());
      EXPECT_EQ(succeeded, bool{taken});
    }
    {
      const ExhaustedHeap heap;
      extents.clear();
    }
    ExpectAccountsForAll(*arena, 0);
    ASSERT_LT(allocations, 100);
  }
}

TEST(ExhaustedHeapTest, AHugetlbPoolThatIsEmptyTakesNoRun) {
  if (testing::FreeHugetlbPages(2 * kMiB) < 2) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  const auto arena = *Arena::Create({.page_size = PageSize::Huge2MiB()});
  for (int64_t allocations = 0; allocations < 10; ++allocations) {
    const FaultPlan plan({.call = Call::kFallocate, .nth = 1, .error = ENOSPC});
    EXPECT_FALSE(SucceedsWith(
        allocations, [&] { return arena->Allocate(2 * kMiB).status(); }));
    ExpectAccountsForAll(*arena, 0);
  }
  EXPECT_THAT(arena->Allocate(2 * kMiB), IsOk());
}

TEST(ExhaustedHeapTest, AnExtentIsCutOrLeftAsItIs) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  std::vector<Extent> parts;
  parts.reserve(1000);
  parts.push_back(*arena->Allocate(1000 * kPage));
  int refusals = 0;
  while (parts.back().size_bytes() > kPage) {
    const uint64_t bytes = parts.back().size_bytes();
    Extent rest;
    if (!SucceedsWith(0, [&] {
          auto cut = parts.back().SplitAt(kPage);
          if (cut.ok()) rest = *std::move(cut);
          return cut.status();
        })) {
      ++refusals;
      ASSERT_EQ(parts.back().size_bytes(), bytes);
      rest = *parts.back().SplitAt(kPage);
    }
    parts.push_back(std::move(rest));
  }
  EXPECT_GT(refusals, 0);
  EXPECT_EQ(parts.size(), 1000);
  EXPECT_EQ(arena->Query()->extents, 1000);
  {
    const ExhaustedHeap heap;
    for (size_t i = 0; i < parts.size(); i += 2) parts[i].Reset();
    parts.clear();
  }
  ExpectAccountsForAll(*arena, 0);
}

// An extent with a pattern at 0 of one mapping, and one that is not shown.
struct World {
  std::shared_ptr<Arena> arena;
  Extent shown;
  Extent spare;
  Mapping mapping;
  Mapping other;

  uint64_t views() const { return arena->Query()->views; }
  bool Holds() const {
    for (uint64_t page = 0; page < 4; ++page) {
      if (*Word(page * kPage) != page + 1) return false;
    }
    return true;
  }
  volatile uint64_t* Word(uint64_t at) const {
    return reinterpret_cast<volatile uint64_t*>(mapping.data() + at);
  }
};

World MakeWorld(const Arena::Options& options) {
  World world;
  world.arena = *Arena::Create(options);
  world.shown = *world.arena->Allocate(4 * kPage);
  world.spare = *world.arena->Allocate(4 * kPage);
  world.mapping = *Mapping::Reserve(16 * kPage);
  world.other = *Mapping::Reserve(8 * kPage);
  EXPECT_THAT(world.mapping.Show(world.shown, 0), IsOk());
  for (uint64_t page = 0; page < 4; ++page) {
    *world.Word(page * kPage) = page + 1;
  }
  return world;
}

World MakeWorld() { return MakeWorld({.page_size = PageSize::Base()}); }

TEST(ExhaustedHeapTest, MappingsEndWithoutMemory) {
  World world = MakeWorld();
  ASSERT_THAT(world.mapping.Show(world.spare, 6 * kPage), IsOk());
  ASSERT_THAT(world.mapping.Hide(7 * kPage, kPage), IsOk());
  ASSERT_THAT(world.other.Show(world.spare, 0), IsOk());
  EXPECT_EQ(world.views(), 4);
  {
    const ExhaustedHeap heap;
    world.other = std::move(world.mapping);
  }
  EXPECT_EQ(world.views(), 3);
  {
    const ExhaustedHeap heap;
    const Mapping ends = std::move(world.other);
  }
  EXPECT_EQ(world.views(), 0);
}

TEST(ExhaustedHeapTest, AMappingThatCannotBeUnmappedEndsToo) {
  World world = MakeWorld();
  std::byte* const data = world.mapping.data();
  const uint64_t size_bytes = world.mapping.size_bytes();
  {
    const FaultPlan plan({.call = Call::kMunmap, .nth = 1, .error = ENOMEM});
    const ExhaustedHeap heap;
    const Mapping ends = std::move(world.mapping);
  }
  EXPECT_EQ(world.views(), 0);
  EXPECT_TRUE(Faults(data)) << "its pages may be others' now";
  munmap(data - kPage, size_bytes + 2 * kPage);
}

// Runs the operation with memory for no allocation, for one, for two, until it is
// enough: at first with the fault in place, if there is one.
void Sweep(
    const std::function<absl::Status(World&)>& operation,
    std::optional<Fault> fault = std::nullopt,
    const std::function<World()>& make = [] { return MakeWorld(); }) {
  SCOPED_TRACE(fault ? fault->ToString() : "no fault");
  bool succeeded = false;
  for (int64_t allocations = 0; !succeeded; ++allocations) {
    SCOPED_TRACE(allocations);
    World world = make();
    const uint64_t views = world.views();
    {
      std::optional<FaultPlan> plan;
      if (fault) plan.emplace(*fault);
      succeeded = SucceedsWith(allocations, [&] { return operation(world); });
    }
    if (!succeeded) {
      EXPECT_EQ(world.views(), views);
      EXPECT_TRUE(world.Holds());
      EXPECT_TRUE(Faults(world.mapping.data() + 8 * kPage)) << "half shown";
      EXPECT_TRUE(Faults(world.other.data())) << "half moved";
      EXPECT_THAT(operation(world), IsOk());
    }
    {
      const ExhaustedHeap heap;
      const Mapping ends = std::move(world.mapping);
    }
    ASSERT_LT(allocations, 100);
    // What fails anyway needs memory for its message only.
    if (fault && allocations == 20) break;
  }
}

TEST(ExhaustedHeapTest, ShowFailsWhole) {
  const auto show = [](World& world) {
    return world.mapping.Show(world.spare, 8 * kPage, {.populate = true});
  };
  Sweep(show);
  for (const Call call : {Call::kMmap, Call::kMadvise}) {
    Sweep(show, Fault{.call = call, .nth = 1, .error = ENOMEM});
  }
  Sweep(show, Fault{.call = Call::kMadvise, .nth = 2, .error = ENOMEM}, [] {
    return MakeWorld({.page_size = PageSize::Base(),
                      .fork_policy = Arena::ForkPolicy::kDontFork});
  });
  // It cuts a view in two and stands between its parts.
  Sweep([](World& world) {
    return world.mapping.Show(world.shown, kPage, kPage, kPage);
  });
}

TEST(ExhaustedHeapTest, HideFailsWhole) {
  Sweep([](World& world) { return world.mapping.Hide(kPage, 2 * kPage); });
}

TEST(ExhaustedHeapTest, HidingWholeViewsTakesNoMemory) {
  World world = MakeWorld();
  ASSERT_THAT(world.mapping.Show(world.spare, 4 * kPage), IsOk());
  EXPECT_TRUE(
      SucceedsWith(0, [&] { return world.mapping.Hide(kPage, 6 * kPage); }));
  EXPECT_TRUE(
      SucceedsWith(0, [&] { return world.mapping.Hide(0, 16 * kPage); }));
  EXPECT_EQ(world.views(), 0);
}

TEST(ExhaustedHeapTest, MoveAndAliasFailWhole) {
  const auto move = [](World& world) {
    return world.mapping.Move(kPage, kPage, world.other, 0);
  };
  const auto alias = [](World& world) {
    return world.mapping.Alias(kPage, kPage, 8 * kPage);
  };
  Sweep(move);
  Sweep(alias);
  const Fault fault = {.call = Call::kMremap, .nth = 1, .error = ENOMEM};
  Sweep(move, fault);
  Sweep(alias, fault);
}

}  // namespace
}  // namespace doppel
