// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/internal/address_share.h"

#include <bit>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(AddressShareTest, TheFirstHundredsGetWhatTheyWant) {
  std::vector<AddressShare> shares;
  for (int i = 0; i < 300; ++i) {
    shares.push_back(AddressShare::Take(32 * kGiB));
    ASSERT_EQ(shares.back().bytes(), 32 * kGiB) << i;
  }
  EXPECT_EQ(AddressShare::taken_bytes(), 300 * 32 * kGiB);
  shares.clear();
  EXPECT_EQ(AddressShare::taken_bytes(), 0);
}

TEST(AddressShareTest, LaterOnesGetLessAndNoneIsRefused) {
  std::vector<AddressShare> shares;
  uint64_t last_bytes = UINT64_MAX;
  for (int i = 0; i < 20'000; ++i) {
    shares.push_back(AddressShare::Take(128 * kGiB));
    const uint64_t bytes = shares.back().bytes();
    ASSERT_LE(bytes, last_bytes);
    ASSERT_GE(bytes, AddressShare::kLeastBytes);
    ASSERT_TRUE(std::has_single_bit(bytes));
    last_bytes = bytes;
  }
  EXPECT_LT(last_bytes, kGiB);
  EXPECT_GE(last_bytes, kGiB / 16);
  EXPECT_LE(AddressShare::taken_bytes(),
            AddressShare::kTotalBytes + 20'000 * AddressShare::kLeastBytes);
}

TEST(AddressShareTest, IsOfAPowerOfTwoAtLeastTheLeast) {
  EXPECT_EQ(AddressShare::Take(3 * kGiB).bytes(), 2 * kGiB);
  EXPECT_EQ(AddressShare::Take(1).bytes(), AddressShare::kLeastBytes);
  EXPECT_EQ(AddressShare::Take(UINT64_MAX).bytes(),
            AddressShare::kTotalBytes / AddressShare::kLeastDivisor);
}

TEST(AddressShareTest, GoesBackOnce) {
  {
    AddressShare a = AddressShare::Take(4 * kGiB);
    a.Halve();
    EXPECT_EQ(a.bytes(), 2 * kGiB);
    EXPECT_EQ(AddressShare::taken_bytes(), 2 * kGiB);
    AddressShare b = std::move(a);
    EXPECT_EQ(AddressShare::taken_bytes(), 2 * kGiB);
    a = AddressShare::Take(kGiB);
    EXPECT_EQ(AddressShare::taken_bytes(), 3 * kGiB);
    b = std::move(a);
    EXPECT_EQ(b.bytes(), kGiB);
    EXPECT_EQ(AddressShare::taken_bytes(), kGiB);
    AddressShare& self = b;
    b = std::move(self);
    EXPECT_EQ(b.bytes(), kGiB);
  }
  EXPECT_EQ(AddressShare::taken_bytes(), 0);
}

TEST(AddressShareTest, ThreadsTakeAndGiveBack) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 10'000; ++i) {
        AddressShare share = AddressShare::Take(32 * kGiB);
        share.Halve();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(AddressShare::taken_bytes(), 0);
}

}  // namespace
}  // namespace doppel::internal
