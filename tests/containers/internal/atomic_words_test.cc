// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/atomic_words.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

static_assert(std::is_same_v<AtomicWord<1>, uint8_t>);
static_assert(std::is_same_v<AtomicWord<23>, uint8_t>);
static_assert(std::is_same_v<AtomicWord<6>, uint16_t>);
static_assert(std::is_same_v<AtomicWord<12>, uint32_t>);
static_assert(std::is_same_v<AtomicWord<8>, uint64_t>);
static_assert(std::is_same_v<AtomicWord<400>, uint64_t>);

template <size_t kItemBytes>
void CopiesWhatItIsTold() {
  constexpr size_t kItems = 5;
  alignas(8) std::array<std::byte, (kItems + 2) * kItemBytes> shared{};
  // The private side is not aligned.
  alignas(8) std::array<std::byte, kItems * kItemBytes + 1> from{};
  alignas(8) std::array<std::byte, kItems * kItemBytes + 2> to{};
  for (size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<std::byte>(i * 7 + 1);
  }
  StoreWords<kItemBytes>(shared.data() + kItemBytes, from.data() + 1,
                         kItems * kItemBytes);
  for (size_t i = 0; i < kItemBytes; ++i) {
    EXPECT_EQ(shared[i], std::byte{0});
    EXPECT_EQ(shared[(kItems + 1) * kItemBytes + i], std::byte{0});
  }
  LoadWords<kItemBytes>(to.data() + 1, shared.data() + kItemBytes,
                        kItems * kItemBytes);
  EXPECT_EQ(to.front(), std::byte{0});
  EXPECT_EQ(to.back(), std::byte{0});
  for (size_t i = 1; i < from.size(); ++i) EXPECT_EQ(to[i], from[i]);
  StoreWords<kItemBytes>(shared.data(), nullptr, 0);
  LoadWords<kItemBytes>(nullptr, shared.data(), 0);
}

TEST(AtomicWords, CopyWhatTheyAreTold) {
  CopiesWhatItIsTold<1>();
  CopiesWhatItIsTold<2>();
  CopiesWhatItIsTold<3>();
  CopiesWhatItIsTold<4>();
  CopiesWhatItIsTold<6>();
  CopiesWhatItIsTold<8>();
  CopiesWhatItIsTold<12>();
  CopiesWhatItIsTold<24>();
}

}  // namespace
}  // namespace doppel::internal
