// SPDX-License-Identifier: Apache-2.0
//
// What the wrappers of sys.h share: asking the hook, repeating on EINTR, turning
// errno into a status.
//
// Invariants:
//   1. The message is built on the error path only.
//
// Thread safety: all functions.
// Errors: Invoke leaves errno as the call, or the hook, set it.
//
// Example:
//   if (Invoke(Call::kDup, [&] { return dup(fd); }) < 0) return Failure(...);

#ifndef DOPPEL_ALLOC_INTERNAL_SYS_INVOKE_H_
#define DOPPEL_ALLOC_INTERNAL_SYS_INVOKE_H_

#include <atomic>
#include <cerrno>
#include <string>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel::internal::sys {

extern std::atomic<FaultHook*> fault_hook;

// Whether the hook makes this call fail; sets errno if so.
inline bool Injected(Call call) {
  FaultHook* hook = fault_hook.load(std::memory_order_relaxed);
  if (ABSL_PREDICT_TRUE(hook == nullptr)) return false;
  const int error = hook->ErrnoFor(call);
  if (error == 0) return false;
  errno = error;
  return true;
}

// The result of `function()`, or -1 with errno set by the hook.
template <class Function>
auto Invoke(Call call, Function function) -> decltype(function()) {
  using Result = decltype(function());
  if (ABSL_PREDICT_FALSE(Injected(call))) return static_cast<Result>(-1);
  Result result = function();
  while (result == static_cast<Result>(-1) && errno == EINTR) {
    result = function();
  }
  return result;
}

// `name(arguments): what errno means; what to do`.
ABSL_ATTRIBUTE_COLD absl::Status Failure(Call call, absl::string_view arguments,
                                         absl::string_view advice = {});

}  // namespace doppel::internal::sys

#endif  // DOPPEL_ALLOC_INTERNAL_SYS_INVOKE_H_
