// SPDX-License-Identifier: Apache-2.0
//
// A region beside a model of it: random allocations, marks, rewinds, releases and
// owned objects; after each step the contents of all that lives are looked at.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "doppel/alloc/region.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

// Counts itself.
struct Counted {
  explicit Counted(int& live) : live(live) { ++live; }
  ~Counted() { --live; }
  int& live;
};

class Model {
 public:
  explicit Model(unsigned seed, PageSize page_size)
      : random_(seed),
        region_(
            *Region::Create({.arena = *Arena::Create({.page_size = page_size}),
                             .reserve_bytes = kReserveBytes})) {}

  void Step() {
    switch (random_() % 16) {
      case 0:
        marks_.push_back({region_.mark(), blocks_.size(), live_});
        break;
      case 1:
        Rewind();
        break;
      case 2:
        if (random_() % 16 == 0) Clear(/*release=*/random_() % 2 == 0);
        break;
      case 3:
      case 4:
        region_.Own<Counted>(live_);
        ++expected_live_;
        break;
      case 5:
        FreeNewest();
        break;
      default:
        Allocate();
    }
    EXPECT_EQ(live_, expected_live_);
  }

  void Check() const {
    std::byte* end = nullptr;
    for (const Block& block : blocks_) {
      ASSERT_GE(block.at, end) << "blocks overlap";
      end = block.at + block.bytes;
      for (size_t i = 0; i < block.bytes; ++i) {
        ASSERT_EQ(block.at[i], block.value);
      }
    }
  }

 private:
  static constexpr uint64_t kReserveBytes = uint64_t{8} << 20;

  struct Block {
    std::byte* at;
    size_t bytes;
    size_t alignment;
    std::byte value;
  };
  struct Mark {
    Region::Mark mark;
    size_t blocks;
    int live;
  };

  void Allocate() {
    const bool large = random_() % 64 == 0;
    const size_t bytes = random_() % (large ? 3 << 20 : 700);
    const size_t alignment = size_t{1} << (random_() % (large ? 16 : 8));
    auto* at = static_cast<std::byte*>(region_.Allocate(bytes, alignment));
    if (at == nullptr) {
      EXPECT_GT(region_.used_bytes() + bytes + alignment, kReserveBytes);
      return;
    }
    EXPECT_EQ(reinterpret_cast<uintptr_t>(at) % alignment, 0);
    const auto value = static_cast<std::byte>(random_());
    std::memset(at, static_cast<int>(value), bytes);
    blocks_.push_back({at, bytes, alignment, value});
  }

  // The newest may have an owned object behind it: then it stays, and the model
  // sees it go on living.
  void FreeNewest() {
    if (blocks_.empty() ||
        (!marks_.empty() && marks_.back().blocks == blocks_.size())) {
      return;
    }
    const Block& block = blocks_.back();
    const uint64_t before_bytes = region_.used_bytes();
    region_.Deallocate(block.at, block.bytes, block.alignment);
    if (region_.used_bytes() != before_bytes) {
      EXPECT_EQ(before_bytes - region_.used_bytes(), block.bytes);
      blocks_.pop_back();
    }
  }

  void Rewind() {
    if (marks_.empty()) return;
    const size_t nth = random_() % marks_.size();
    const Mark to = marks_[nth];
    marks_.erase(marks_.begin() + static_cast<ptrdiff_t>(nth) + 1,
                 marks_.end());
    region_.Rewind(to.mark);
    blocks_.resize(to.blocks);
    expected_live_ = to.live;
  }

  void Clear(bool release) {
    if (release) {
      const uint64_t keep_bytes = random_() % kReserveBytes;
      EXPECT_TRUE(region_.ResetAndRelease(keep_bytes).ok());
      EXPECT_LE(region_.committed_bytes(), keep_bytes + (2 << 20));
    } else {
      region_.Reset();
    }
    EXPECT_EQ(region_.used_bytes(), 0);
    blocks_.clear();
    marks_.clear();
    expected_live_ = 0;
  }

  std::mt19937 random_;
  int live_ = 0;
  int expected_live_ = 0;
  std::vector<Block> blocks_;
  std::vector<Mark> marks_;
  Region region_;  // Last: its objects count themselves in live_.
};

class RegionModelTest : public ::testing::TestWithParam<PageSize> {};

INSTANTIATE_TEST_SUITE_P(Pages, RegionModelTest,
                         ::testing::Values(PageSize::Base(),
                                           PageSize::Transparent()));

TEST_P(RegionModelTest, AgreesStepByStep) {
  const auto runs = testing::Scaled(3, 400);
  for (int64_t seed = 1; seed <= runs && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Model model(static_cast<unsigned>(seed), GetParam());
    for (int step = 0; step < 2000 && !HasFailure(); ++step) {
      model.Step();
      if (step % 200 == 0) model.Check();
    }
    model.Check();
  }
}

}  // namespace
}  // namespace doppel
