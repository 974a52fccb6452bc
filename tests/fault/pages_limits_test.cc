// SPDX-License-Identifier: Apache-2.0
//
// Arena, Mapping and GrowingMapping where a limit of the process or the machine is
// reached: each a clear error, never a signal. Limits are set in children.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/alloc/mapping.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/rlimit.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::IsOk;
using ::doppel::testing::ScopedRlimit;
using ::doppel::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
constexpr char kSanitizerNeeds[] =
    "a sanitizer needs the addresses and mappings itself";

std::shared_ptr<Arena> BaseArena() {
  return *Arena::Create({.page_size = PageSize::Base()});
}

// Runs `body` in a child, where its first failed expectation is the exit code.
class InChild {
 public:
  bool Expect(bool holds, absl::string_view what) {
    if (!holds && code_ == 0) {
      code_ = 1;
      std::cerr << "in the child: " << what << "\n";
    }
    return holds;
  }
  bool ExpectOk(const absl::Status& status) {
    return Expect(status.ok(), status.ToString());
  }
  bool ExpectError(const absl::Status& status, absl::StatusCode code,
                   absl::string_view says) {
    return Expect(
        status.code() == code && absl::StrContains(status.message(), says),
        status.ToString());
  }

  static void Run(const std::function<void(InChild&)>& body) {
    EXPECT_TRUE(testing::Exited(testing::RunInChild([&] {
                                  InChild child;
                                  body(child);
                                  return child.code_;
                                }),
                                0));
  }

 private:
  int code_ = 0;  // What the child exits with.
};

bool Holds(const std::byte* data, uint64_t bytes, uint8_t value) {
  for (uint64_t at = 0; at < bytes; at += kPage) {
    if (data[at] != std::byte{value}) return false;
  }
  return true;
}

TEST(PagesLimitsTest, AddressSpace) {
  if (kSanitized) GTEST_SKIP() << kSanitizerNeeds;
  InChild::Run([](InChild& child) {
    const ScopedRlimit limit(RLIMIT_AS, 2048 * kMiB);
    child.ExpectError(Mapping::Reserve(4096 * kMiB).status(), kExhausted,
                      "RLIMIT_AS");
    child.ExpectError(
        GrowingMapping::Create({.reserve_bytes = 4096 * kMiB}).status(),
        kExhausted, "RLIMIT_AS");
    // The default is halved until it fits.
    auto memory = GrowingMapping::Create({});
    if (!child.ExpectOk(memory.status())) return;
    child.Expect(memory->reserved_bytes() >= 512 * kMiB &&
                     memory->reserved_bytes() < 2048 * kMiB,
                 "reserved as much as a half, at least");
    if (!child.ExpectOk(memory->Grow(64 * kMiB))) return;
    std::memset(memory->data(), 5, 64 * kMiB);
    child.ExpectError(memory->Grow(memory->reserved_bytes() + 1), kExhausted,
                      "reserve_bytes");
    child.Expect(Holds(memory->data(), 64 * kMiB, 5), "contents");
  });
}

TEST(PagesLimitsTest, LockedMemory) {
  InChild::Run([](InChild& child) {
    auto free_arena = BaseArena();
    Extent extent = *free_arena->Allocate(64 * kPage);
    Mapping mapping = *Mapping::Reserve(64 * kPage);
    child.ExpectOk(mapping.Show(extent, 0));
    mapping.data()[0] = std::byte{7};
    const ScopedRlimit limit(RLIMIT_MEMLOCK, kPage);
    child.Expect(testing::DropLockPrivilege(), "CAP_IPC_LOCK was given up");
    child.ExpectError(mapping.Lock(0, 64 * kPage), kExhausted,
                      "RLIMIT_MEMLOCK");
    // Sanitizers make mlockall(2) do nothing.
    if (!kSanitized) {
      child.ExpectError(LockProcess(true, false), kExhausted, "RLIMIT_MEMLOCK");
    }
    child.ExpectOk(mapping.Lock(0, kPage));
    child.ExpectOk(mapping.Unlock(0, kPage));
    child.Expect(mapping.data()[0] == std::byte{7}, "contents");

    auto arena = *Arena::Create({.page_size = PageSize::Base(), .lock = true});
    Extent locked = *arena->Allocate(64 * kPage);
    Mapping other = *Mapping::Reserve(64 * kPage);
    child.ExpectError(other.Show(locked, 0), kExhausted, "RLIMIT_MEMLOCK");
    child.Expect(arena->Query()->views == 0, "nothing stays shown");
    auto memory =
        GrowingMapping::Create({.arena = arena, .reserve_bytes = 16 * kMiB});
    child.ExpectError(memory->Grow(1), kExhausted, "RLIMIT_MEMLOCK");
    child.Expect(memory->committed_bytes() == 0, "nothing was committed");
  });
}

