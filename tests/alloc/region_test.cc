// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/region.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::LeakCheck;
using ::doppel::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Region Make(uint64_t reserve_bytes = uint64_t{64} << 20) {
  return *Region::Create(
      {.arena = *Arena::Create({.page_size = PageSize::Base()}),
       .reserve_bytes = reserve_bytes});
}

uintptr_t Address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

TEST(RegionTest, AllocationsAreAlignedDisjointAndKeepTheirContents) {
  Region region = Make();
  std::mt19937 random(1);
  struct Piece {
    unsigned char* at;
    size_t bytes;
    unsigned char value;
  };
  std::vector<Piece> pieces;
  for (int i = 0; i < 20000; ++i) {
    const size_t bytes = random() % 300;
    const size_t alignment = size_t{1} << (random() % 8);
    auto* at = static_cast<unsigned char*>(region.Allocate(bytes, alignment));
    ASSERT_NE(at, nullptr) << region.last_error();
    ASSERT_EQ(Address(at) % alignment, 0);
    if (!pieces.empty()) {
      ASSERT_GE(at, pieces.back().at + pieces.back().bytes);
    }
    const auto value = static_cast<unsigned char>(random());
    std::memset(at, value, bytes);
    pieces.push_back({at, bytes, value});
  }
  for (const Piece& piece : pieces) {
    ASSERT_TRUE(std::all_of(piece.at, piece.at + piece.bytes,
                            [&](unsigned char c) { return c == piece.value; }));
    ASSERT_TRUE(piece.bytes == 0 || region.Contains(piece.at));
  }
}

TEST(RegionTest, HonoursAlignmentsAboveAPage) {
  Region region = Make();
  for (size_t alignment = 1; alignment <= (size_t{1} << 21); alignment *= 2) {
    ASSERT_NE(region.Allocate(1, 1), nullptr);
    void* at = region.Allocate(24, alignment);
    ASSERT_NE(at, nullptr);
    EXPECT_EQ(Address(at) % alignment, 0);
  }
}

TEST(RegionTest, SizesThatCannotBeFailAndChangeNothing) {
  Region region = Make();
  ASSERT_NE(region.Allocate(3, 1), nullptr);
  const uint64_t used = region.used_bytes();
  for (const size_t bytes :
       {SIZE_MAX, SIZE_MAX - 3, SIZE_MAX - 4096, SIZE_MAX / 2,
        size_t{PTRDIFF_MAX}, size_t{65} << 20}) {
    for (const size_t alignment : {size_t{1}, size_t{8}, size_t{4096}}) {
      EXPECT_EQ(region.Allocate(bytes, alignment), nullptr) << bytes;
      EXPECT_EQ(region.used_bytes(), used);
    }
  }
  EXPECT_EQ(region.Allocate(1, size_t{1} << 63), nullptr);
  EXPECT_THAT(region.last_error(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("reserve_bytes")));
  EXPECT_EQ(region.Allocate(1, 0), nullptr);
  EXPECT_EQ(region.Allocate(1, 3 << 13), nullptr);
  EXPECT_THAT(region.last_error(), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("power of two")));
  EXPECT_NE(region.Allocate(100), nullptr);
}

TEST(RegionTest, FillsItsReservationToTheLastByte) {
  Region region = Make(1 << 20);
  ASSERT_NE(region.Allocate((1 << 20) - 1, 1), nullptr);
  EXPECT_NE(region.Allocate(1, 1), nullptr);
  EXPECT_EQ(region.Allocate(1, 1), nullptr);
  EXPECT_NE(region.Allocate(0, 1), nullptr);
}

TEST(RegionTest, RewindGoesBackAndResetKeepsPages) {
  Region region = Make();
  void* first = region.Allocate(100);
  const Region::Mark mark = region.mark();
  void* second = region.Allocate(1000);
  region.Rewind(mark);
  EXPECT_EQ(region.Allocate(1000), second);
  ASSERT_NE(region.Allocate(5 << 20), nullptr);
  const uint64_t committed = region.committed_bytes();
  region.Reset();
  EXPECT_EQ(region.used_bytes(), 0);
  EXPECT_EQ(region.committed_bytes(), committed);
  EXPECT_EQ(region.Allocate(100), first);
}

TEST(RegionTest, ResetAndReleaseGivesPagesBack) {
  Region region = Make();
  ASSERT_NE(region.Allocate(8 << 20), nullptr);
  ASSERT_THAT(region.ResetAndRelease(100 << 10), IsOk());
  EXPECT_EQ(region.committed_bytes(), 100 << 10);
  EXPECT_LE(region.arena()->Query()->allocated_bytes, 100 << 10);
  ASSERT_THAT(region.ResetAndRelease(), IsOk());
  EXPECT_EQ(region.committed_bytes(), 0);
  EXPECT_NE(region.Allocate(8 << 20), nullptr);
}

