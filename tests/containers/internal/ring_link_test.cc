// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_link.h"

#include <unistd.h>

#include <array>

#include "absl/status/statusor.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/tests/support/status_matchers.h"
#include "gtest/gtest.h"

namespace doppel::internal {
namespace {

using ::doppel::testing::IsOk;

TEST(RingLink, HangsUpWhenTheOtherEndDoes) {
  RingLink link;
  EXPECT_TRUE(link.HungUp()) << "there is none";
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> ends =
      MakeRingLink();
  ASSERT_THAT(ends, IsOk());
  EXPECT_EQ((*ends)[0].id, (*ends)[1].id);
  link.Take((*ends)[0].fd);
  EXPECT_EQ(link.word()->load(), (*ends)[0].fd);
  EXPECT_FALSE(link.HungUp());
  close((*ends)[1].fd);
  EXPECT_TRUE(link.HungUp());
  link.Drop();
  EXPECT_EQ(link.fd(), -1);
}

// Whoever has loaded the number may use it after the link was replaced.
TEST(RingLink, KeepsItsNumber) {
  RingLink link;
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> first =
      MakeRingLink();
  const absl::StatusOr<std::array<RingInvitation::Link, 2>> second =
      MakeRingLink();
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_NE((*first)[0].id, (*second)[0].id);
  ASSERT_THAT(link.Replace((*first)[0].fd), IsOk());
  ASSERT_THAT(link.Replace((*second)[0].fd), IsOk());
  EXPECT_EQ(link.fd(), (*first)[0].fd);
  close((*first)[1].fd);
  EXPECT_FALSE(link.HungUp());
  close((*second)[1].fd);
  EXPECT_TRUE(link.HungUp());
}

}  // namespace
}  // namespace doppel::internal
