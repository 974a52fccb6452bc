// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target over the inputs that are kept: the corpus, and those that once
// found a fault. A test for each configuration, where no fuzzer is to be had.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace doppel {
namespace {

// Runs all inputs of a folder, and says how many.
size_t Replay(const std::filesystem::path& folder) {
  size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)),
                                  std::istreambuf_iterator<char>());
    // A fault ends the process: the log's last line says where.
    std::fprintf(stderr, "%s\n", entry.path().c_str());
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()),
                           bytes.size());
    ++inputs;
  }
  return inputs;
}

TEST(Fuzz, InputsThatFoundFaults) {
  const std::filesystem::path folder = FUZZ_REGRESSIONS;
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "none ever did";
  EXPECT_GT(Replay(folder), 0);
}

TEST(Fuzz, Corpus) { EXPECT_GT(Replay(FUZZ_CORPUS), 0); }

// The corpus has the shortest input for each edge: longer ones go deeper.
TEST(Fuzz, RandomInputs) {
  std::mt19937_64 random(1);
  std::vector<uint8_t> input;
  const int64_t inputs = testing::Scaled(3'000, 300'000);
  for (int64_t i = 0; i < inputs; ++i) {
    input.resize(random() % 300);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
}

TEST(Fuzz, EmptyInput) { EXPECT_EQ(LLVMFuzzerTestOneInput(nullptr, 0), 0); }

}  // namespace
}  // namespace doppel
