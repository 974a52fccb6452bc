// SPDX-License-Identifier: Apache-2.0
//
// Every system call that a public operation of Vector makes fails in turn, with each
// errno of its manual page, once and for ever: the operation throws std::bad_alloc
// that names the call, or gets through; elements, size, capacity and addresses are
// as before; nothing leaks; the vector goes on. Limits of the process end in
// exceptions too, never in a signal.

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "doppel/containers/vector.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "doppel/tests/support/hugetlb.h"
#include "doppel/tests/support/leak_check.h"
#include "doppel/tests/support/rlimit.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Exited;
using ::doppel::testing::RunInChild;
using ::doppel::testing::Scaled;
using ::doppel::testing::ScopedRlimit;

using Numbers = Vector<uint64_t>;
constexpr uint64_t kMiB = uint64_t{1} << 20;
// Beyond what is committed, whatever the page size.
constexpr size_t kMore = 5 * kMiB / 2 / 8;

// A vector that is full to its last page, so that one element more is growth.
struct Fixture {
  explicit Fixture(PageSize page_size)
      : arena(*Arena::Create({.page_size = page_size})), v(Options()) {
    v.reserve(3000);
    while (v.size() < v.capacity()) v.push_back(v.size());
    before.assign(v.begin(), v.end());
    data = v.data();
  }
  Numbers::Options Options() const {
    return {.arena = arena, .reserve_bytes = 64 * kMiB};
  }
  bool Holds(const Numbers& numbers) const {
    return std::equal(numbers.begin(), numbers.end(), before.begin(),
                      before.end());
  }

  std::shared_ptr<Arena> arena;
  Numbers v;
  std::optional<Numbers> made;   // By the operation.
  std::optional<Numbers> other;  // Longer than v.
  std::vector<uint64_t> before;  // What v holds when it is not changed.
  const uint64_t* data;
};

struct Operation {
  const char* name;
  std::function<void(Fixture&)> run;
  bool by_one = false;       // It cannot know how many elements are to come.
  bool wants_other = false;  // Fixture::other.
};

std::istream_iterator<uint64_t> Input(std::istringstream& text) {
  return std::istream_iterator<uint64_t>(text);
}

const std::string& ManyNumbers() {
  static const std::string& text = *new std::string([] {
    std::string words;
    for (size_t i = 0; i < kMore / 32; ++i) words += "7 ";
    return words;
  }());
  return text;
}

const std::vector<uint64_t>& Range() {
  static const auto& range = *new std::vector<uint64_t>(kMore, 7);
  return range;
}

std::vector<Operation> Constructors() {
  return {
      {"Vector(n)", [](Fixture& f) { f.made.emplace(kMore, f.Options()); }},
      {"Vector(n, value)",
       [](Fixture& f) { f.made.emplace(kMore, 7, f.Options()); }},
      {"Vector(range)",
       [](Fixture& f) {
         f.made.emplace(Range().begin(), Range().end(), f.Options());
       }},
      {"Vector(input)",
       [](Fixture& f) {
         std::istringstream text(ManyNumbers());
         f.made.emplace(Input(text), std::istream_iterator<uint64_t>(),
                        f.Options());
       }},
      {"Vector(list)",
       [](Fixture& f) {
         f.made.emplace(std::initializer_list<uint64_t>{1, 2}, f.Options());
       }},
      {"Vector(vector)", [](Fixture& f) { f.made.emplace(f.v); }},
      {"the first push_back",
       [](Fixture& f) {
         f.made.emplace(f.Options());
         f.made->push_back(1);
       }},
  };
}

std::vector<Operation> Growers() {
  return {
      {"push_back", [](Fixture& f) { f.v.push_back(1); }},
      {"emplace_back", [](Fixture& f) { f.v.emplace_back(1); }},
      {"reserve", [](Fixture& f) { f.v.reserve(kMore); }},
      {"resize", [](Fixture& f) { f.v.resize(kMore); }},
      {"resize with a value", [](Fixture& f) { f.v.resize(kMore, 7); }},
      {"insert one", [](Fixture& f) { f.v.insert(f.v.begin() + 5, 1); }},
      {"emplace", [](Fixture& f) { f.v.emplace(f.v.begin(), 1); }},
      {"insert many",
       [](Fixture& f) { f.v.insert(f.v.begin() + 5, kMore, 7); }},
      {"insert a range",
       [](Fixture& f) {
         f.v.insert(f.v.begin() + 5, Range().begin(), Range().end());
       }},
      {.name = "insert input",
       .run =
           [](Fixture& f) {
             std::istringstream text(ManyNumbers());
             f.v.insert(f.v.begin() + 5, Input(text),
                        std::istream_iterator<uint64_t>());
           },
       .by_one = true},
      {"assign many", [](Fixture& f) { f.v.assign(kMore, 7); }},
      {"assign a range",
       [](Fixture& f) { f.v.assign(Range().begin(), Range().end()); }},
      {.name = "assign input",
       .run =
           [](Fixture& f) {
             std::istringstream text(ManyNumbers());
             f.v.assign(Input(text), std::istream_iterator<uint64_t>());
           },
       .by_one = true},
      {.name = "copy assignment",
       .run = [](Fixture& f) { f.v = *f.other; },
       .wants_other = true},
  };
}