TEST(PagesLimitsTest, FileSize) {
  InChild::Run([](InChild& child) {
    auto arena = BaseArena();
    auto memory =
        *GrowingMapping::Create({.arena = arena, .reserve_bytes = 64 * kMiB});
    child.ExpectOk(memory.Grow(2 * kMiB));
    std::memset(memory.data(), 3, 2 * kMiB);
    const ScopedRlimit limit(RLIMIT_FSIZE, 8 * kMiB);
    child.ExpectError(arena->Allocate(16 * kMiB).status(),
                      absl::StatusCode::kOutOfRange, "RLIMIT_FSIZE");
    child.ExpectError(memory.Grow(16 * kMiB), absl::StatusCode::kOutOfRange,
                      "RLIMIT_FSIZE");
    child.Expect(memory.committed_bytes() >= 2 * kMiB &&
                     memory.committed_bytes() < 3 * kMiB,
                 "committed as before");
    child.Expect(Holds(memory.data(), 2 * kMiB, 3), "contents");
    child.ExpectOk(memory.Grow(4 * kMiB));
    child.ExpectOk(arena->Allocate(kPage).status());
  });
}

TEST(PagesLimitsTest, Descriptors) {
  InChild::Run([](InChild& child) {
    auto arena = BaseArena();
    auto memory =
        *GrowingMapping::Create({.arena = arena, .reserve_bytes = 64 * kMiB});
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const ScopedRlimit limit(RLIMIT_NOFILE, static_cast<rlim_t>(next) + 1);
    child.ExpectError(Arena::Create().status(), kExhausted, "RLIMIT_NOFILE");
    child.ExpectError(Arena::Default().status(), kExhausted, "RLIMIT_NOFILE");
    child.ExpectError(GrowingMapping::Create({}).status(), kExhausted,
                      "RLIMIT_NOFILE");
    child.ExpectError(arena->Query().status(), kExhausted, "RLIMIT_NOFILE");
    // What has its descriptor goes on.
    child.ExpectOk(memory.Grow(4 * kMiB));
    child.ExpectOk(memory.ShrinkTo(0));
    close(next);
    child.ExpectOk(Arena::Default().status());
  });
}

