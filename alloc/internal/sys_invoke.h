// SPDX-License-Identifier: Apache-2.0
//
// What the wrappers of sys.h share: asking the hook, repeating on EINTR, turning
// errno into a status.
//
// Invariants:
//   1. The message is built on the error path only.
//   2. It tells of the errno that the call left, whatever building it does to errno
//      (malloc may set it and succeed).
//
// Thread safety: all functions.
// Errors: after Invoke or InvokeOnce gave -1, CallErrno() says why.
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
  FaultHook* hook = fault_hook.load(std::memory_order_acquire);
  if (ABSL_PREDICT_TRUE(hook == nullptr)) return false;
  const int error = hook->ErrnoFor(call);
  if (error == 0) return false;
  errno = error;
  return true;
}

// The errno of this thread's last Invoke or InvokeOnce that gave -1.
int CallErrno();
ABSL_ATTRIBUTE_COLD void SaveCallErrno();

// The result of `function()`, or -1 if the hook wants it so.
template <class Function>
auto InvokeOnce(Call call, Function function) -> decltype(function()) {
  using Result = decltype(function());
  const Result result =
      ABSL_PREDICT_FALSE(Injected(call)) ? static_cast<Result>(-1) : function();
  if (ABSL_PREDICT_FALSE(result == static_cast<Result>(-1))) SaveCallErrno();
  return result;
}

// The same, repeated for as long as a signal interrupts it (signal(7)).
template <class Function>
auto Invoke(Call call, Function function) -> decltype(function()) {
  for (;;) {
    const auto result = InvokeOnce(call, function);
    if (result != static_cast<decltype(result)>(-1) || CallErrno() != EINTR) {
      return result;
    }
  }
}

// `name(arguments): what CallErrno() means; what to do`.
ABSL_ATTRIBUTE_COLD absl::Status Failure(Call call, absl::string_view arguments,
                                         absl::string_view advice = {});

}  // namespace doppel::internal::sys

#endif  // DOPPEL_ALLOC_INTERNAL_SYS_INVOKE_H_