// Runs the operation; what it throws must be std::bad_alloc that says why.
bool Succeeds(const Operation& operation, Fixture& fixture) {
  try {
    operation.run(fixture);
    return true;
  } catch (const std::bad_alloc& error) {
    EXPECT_GT(std::strlen(error.what()), std::strlen("doppel::Vector: "));
    EXPECT_EQ(std::string(error.what()).rfind("doppel::Vector: ", 0), 0)
        << error.what();
    return false;
  }
}

class VectorCampaignTest : public ::testing::TestWithParam<PageSize> {
 protected:
  void SetUp() override {
    if (GetParam().is_hugetlb() &&
        testing::FreeHugetlbPages(GetParam().hugetlb_bytes()) < 24) {
      GTEST_SKIP() << testing::kNoHugetlbPool;
    }
  }

  // What must hold after every fault, and also what comes after it.
  static void ExpectUnchanged(Fixture& f) {
    EXPECT_TRUE(f.Holds(f.v));
    EXPECT_EQ(f.v.data(), f.data);
  }
  static void ExpectGoesOn(Fixture& f) {
    f.v.push_back(42);
    EXPECT_EQ(f.v.back(), 42);
    EXPECT_EQ(f.v.data(), f.data);
    if (f.made) f.made->resize(10, 3);
  }

  // All on base pages. The other kinds make other calls, but the same ones in each
  // operation: one in four is enough for every day.
  static void CampaignOf(const std::vector<Operation>& operations) {
    const size_t stride = GetParam() == PageSize::Base() ? 1 : Scaled(4, 1);
    for (size_t i = 0; i < operations.size(); i += stride) {
      SCOPED_TRACE(operations[i].name);
      EXPECT_GT(Campaign(operations[i]), 10);
      if (HasFailure()) return;
    }
  }

  static int Campaign(const Operation& operation) {
    return testing::FailEachCall(
        [&] {
          auto f = std::make_unique<Fixture>(GetParam());
          if (operation.wants_other) f->other.emplace(kMore, 7, f->Options());
          return f;
        },
        [&](std::unique_ptr<Fixture>& f) { return Succeeds(operation, *f); },
        [](bool succeeded) { return !succeeded; },
        [&](std::unique_ptr<Fixture>& f, bool succeeded) {
          if (!succeeded) {
            ExpectUnchanged(*f);
            // Growth element by element keeps the pages that it got.
            if (!operation.by_one) {
              EXPECT_EQ(f->v.capacity(), f->before.size());
            }
          }
          ExpectGoesOn(*f);
        });
  }
};

INSTANTIATE_TEST_SUITE_P(Pages, VectorCampaignTest,
                         ::testing::Values(PageSize::Base(),
                                           PageSize::Transparent(),
                                           PageSize::Huge2MiB()));

TEST_P(VectorCampaignTest, ConstructorsThrowAndLeaveNothing) {
  CampaignOf(Constructors());
}

TEST_P(VectorCampaignTest, GrowthThrowsAndHasNoEffect) {
  CampaignOf(Growers());
}

TEST_P(VectorCampaignTest, CreateReturnsTheStatus) {
  const int faults = testing::FailEachCall(
      [] { return std::make_unique<Fixture>(GetParam()); },
      [](std::unique_ptr<Fixture>& f) {
        auto made = Numbers::Create(f->Options());
        if (made.ok()) f->made.emplace(*std::move(made));
        return made.status();
      },
      [](const absl::Status& status) { return !status.ok(); },
      [](std::unique_ptr<Fixture>& f, const absl::Status& status) {
        EXPECT_EQ(f->made.has_value(), status.ok());
        ExpectUnchanged(*f);
        ExpectGoesOn(*f);
      });
  EXPECT_GT(faults, 10);
}

// Giving back cannot fail: pages that the system does not take stay.
TEST_P(VectorCampaignTest, GivingBackKeepsTheElements) {
  const Operation shrink{"shrink_to_fit", [](Fixture& f) {
                           f.v.resize(f.v.size() / 2);
                           f.v.shrink_to_fit();
                         }};
  testing::FailEachCall(
      [] {
        auto f = std::make_unique<Fixture>(GetParam());
        f->v.reserve(kMore);
        return f;
      },
      [&](std::unique_ptr<Fixture>& f) { return Succeeds(shrink, *f); },
      [](bool succeeded) { return !succeeded; },
      [](std::unique_ptr<Fixture>& f, bool succeeded) {
        EXPECT_TRUE(succeeded);
        ASSERT_EQ(f->v.size(), f->before.size() / 2);
        EXPECT_TRUE(std::equal(f->v.begin(), f->v.end(), f->before.begin()));
        f->v.resize(f->before.size());
        ExpectGoesOn(*f);
      });
}

