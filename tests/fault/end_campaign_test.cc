// SPDX-License-Identifier: Apache-2.0
//
// The end of an object, by destruction and by move assignment, with each system call
// that it makes failing in turn. It can report nothing: what it cannot do stays
// undone and hurts nobody. Pages that cannot be punched serve the next object;
// addresses that cannot be unmapped are abandoned, but show no pages that are others'
// next.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/region.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/containers/vector.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachCallOfEnd;
using ::doppel::testing::IsOk;

constexpr uint64_t kBytes = 100'000;

bool AllAre(const void* bytes, char mark) {
  const char* const begin = static_cast<const char*>(bytes);
  return std::all_of(begin, begin + kBytes,
                     [mark](char byte) { return byte == mark; });
}

// Too long to be kept without memory of its own.
std::string Text(char mark) { return std::string(50, mark); }

// One struct for each kind of object: made with contents that a mark tells from
// others, and asked for them.

// A mapping and the pages that it shows; the view goes before the pages.
class ShownExtent {
 public:
  ShownExtent(const std::shared_ptr<Arena>& arena, char mark)
      : extent_(*arena->Allocate(kBytes)),
        mapping_(*Mapping::Reserve(extent_.size_bytes())) {
    EXPECT_THAT(mapping_.Show(extent_, 0), IsOk());
    std::memset(mapping_.data(), mark, kBytes);
  }
  ShownExtent(ShownExtent&&) = default;
  ShownExtent& operator=(ShownExtent&& other) noexcept {
    mapping_ = std::move(other.mapping_);
    extent_ = std::move(other.extent_);
    return *this;
  }
  bool Holds(char mark) { return AllAre(mapping_.data(), mark); }

 private:
  Extent extent_;
  Mapping mapping_;
};

class Grown {
 public:
  Grown(const std::shared_ptr<Arena>& arena, char mark)
      : memory_(*GrowingMapping::Create({.arena = arena})) {
    EXPECT_THAT(memory_.Grow(kBytes), IsOk());
    std::memset(memory_.data(), mark, kBytes);
  }
  bool Holds(char mark) { return AllAre(memory_.data(), mark); }

 private:
  GrowingMapping memory_;
};

class InRegion {
 public:
  InRegion(const std::shared_ptr<Arena>& arena, char mark)
      : region_(*Region::Create({.arena = arena})),
        bytes_(region_.Allocate(kBytes)),
        text_(region_.Own<std::string>(Text(mark))) {
    std::memset(bytes_, mark, kBytes);
  }
  bool Holds(char mark) { return AllAre(bytes_, mark) && *text_ == Text(mark); }

 private:
  Region region_;
  void* bytes_;
  std::string* text_;
};

class InVector {
 public:
  InVector(const std::shared_ptr<Arena>& arena, char mark)
      : texts_(kCount, Text(mark), {.arena = arena}) {}
  bool Holds(char mark) {
    return texts_.size() == kCount &&
           std::count(texts_.begin(), texts_.end(), Text(mark)) == kCount;
  }

 private:
  static constexpr int64_t kCount = 1000;
  Vector<std::string> texts_;
};

template <class T>
class InRing {
 public:
  InRing(const std::shared_ptr<Arena>& arena, char mark)
      : ring_(*SpscRing<T>::Create(1, {.arena = arena})) {
    EXPECT_TRUE(ring_.writer().try_push(Item(mark)));
  }
  bool Holds(char mark) {
    if (ring_.size() != 1) return false;
    return *ring_.reader().front() == Item(mark);
  }

 private:
  static T Item(char mark) {
    if constexpr (std::is_same_v<T, char>) {
      return mark;
    } else {
      return Text(mark);
    }
  }
  SpscRing<T> ring_;
};

std::shared_ptr<Arena> MakeArena() {
  auto arena = Arena::Create();
  EXPECT_THAT(arena, IsOk());
  return *std::move(arena);
}

template <class Kind>
class EndCampaignTest : public ::testing::Test {
 protected:
  // What the library asks the machine once only would be missed later.
  static void SetUpTestSuite() { Kind(MakeArena(), 'w').Holds('w'); }
};

using Kinds = ::testing::Types<ShownExtent, Grown, InRegion, InVector,
                               InRing<char>, InRing<std::string>>;
TYPED_TEST_SUITE(EndCampaignTest, Kinds);

// Two objects in one arena: what is left of the one is not handed out with what is
// the other's.
TYPED_TEST(EndCampaignTest, Destruction) {
  struct State {
    std::shared_ptr<Arena> arena = MakeArena();
    std::optional<TypeParam> ends{std::in_place, arena, 'e'};
    TypeParam stays{arena, 's'};
  };
  const int faults = FailEachCallOfEnd(
      [] { return std::make_unique<State>(); },
      [](std::unique_ptr<State>& state) { state->ends.reset(); },
      [](std::unique_ptr<State>& state) {
        TypeParam next(state->arena, 'n');
        EXPECT_TRUE(next.Holds('n'));
        EXPECT_TRUE(state->stays.Holds('s'));
      });
  EXPECT_GT(faults, 10);
}

// Each holds the last reference to its arena: the descriptor goes with the object.
TYPED_TEST(EndCampaignTest, MoveAssignment) {
  struct State {
    TypeParam to{MakeArena(), 't'};
    TypeParam from{MakeArena(), 'f'};
  };
  const int faults = FailEachCallOfEnd(
      [] { return std::make_unique<State>(); },
      [](std::unique_ptr<State>& state) { state->to = std::move(state->from); },
      [](std::unique_ptr<State>& state) {
        EXPECT_TRUE(state->to.Holds('f'));
        state->from = TypeParam(MakeArena(), 'a');
        EXPECT_TRUE(state->from.Holds('a'));
        EXPECT_TRUE(state->to.Holds('f'));
      });
  EXPECT_GT(faults, 10);
}

}  // namespace
}  // namespace doppel
