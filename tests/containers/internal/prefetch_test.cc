// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/prefetch.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

TEST(PrefetchTest, IsHarmlessAnywhere) {
  for (const uintptr_t address :
       {uintptr_t{0}, uintptr_t{1}, UINTPTR_MAX / 2}) {
    const auto* at = reinterpret_cast<const std::byte*>(address);
    FetchToRead(at, 1);
    FetchToWrite(at, 1);
  }
}

TEST(PrefetchTest, ChangesNothing) {
  std::array<std::byte, 300> memory;
  memory.fill(std::byte{7});
  for (const uint64_t bytes : {0, 1, 64, 65, 300}) {
    FetchToRead(memory.data(), bytes);
    FetchToWrite(memory.data(), bytes);
  }
  for (const std::byte byte : memory) EXPECT_EQ(byte, std::byte{7});
}

}  // namespace
}  // namespace doppel::internal