// Maps pages that cannot merge until the kernel allows `leave` more.
void UseUpMappings(int64_t leave) {
  const auto stats = BaseArena()->Query();
  const auto wanted = static_cast<int64_t>(stats->max_mappings) -
                      static_cast<int64_t>(stats->process_mappings) - leave;
  const auto pages = static_cast<uint64_t>(wanted);
  void* const at = mmap(nullptr, pages * kPage, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (uint64_t page = 0; page < pages; page += 2) {
    if (mprotect(static_cast<std::byte*>(at) + page * kPage, kPage,
                 PROT_READ) != 0) {
      return;
    }
  }
}

TEST(PagesLimitsTest, MappingsOfTheProcess) {
  if (kSanitized) GTEST_SKIP() << kSanitizerNeeds;
  const auto stats = BaseArena()->Query();
  ASSERT_THAT(stats, IsOk());
  if (stats->max_mappings > 300'000) {
    GTEST_SKIP() << "vm.max_map_count is " << stats->max_mappings;
  }
  InChild::Run([](InChild& child) {
    auto arena = BaseArena();
    Extent extent = *arena->Allocate(16 * kPage);
    // Neighbours, whose guards must not have merged.
    std::vector<Mapping> mappings;
    mappings.reserve(16);
    for (int i = 0; i < 16; ++i) {
      mappings.push_back(*Mapping::Reserve(16 * kPage));
      child.ExpectOk(mappings.back().Show(extent, 0));
    }
    mappings[0].data()[0] = std::byte{9};
    auto memory =
        *GrowingMapping::Create({.arena = arena, .reserve_bytes = 64 * kMiB});
    child.ExpectOk(memory.Grow(kMiB));
    std::memset(memory.data(), 4, kMiB);
    UseUpMappings(0);

    child.ExpectError(Mapping::Reserve(kPage).status(), kExhausted,
                      "vm.max_map_count");
    // A hole in the middle needs two mappings more.
    child.ExpectError(mappings[0].Hide(4 * kPage, kPage), kExhausted,
                      "vm.max_map_count");
    child.ExpectError(mappings[0].Protect(4 * kPage, kPage, Protection::kRead),
                      kExhausted, "");
    child.ExpectError(mappings[0].Move(0, 16 * kPage, mappings[1], 0),
                      kExhausted, "");
    child.Expect(Holds(mappings[0].data(), kPage, 9), "contents");
    child.Expect(mappings[0].data()[4 * kPage] == std::byte{0}, "still shown");

    const uint64_t committed_bytes = memory.committed_bytes();
    const absl::Status grown = memory.Grow(32 * kMiB);
    if (!grown.ok()) {
      child.Expect(memory.committed_bytes() == committed_bytes, "as before");
    }
    child.Expect(Holds(memory.data(), kMiB, 4), "contents");

    // What replaces whole mappings, and what gives them back, always works.
    child.ExpectOk(mappings[2].Hide(0, 16 * kPage));
    for (size_t i = 3; i < mappings.size(); i += 2) {
      child.ExpectOk(mappings[i].Unmap());
    }
    child.ExpectOk(Mapping::Reserve(kPage).status());
    child.ExpectOk(memory.Grow(32 * kMiB));
  });
}

TEST(PagesLimitsTest, AnEmptyHugetlbPool) {
  const auto pool = FindHugetlbPool(2 * kMiB);
  if (!pool.ok()) GTEST_SKIP() << pool.status();
  if (pool->overcommit_pages > 0) GTEST_SKIP() << "the pool may grow";
  const uint64_t too_much = (pool->total_pages + 1) * 2 * kMiB;
  EXPECT_THAT(Arena::Create({.page_size = PageSize::Huge2MiB(),
                             .expected_bytes = too_much}),
              StatusIs(kExhausted, AllOf(HasSubstr("free"), HasSubstr("wanted"),
                                         HasSubstr("vm.nr_hugepages"))));
  const auto best = Arena::Create(
      {.page_size = PageSize::BestAvailable(), .expected_bytes = too_much});
  ASSERT_THAT(best, IsOk());
  EXPECT_NE((*best)->grant().granted, PageSize::Huge2MiB());
  EXPECT_THAT((*best)->grant().reason, HasSubstr("hugetlb 2 MiB"));

  if (testing::FreeHugetlbPages(2 * kMiB) < 2) {
    GTEST_SKIP() << testing::kNoHugetlbPool;
  }
  auto arena = *Arena::Create({.page_size = PageSize::Huge2MiB()});
  auto memory =
      *GrowingMapping::Create({.arena = arena, .reserve_bytes = 2 * too_much});
  ASSERT_THAT(memory.Grow(2 * kMiB), IsOk());
  std::memset(memory.data(), 6, 2 * kMiB);
  EXPECT_THAT(memory.Grow(too_much),
              StatusIs(kExhausted, HasSubstr("vm.nr_hugepages")));
  EXPECT_EQ(memory.committed_bytes(), 2 * kMiB);
  EXPECT_EQ(arena->Query()->allocated_bytes, 2 * kMiB) << "none is kept back";
  EXPECT_TRUE(Holds(memory.data(), 2 * kMiB, 6));
  EXPECT_THAT(arena->Allocate(too_much), StatusIs(kExhausted));
}

TEST(PagesLimitsTest, PageSizesThatTheMachineLacks) {
  for (const uint64_t page_bytes : kHugetlbSizes) {
    const auto pool = FindHugetlbPool(page_bytes);
    if (pool.ok() && pool->available_pages() > 0) continue;
    const auto arena =
        Arena::Create({.page_size = *PageSize::Huge(page_bytes)});
    EXPECT_THAT(arena,
                StatusIs(pool.ok() ? kExhausted : absl::StatusCode::kNotFound));
  }
}

TEST(PagesLimitsTest, SizesThatOverflow) {
  auto arena = BaseArena();
  Extent extent = *arena->Allocate(4 * kPage);
  Mapping mapping = *Mapping::Reserve(4 * kPage);
  ASSERT_THAT(mapping.Show(extent, 0), IsOk());
  const uint64_t huge_values[] = {UINT64_MAX, UINT64_MAX - kPage + 1,
                                  uint64_t{1} << 63, INT64_MAX};
  for (const uint64_t huge : huge_values) {
    SCOPED_TRACE(huge);
    EXPECT_FALSE(arena->Allocate(huge).ok());
    EXPECT_FALSE(Mapping::Reserve(huge).ok());
    EXPECT_FALSE(Mapping::Reserve(kPage, huge).ok());
    EXPECT_FALSE(GrowingMapping::Create({.reserve_bytes = huge}).ok());
    EXPECT_FALSE(extent.SplitAt(huge).ok());
    EXPECT_THAT(mapping.Show(extent, huge), StatusIs(kInvalid));
    EXPECT_THAT(mapping.Show(extent, huge, kPage, 0), StatusIs(kInvalid));
    EXPECT_THAT(mapping.Show(extent, 0, huge, 0), StatusIs(kInvalid));
    EXPECT_FALSE(mapping.Show(arena->memfd(), huge, kPage, 0).ok());
    EXPECT_FALSE(mapping.Show(arena->memfd(), 0, huge, 0).ok());
    for (const auto& [at, bytes] :
         {std::pair(huge, kPage), std::pair(kPage, huge),
          std::pair(huge, huge)}) {
      EXPECT_THAT(mapping.Hide(at, bytes), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Protect(at, bytes, Protection::kRead),
                  StatusIs(kInvalid));
      EXPECT_THAT(mapping.Advise(at, bytes, Advice::kNormal),
                  StatusIs(kInvalid));
      EXPECT_THAT(mapping.Lock(at, bytes), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Unlock(at, bytes), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Sync(at, bytes, SyncMode::kAsync),
                  StatusIs(kInvalid));
      EXPECT_THAT(mapping.Populate(at, bytes), StatusIs(kInvalid));
      EXPECT_THAT(mapping.PopulateHuge(at, bytes), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Move(at, bytes, mapping, 0), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Move(0, kPage, mapping, huge), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Alias(at, bytes, 0), StatusIs(kInvalid));
      EXPECT_THAT(mapping.Query(at, bytes), StatusIs(kInvalid));
    }
  }
  auto memory =
      *GrowingMapping::Create({.arena = arena, .reserve_bytes = kMiB});
  for (const uint64_t huge : huge_values) {
    EXPECT_THAT(memory.Grow(huge), StatusIs(kExhausted));
    EXPECT_THAT(memory.ShrinkTo(huge), IsOk());
  }
  EXPECT_EQ(memory.committed_bytes(), 0);
}

}  // namespace
}  // namespace doppel
