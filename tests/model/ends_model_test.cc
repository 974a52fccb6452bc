// SPDX-License-Identifier: Apache-2.0
//
// Ends and seats: nothing that was there before the end is missed, and no holder of a
// seat races with the one before, in every schedule and in many at random.

#include <cstdint>
#include <string>

#include "doppel/tests/model/models.h"
#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel::model {
namespace {

using ::doppel::testing::LongCampaign;
using ::doppel::testing::Scaled;

class EndsModelTest : public ::testing::TestWithParam<NamedModel> {};

INSTANTIATE_TEST_SUITE_P(All, EndsModelTest, ::testing::ValuesIn(EndsModels()),
                         [](const auto& info) { return info.param.name; });

TEST_P(EndsModelTest, EverySchedule) {
  const NamedModel& model = GetParam();
  const Finding found = model.search_all(
      LongCampaign() ? model.switches_long : model.switches, kNoLimit);
  EXPECT_EQ(found.result, Result::kAllTried) << found.text;
  RecordProperty("executions", std::to_string(found.executions));
}

TEST_P(EndsModelTest, AtRandom) {
  const auto executions = static_cast<uint64_t>(Scaled(100'000, 3'000'000));
  const Finding found = GetParam().search_at_random(executions);
  EXPECT_EQ(found.result, Result::kNoneFound) << found.text;
  EXPECT_EQ(found.executions, executions);
}

}  // namespace
}  // namespace doppel::model
