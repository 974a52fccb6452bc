// SPDX-License-Identifier: Apache-2.0
//
// Each model of each list: every schedule up to a number of switches, and many at random.

#include "doppel/tests/model/models.h"

#include <cstdint>
#include <string>

#include "doppel/tests/support/campaign.h"
#include "gtest/gtest.h"

namespace doppel::model {
namespace {

using ::doppel::testing::LongCampaign;
using ::doppel::testing::Scaled;
using ::testing::ValuesIn;

class Models : public ::testing::TestWithParam<NamedModel> {};

std::string NameOf(const ::testing::TestParamInfo<NamedModel>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Spsc, Models, ValuesIn(SpscModels()), NameOf);
INSTANTIATE_TEST_SUITE_P(Wait, Models, ValuesIn(WaitModels()), NameOf);
INSTANTIATE_TEST_SUITE_P(Event, Models, ValuesIn(EventModels()), NameOf);
INSTANTIATE_TEST_SUITE_P(Ends, Models, ValuesIn(EndsModels()), NameOf);
INSTANTIATE_TEST_SUITE_P(Mpsc, Models, ValuesIn(MpscModels()), NameOf);
INSTANTIATE_TEST_SUITE_P(Broadcast, Models, ValuesIn(BroadcastModels()),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Overwrite, Models, ValuesIn(OverwriteModels()),
                         NameOf);

TEST_P(Models, EverySchedule) {
  const NamedModel& model = GetParam();
  const Finding found = model.search_all(
      LongCampaign() ? model.switches_long : model.switches, kNoLimit);
  EXPECT_EQ(found.result, Result::kAllTried) << found.text;
  RecordProperty("executions", std::to_string(found.executions));
}

TEST_P(Models, AtRandom) {
  const auto executions = static_cast<uint64_t>(Scaled(100'000, 10'000'000));
  const Finding found = GetParam().search_at_random(executions);
  EXPECT_EQ(found.result, Result::kNoneFound) << found.text;
  EXPECT_EQ(found.executions, executions);
}

}  // namespace
}  // namespace doppel::model