TEST(RegionTest, DeallocateStaysBehindMarks) {
  Region region = Make();
  void* const a = region.Allocate(64);
  const Region::Mark mark = region.mark();
  region.Deallocate(a, 64, 16);
  EXPECT_EQ(region.used_bytes(), 64) << "the mark would point past the end";
  void* const b = region.Allocate(64);
  region.Deallocate(b, 64, 16);
  EXPECT_EQ(region.used_bytes(), 64);
  (void)region.Allocate(1);
  region.Rewind(mark);
  EXPECT_EQ(region.used_bytes(), 64);
  region.Deallocate(a, 64, 16);
  EXPECT_EQ(region.used_bytes(), 64) << "the mark may be used again";
  region.Reset();
  void* const c = region.Allocate(64);
  region.Deallocate(c, 64, 16);
  EXPECT_EQ(region.used_bytes(), 0);
}

TEST(RegionTest, DeallocateTakesTheNewestOnly) {
  Region region = Make();
  void* a = region.Allocate(64, 16);
  void* b = region.Allocate(64, 16);
  const uint64_t used = region.used_bytes();
  region.Deallocate(a, 64, 16);
  EXPECT_EQ(region.used_bytes(), used);
  region.Deallocate(b, 64, 16);
  EXPECT_EQ(region.used_bytes(), used - 64);
  EXPECT_EQ(region.Allocate(64, 16), b);
}

struct Recorder {
  Recorder(std::vector<int>& log, int id) : log(log), id(id) {
    if (id < 0) throw std::runtime_error("no such id");
  }
  ~Recorder() { log.push_back(id); }
  std::vector<int>& log;
  int id;
};

TEST(RegionTest, OwnedObjectsAreDestroyedOnceNewestFirst) {
  std::vector<int> log;
  {
    Region region = Make();
    region.Own<Recorder>(log, 1);
    const Region::Mark mark = region.mark();
    region.Own<Recorder>(log, 2);
    ASSERT_NE(region.Allocate(100), nullptr);
    region.Own<Recorder>(log, 3);
    region.Rewind(mark);
    EXPECT_THAT(log, ElementsAre(3, 2));
    region.Own<Recorder>(log, 4);
    region.Reset();
    EXPECT_THAT(log, ElementsAre(3, 2, 4, 1));
    region.Own<Recorder>(log, 5);
  }
  EXPECT_THAT(log, ElementsAre(3, 2, 4, 1, 5));
}

TEST(RegionTest, AThrowingConstructorLeavesNothing) {
  std::vector<int> log;
  Region region = Make();
  const uint64_t used = region.used_bytes();
  EXPECT_THROW(region.Own<Recorder>(log, -1), std::runtime_error);
  EXPECT_EQ(region.used_bytes(), used);
  region.Reset();
  EXPECT_TRUE(log.empty());
}

TEST(RegionTest, TypedConstruction) {
  Region region = Make();
  struct alignas(64) Wide {
    explicit Wide(int value) : value(value) {}
    int value;
  };
  Wide* wide = region.New<Wide>(7);
  EXPECT_EQ(wide->value, 7);
  EXPECT_EQ(Address(wide) % 64, 0);
  auto* text = region.Own<std::string>(100, 'x');
  EXPECT_EQ(text->size(), 100);
  const int* numbers = region.NewArray<int>(1000);
  EXPECT_TRUE(std::all_of(numbers, numbers + 1000,
                          [](int number) { return number == 0; }));
  EXPECT_THROW(region.NewArray<int>(SIZE_MAX / 2), std::bad_array_new_length);
  EXPECT_THROW(region.NewArray<char>(size_t{1} << 40), std::bad_alloc);
}

TEST(RegionTest, MovesWithItsObjects) {
  std::vector<int> log;
  const LeakCheck before;
  {
    Region a = Make();
    int* number = a.New<int>(5);
    a.Own<Recorder>(log, 1);
    Region b = std::move(a);
    EXPECT_EQ(*number, 5);
    EXPECT_EQ(a.Allocate(1), nullptr);
    EXPECT_THAT(a.last_error(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    Region c = Make();
    c.Own<Recorder>(log, 2);
    c = std::move(b);
    EXPECT_THAT(log, ElementsAre(2));
    EXPECT_EQ(*number, 5);
    EXPECT_NE(c.Allocate(1), nullptr);
  }
  EXPECT_THAT(log, ElementsAre(2, 1));
  EXPECT_TRUE(before.Unchanged());
}

TEST(RegionTest, StartsWithTheBytesAskedFor) {
  Region region = *Region::Create({.initial_bytes = 3 << 20});
  EXPECT_GE(region.committed_bytes(), 3 << 20);
}

#ifdef __SANITIZE_ADDRESS__
TEST(RegionDeathTest, AddressSanitizerSeesUseAfterRewind) {
  Region region = Make();
  const Region::Mark mark = region.mark();
  auto* byte = static_cast<volatile char*>(region.Allocate(10));
  *byte = 1;
  region.Rewind(mark);
  EXPECT_DEATH(*byte = 2, "use-after-poison");
}
#endif

}  // namespace
}  // namespace doppel
