// SPDX-License-Identifier: Apache-2.0
//
// A kernel without MADV_COLLAPSE, which is asked for once in a process's life: so each
// test here runs in a child, and this process itself never asks.

#include <cerrno>
#include <fstream>
#include <string>

#include "doppel/alloc/page_size.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/fault_plan.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Call;
using ::doppel::testing::Exited;
using ::doppel::testing::FaultPlan;
using ::doppel::testing::RunInChild;

// What the kernel is set to, without the library; empty where it lacks the file.
std::string ShmemEnabled() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string choice;
  while (file >> choice) {
    if (choice.front() == '[') return choice;
  }
  return "";
}

TEST(PageSizeCollapseTest, WithoutItTheSettingDecides) {
  const std::string choice = ShmemEnabled();
  if (choice.empty()) GTEST_SKIP() << "no transparent pages";
  const bool forbidden = choice == "[never]" || choice == "[deny]";
  for (const PageSize asked :
       {PageSize::Transparent(), PageSize::BestAvailable()}) {
    const int status = RunInChild([&] {
      const FaultPlan plan(
          {.call = Call::kMadvise, .nth = 1, .error = EINVAL, .sticky = true});
      const auto grant = GrantPageSize(asked, 0);
      if (!grant.ok() || !plan.fired()) return 1;
      const bool says_why =
          grant->reason.find("MADV_COLLAPSE") != std::string::npos;
      if (forbidden != (grant->granted == PageSize::Base())) return 2;
      if (forbidden != says_why) return 3;
      return 0;
    });
    EXPECT_TRUE(Exited(status, 0)) << asked.ToString() << ": " << status;
  }
}

TEST(PageSizeCollapseTest, AnAnswerThatCouldNotBeHadIsAskedForAgain) {
  const int status = RunInChild([] {
    {
      const FaultPlan plan(
          {.call = Call::kMadvise, .nth = 1, .error = EAGAIN, .sticky = true});
      if (!GrantPageSize(PageSize::Transparent(), 0).ok()) return 1;
    }
    const FaultPlan plan(
        {.call = Call::kMadvise, .nth = 1, .error = EINVAL, .sticky = true});
    if (!GrantPageSize(PageSize::Transparent(), 0).ok()) return 2;
    return plan.fired() ? 0 : 3;
  });
  EXPECT_TRUE(Exited(status, 0)) << status;
}

}  // namespace
}  // namespace doppel
