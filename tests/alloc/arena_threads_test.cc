// SPDX-License-Identifier: Apache-2.0
//
// One arena, many threads: no page is ever handed out twice.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "doppel/alloc/arena.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::Scaled;

constexpr uint64_t kPage = 4096;
constexpr unsigned kThreads = 4;

void OnThreads(const std::function<void(unsigned)>& body) {
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (unsigned id = 0; id < kThreads; ++id) threads.emplace_back(body, id);
  for (std::thread& thread : threads) thread.join();
}

// An extent with a stamp of its owner in every page.
struct Stamped {
  Stamped(const std::shared_ptr<Arena>& arena, uint64_t bytes, uint64_t value)
      : extent(*arena->Allocate(bytes)),
        mapping(*Mapping::Reserve(extent.size_bytes())),
        stamp(value) {
    EXPECT_THAT(mapping.Show(extent, 0), IsOk());
    for (uint64_t at = 0; at < extent.size_bytes(); at += kPage) {
      Word(at) = stamp;
    }
  }

  bool Holds() const {
    for (uint64_t at = 0; at < extent.size_bytes(); at += kPage) {
      if (Word(at) != stamp) return false;
    }
    return true;
  }

  volatile uint64_t& Word(uint64_t at) const {
    return *reinterpret_cast<volatile uint64_t*>(mapping.data() + at);
  }

  Extent extent;
  Mapping mapping;  // Gone before the extent is.
  uint64_t stamp;
};

TEST(ArenaThreadsTest, PagesBelongToOneThreadAtATime) {
  const auto arena = *Arena::Create(
      {.page_size = PageSize::Base(), .retain_bytes = 32 * kPage});
  std::atomic<int> lost{0};
  OnThreads([&](unsigned id) {
    std::mt19937 random(id);
    std::vector<std::unique_ptr<Stamped>> mine;
    for (int64_t i = 0; i < Scaled(400, 40'000); ++i) {
      if (mine.size() < 8 && random() % 2 == 0) {
        mine.push_back(std::make_unique<Stamped>(
            arena, random() % (8 * kPage) + 1, (uint64_t{id} << 32) + i));
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        if (!mine.back()->Holds()) ++lost;
        mine.pop_back();
      }
      if (i % 64 == 0 && !arena->Trim().ok()) ++lost;
      if (i % 64 == 32 && !arena->Query().ok()) ++lost;
    }
  });
  EXPECT_EQ(lost, 0);
  const auto stats = arena->Query();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->extents, 0);
  EXPECT_EQ(stats->views, 0);
  EXPECT_EQ(stats->free_bytes, stats->file_bytes);
}

TEST(ArenaThreadsTest, ThreadsCutAndJoinTheirExtents) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  OnThreads([&](unsigned id) {
    std::mt19937 random(id);
    for (int64_t i = 0; i < Scaled(500, 50'000); ++i) {
      Extent front = *arena->Allocate(16 * kPage);
      Extent back = *front.SplitAt((random() % 15 + 1) * kPage);
      if (i % 2 == 0) {
        EXPECT_TRUE(front.Join(back));
      }
    }
  });
  EXPECT_EQ(arena->Query()->extents, 0);
  EXPECT_EQ(arena->Query()->handed_out_bytes, 0);
}

TEST(ArenaThreadsTest, AnExtentMayBeFreedByAnyThread) {
  std::shared_ptr<Arena> arena =
      *Arena::Create({.page_size = PageSize::Base()});
  Extent extent = *arena->Allocate(kPage);
  arena.reset();
  std::thread([last = std::move(extent)] { EXPECT_TRUE(last); }).join();
}

TEST(ArenaThreadsTest, ThreadsThatRaceForTheDefaultArenaGetOne) {
  // In a child, whose default arena is not there yet.
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(testing::Exited(testing::RunInChild([] {
                                  const Arena* seen[kThreads] = {};
                                  OnThreads([&](unsigned id) {
                                    seen[id] = Arena::Default()->get();
                                  });
                                  for (const Arena* one : seen) {
                                    if (one == nullptr || one != seen[0])
                                      return 1;
                                  }
                                  return 0;
                                }),
                                0));
  }
}

}  // namespace
}  // namespace doppel