// The value that an insertion would have taken is not lost with it.
TEST(VectorFaultTest, AnRvalueStaysWhereItWas) {
  Vector<std::string> v(Vector<std::string>::Options{
      .arena = *Arena::Create({.page_size = PageSize::Base()})});
  while (v.empty() || v.size() < v.capacity()) v.emplace_back("x");
  std::string text(100, 'y');
  for (const size_t at : {size_t{0}, v.size() / 2, v.size()}) {
    testing::FaultPlan plan({.call = testing::Call::kMadvise,
                             .nth = 1,
                             .error = ENOMEM,
                             .sticky = true});
    EXPECT_THROW(v.insert(v.begin() + at, std::move(text)), std::bad_alloc);
    EXPECT_THROW(v.push_back(std::move(text)), std::bad_alloc);
    EXPECT_EQ(text, std::string(100, 'y'));
  }
  EXPECT_EQ(std::count(v.begin(), v.end(), "x"), v.size());
}

// --- Limits of the process: in a child, which they would otherwise outlive. ---

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

template <class Function>
bool ThrowsBadAlloc(Function function, const char* why) {
  try {
    function();
  } catch (const std::bad_alloc& error) {
    return std::strstr(error.what(), why) != nullptr;
  }
  return false;
}

uint64_t AddressSpaceBytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  statm >> pages;
  return pages * BasePageBytes();
}

TEST(VectorLimitsTest, AddressSpaceReached) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer's shadow is address space too";
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  const int status = RunInChild([&] {
    // A child may not take new extents of its parent's arena.
    const auto own = *Arena::Create({.page_size = PageSize::Base()});
    Numbers existing(100, 5, {.arena = own, .reserve_bytes = kMiB});
    const ScopedRlimit limit(RLIMIT_AS, AddressSpaceBytes() + 8 * kMiB);
    Numbers v(Numbers::Options{.arena = own, .reserve_bytes = 64 * kMiB});
    if (!ThrowsBadAlloc([&] { v.push_back(1); }, "mmap")) return 1;
    if (!v.empty() || v.memory() != nullptr) return 2;
    // Its addresses were reserved before.
    existing.resize(kMiB / 8, 5);
    if (std::count(existing.begin(), existing.end(), 5) != kMiB / 8) return 3;
    // Without reserve_bytes it takes what there is.
    Numbers fitting(Numbers::Options{.arena = own});
    fitting.push_back(1);
    if (fitting.max_size() >= kMiB) return 4;
    try {
      fitting.resize(kMiB);
      return 5;
    } catch (const std::length_error&) {
    }
    return fitting.size() == 1 && fitting[0] == 1 ? 0 : 6;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(VectorLimitsTest, FileSizeReached) {
  const int status = RunInChild([] {
    const auto arena = *Arena::Create({.page_size = PageSize::Base()});
    Numbers v(1000, 5, {.arena = arena});
    const ScopedRlimit limit(RLIMIT_FSIZE, 4 * kMiB);
    if (!ThrowsBadAlloc([&] { v.resize(kMiB); }, "RLIMIT_FSIZE")) return 1;
    if (std::count(v.begin(), v.end(), 5) != 1000) return 2;
    v.resize(2 * kMiB / 8);
    return 0;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(VectorLimitsTest, DescriptorsReached) {
  const int status = RunInChild([] {
    // The default arena of this process is not there yet: it wants a descriptor.
    Numbers v;
    {
      const ScopedRlimit limit(RLIMIT_NOFILE, 0);
      if (!ThrowsBadAlloc([&] { v.push_back(1); }, "memfd_create")) return 1;
      if (!v.empty()) return 2;
    }
    v.push_back(1);
    return v[0] == 1 ? 0 : 3;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

TEST(VectorLimitsTest, AParentsArenaGivesNothingToAChild) {
  const auto arena = *Arena::Create({.page_size = PageSize::Base()});
  Numbers v(1000, 5, {.arena = arena});
  const int status = RunInChild([&] {
    if (!ThrowsBadAlloc([&] { v.resize(kMiB); }, "fork")) return 1;
    if (std::count(v.begin(), v.end(), 5) != 1000) return 2;
    Numbers own;  // The child's default arena is its own.
    own.push_back(1);
    return own[0] == 1 ? 0 : 3;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
  EXPECT_EQ(std::count(v.begin(), v.end(), 5), 1000);
}

}  // namespace
}  // namespace doppel
