// SPDX-License-Identifier: Apache-2.0
//
// The hot path of Region::Allocate, counted in the machine code of this test: one
// branch, and no more instructions than it had when this was written.

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "doppel/alloc/region.h"
#include "gtest/gtest.h"

namespace doppel {

// What is measured. Of C linkage, so that objdump finds the names as they are here.
extern "C" __attribute__((noinline, used)) void* DoppelAllocateBytes(
    Region& region, size_t bytes) {
  return region.Allocate(bytes, 1);
}
extern "C" __attribute__((noinline, used)) void* DoppelAllocateAligned(
    Region& region, size_t bytes) {
  return region.Allocate(bytes, 16);
}
extern "C" __attribute__((noinline, used)) void* DoppelAllocateObject(
    Region& region) {
  return region.Allocate(48, 8);
}

namespace {

// The mnemonics of a function of this program, up to its first return; the slow path
// stands behind it. Empty without objdump.
std::vector<std::string> HotPath(const std::string& function) {
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) <= 0) return {};
  FILE* const output = popen(
      absl::StrCat("objdump -d --no-show-raw-insn --disassemble=", function,
                   " '", path.data(), "' 2>/dev/null")
          .c_str(),
      "r");
  if (output == nullptr) return {};
  std::vector<std::string> mnemonics;
  bool returned = false;
  std::array<char, 512> line{};
  while (fgets(line.data(), line.size(), output) != nullptr) {
    // "  401136:\tmov    %rdi,%rax"
    const std::vector<std::string> fields = absl::StrSplit(
        line.data(), absl::ByAnyChar("\t \n"), absl::SkipEmpty());
    if (fields.size() < 2 || fields[0].back() != ':' || returned) continue;
    if (fields[0].front() == '<' || fields[1].front() == '<') continue;
    if (!absl::StrContains(line.data(), "\t")) continue;
    mnemonics.push_back(fields[1]);
    returned = absl::StartsWith(fields[1], "ret");
  }
  const bool ran = pclose(output) == 0;
  if (!ran || !returned) return {};
  return mnemonics;
}

bool IsBranch(const std::string& mnemonic) {
  return mnemonic[0] == 'j' && mnemonic != "jmp" && mnemonic != "jmpq";
}

class RegionInstructionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
#if !defined(__x86_64__)
    GTEST_SKIP() << "the counts are of x86-64";
#elif !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || \
    defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "counted in optimised builds without a sanitizer only";
#endif
    if (HotPath("DoppelAllocateBytes").empty()) {
      GTEST_SKIP() << "objdump is not installed, or this program is stripped";
    }
  }

  // One branch, no call, at most `most` instructions.
  static void ExpectHotPath(const std::string& function, size_t most) {
    const std::vector<std::string> path = HotPath(function);
    ASSERT_FALSE(path.empty()) << function;
    size_t branches = 0;
    for (const std::string& mnemonic : path) {
      branches += IsBranch(mnemonic) ? 1 : 0;
      EXPECT_FALSE(absl::StartsWith(mnemonic, "call")) << function;
    }
    EXPECT_EQ(branches, 1) << function;
    EXPECT_LE(path.size(), most)
        << function << ": " << ::testing::PrintToString(path);
  }
};

// The bounds: load limit and next, subtract, compare, branch, add, store, return are
// 8; rounding up to an alignment takes 2 more; a compiler may copy a register or two,
// and keep a frame pointer in 4 (-fno-omit-frame-pointer, as Bazel has it).
constexpr size_t kSlack = 2 + 4;

TEST_F(RegionInstructionsTest, BytesAreOneBranchAndOneAdd) {
  ExpectHotPath("DoppelAllocateBytes", 8 + kSlack);
}

TEST_F(RegionInstructionsTest, AlignmentIsTwoInstructionsMore) {
  ExpectHotPath("DoppelAllocateAligned", 10 + kSlack);
}

TEST_F(RegionInstructionsTest, AConstantSizeCostsNoMore) {
  ExpectHotPath("DoppelAllocateObject", 10 + kSlack);
}

// The wrappers allocate: what was counted is what works.
TEST(RegionWrappersTest, Allocate) {
  Region region = *Region::Create();
  EXPECT_NE(DoppelAllocateBytes(region, 3), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(DoppelAllocateAligned(region, 5)) % 16,
            0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(DoppelAllocateObject(region)) % 8, 0);
  EXPECT_EQ(region.used_bytes(), 16 + 8 + 48);
}

}  // namespace
}  // namespace doppel
