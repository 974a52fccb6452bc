// SPDX-License-Identifier: Apache-2.0
//
// Compares what the process holds before and after: descriptors and mappings.
//
//   LeakCheck before;  ──▶  { operation that fails }  ──▶  before.Unchanged()
//
// Invariants:
//   1. A descriptor counts by its number and what it refers to.
//   2. A mapping counts if the library could have made it: one of a memfd, or an
//      inaccessible reservation (PROT_NONE, anonymous). Under a sanitizer, whose
//      allocator makes such reservations too, only the first kind counts.
//
// Thread safety: the process must be quiet: no other thread opens or maps.
// Errors: none; a difference is listed line by line.
//
// Example:
//   LeakCheck before;
//   EXPECT_FALSE(Arena::Create(options).ok());
//   EXPECT_TRUE(before.Unchanged());

#ifndef DOPPEL_TESTS_SUPPORT_LEAK_CHECK_H_
#define DOPPEL_TESTS_SUPPORT_LEAK_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace doppel::testing {

// What the process holds, each item a line of text, sorted.
std::vector<std::string> OpenDescriptors();
std::vector<std::string> DoppelMappings();

// How many mappings the kernel counts against vm.max_map_count.
int64_t KernelMappings();

class LeakCheck {
 public:
  LeakCheck();

  // Success if descriptors and mappings are the ones that the constructor saw.
  ::testing::AssertionResult Unchanged() const;
  // The same, but reservations that show nothing do not count.
  ::testing::AssertionResult UnchangedButForReservations() const;

 private:
  std::vector<std::string> descriptors_;
  std::vector<std::string> mappings_;
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_LEAK_CHECK_H_
