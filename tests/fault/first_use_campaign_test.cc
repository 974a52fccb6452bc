// SPDX-License-Identifier: Apache-2.0
//
// What a process asks once in its life, or makes once (its transparent page size, its
// default arena), with each system call of that first time failing in turn: what
// failed is not remembered, and the next try succeeds. This process itself never
// calls the library: each of its children does so for the first time.

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/containers/vector.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::FailEachFirstCall;
using ::doppel::testing::Fault;
using ::doppel::testing::IsOk;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

// Without the library; 0 where the kernel has no transparent huge pages.
uint64_t TransparentBytesOfTheKernel() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
  uint64_t bytes = 0;
  file >> bytes;
  return bytes;
}

TEST(FirstUseCampaignTest, TransparentPageBytes) {
  const uint64_t bytes = TransparentBytesOfTheKernel();
  const int faults = FailEachFirstCall(
      [] { return TransparentPageBytes(); },
      [&](const Fault& fault, uint64_t first) {
        if (fault.interrupts()) {
          EXPECT_EQ(first, bytes);
        } else {
          EXPECT_THAT(first, AnyOf(0, bytes));
        }
        // A file that is not there will not come.
        const bool is_an_answer =
            fault.call == testing::Call::kOpen &&
            (fault.error == ENOENT || fault.error == ENXIO);
        EXPECT_EQ(TransparentPageBytes(), is_an_answer ? 0 : bytes);
      });
  EXPECT_GT(faults, 10);
}

// Whether the default arena hands out pages that can be used.
void ExpectDefaultArenaWorks() {
  const auto arena = Arena::Default();
  ASSERT_THAT(arena, IsOk());
  const auto extent = (*arena)->Allocate(uint64_t{3} << 20);
  ASSERT_THAT(extent, IsOk());
  auto mapping = Mapping::Reserve(extent->size_bytes(), uint64_t{2} << 20);
  ASSERT_THAT(mapping, IsOk());
  ASSERT_THAT(mapping->Show(*extent, 0, {.populate = true}), IsOk());
  std::memset(mapping->data(), 1, mapping->size_bytes());
}

TEST(FirstUseCampaignTest, DefaultArena) {
  const int faults = FailEachFirstCall(
      [] { return Arena::Default(); },
      [](const Fault& fault,
         const absl::StatusOr<std::shared_ptr<Arena>>& arena) {
        if (fault.interrupts()) {
          EXPECT_THAT(arena, IsOk());
        }
        if (arena.ok()) {
          EXPECT_EQ(*Arena::Default(), *arena);
        } else {
          EXPECT_FALSE(arena.status().message().empty());
          EXPECT_THAT(testing::OpenDescriptors(),
                      Not(Contains(HasSubstr("/memfd:"))));
        }
        ExpectDefaultArenaWorks();
      });
  EXPECT_GT(faults, 20);
}

// Runs `use`, which needs the default arena; where a fault makes it fail, it must
// succeed when it is tried again.
template <class Use>
int Campaign(Use use) {
  return FailEachFirstCall(use,
                           [&](const Fault& fault, const absl::Status& status) {
                             if (fault.interrupts()) {
                               EXPECT_THAT(status, IsOk());
                             }
                             EXPECT_THAT(use(), IsOk());
                             ExpectDefaultArenaWorks();
                           });
}

TEST(FirstUseCampaignTest, GrowingMapping) {
  const int faults = Campaign([] {
    absl::StatusOr<GrowingMapping> memory = GrowingMapping::Create({});
    if (!memory.ok()) return memory.status();
    absl::Status grown = memory->Grow(uint64_t{5} << 20);
    if (grown.ok()) std::memset(memory->data(), 1, memory->committed_bytes());
    return grown;
  });
  EXPECT_GT(faults, 50);
}

TEST(FirstUseCampaignTest, Vector) {
  const int faults = Campaign([] {
    try {
      Vector<std::string> words;
      words.push_back("the first");
      EXPECT_EQ(words.back(), "the first");
    } catch (const std::bad_alloc& error) {
      return absl::ResourceExhaustedError(error.what());
    }
    return absl::OkStatus();
  });
  EXPECT_GT(faults, 50);
}

TEST(FirstUseCampaignTest, SpscRing) {
  const int faults = Campaign([] {
    absl::StatusOr<SpscRing<uint64_t>> ring = SpscRing<uint64_t>::Create(1);
    if (!ring.ok()) return ring.status();
    EXPECT_TRUE(ring->writer().try_push(7));
    EXPECT_EQ(ring->reader().try_pop(), 7);
    return absl::OkStatus();
  });
  EXPECT_GT(faults, 50);
}

}  // namespace
}  // namespace doppel
