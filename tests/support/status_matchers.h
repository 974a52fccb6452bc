// SPDX-License-Identifier: Apache-2.0
//
// Matchers for absl::Status and absl::StatusOr, which the packaged Abseil lacks.
//
// Invariants:
//   1. A failing match prints the whole status, code and message.
//
// Thread safety: stateless.
// Errors: none.
//
// Example:
//   EXPECT_THAT(arena.Allocate(0), StatusIs(absl::StatusCode::kInvalidArgument,
//                                           HasSubstr("0 bytes")));

#ifndef DOPPEL_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define DOPPEL_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"

namespace doppel::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}

template <class T>
const absl::Status& StatusOf(const absl::StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.ok();
}

// The code and a matcher for the message.
MATCHER_P2(StatusIs, code, message, "") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::Matches(message)(std::string(status.message()));
}

MATCHER_P(StatusIs, code, "") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.code() == code;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_STATUS_MATCHERS_H_
