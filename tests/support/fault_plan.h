// SPDX-License-Identifier: Apache-2.0
//
// Makes chosen system calls fail, and walks every call that an operation makes.
//
//   prepare ─▶ count the calls ─▶ for each kind, n-th call, errno, once or for ever:
//              of one clean run     prepare ─▶ operate with that fault ─▶ check
//
// Invariants:
//   1. A plan takes effect from its construction to its destruction, and leaves
//      the hook that it found.
//   2. The errnos of a kind are those that its manual page lists (ErrnosOf), and
//      each walk interrupts each call once (EINTR): it must be repeated, and the
//      operation ends as if nothing had happened.
//
// Thread safety: the hook sees the calls of all threads; plans do not nest across
//   threads.
// Errors: what the walk finds wrong is a test failure that names the fault.
//
// Example:
//   FaultPlan plan({.call = Call::kMmap, .nth = 2, .error = ENOMEM});
//   EXPECT_FALSE(Mapping::Reserve(4096).ok());

#ifndef DOPPEL_TESTS_SUPPORT_FAULT_PLAN_H_
#define DOPPEL_TESTS_SUPPORT_FAULT_PLAN_H_

#include <array>
#include <atomic>
#include <cerrno>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "doppel/alloc/internal/sys.h"
#include "doppel/tests/support/child.h"
#include "doppel/tests/support/leak_check.h"
#include "gtest/gtest.h"

namespace doppel::testing {

using ::doppel::internal::sys::Call;

// The errnos that the manual page of the call lists, less EINTR (which is retried)
// and EBADF, EFAULT (a bug of the caller, not a condition of the machine; but of
// madvise it is what populating says where a touch would be SIGBUS).
std::span<const int> ErrnosOf(Call call);

struct Fault {
  Call call = Call::kMmap;
  int nth = 1;          // The n-th call of that kind fails, from 1.
  int error = 0;        // With this errno.
  bool sticky = false;  // So does every later one.

  bool interrupts() const { return error == EINTR; }
  std::string ToString() const;
};

// Installed for its life: fails the calls that `fault` names.
class FaultPlan final : public internal::sys::FaultHook {
 public:
  explicit FaultPlan(const Fault& fault);
  ~FaultPlan() override;
  FaultPlan(const FaultPlan&) = delete;
  FaultPlan& operator=(const FaultPlan&) = delete;

  int ErrnoFor(Call call) override;
  bool fired() const { return fired_; }
  // Whether the call that came next was of the same kind.
  bool repeated() const { return next_ == static_cast<int>(fault_.call); }

 private:
  static constexpr int kNone = -1;

  const Fault fault_;
  std::atomic<int> calls_{0};
  std::atomic<bool> fired_{false};
  std::atomic<int> next_{kNone};  // The call after the first that failed.
  internal::sys::FaultHook* const before_;  // Restored at the end.
};

// Installed for its life: counts calls, fails none.
class CallCounter final : public internal::sys::FaultHook {
 public:
  CallCounter();
  ~CallCounter() override;
  CallCounter(const CallCounter&) = delete;
  CallCounter& operator=(const CallCounter&) = delete;

  int ErrnoFor(Call call) override;
  int count(Call call) const { return counts_[static_cast<size_t>(call)]; }
  int total() const;

 private:
  std::array<std::atomic<int>, internal::sys::kCalls> counts_{};
  internal::sys::FaultHook* const before_;  // Restored at the end.
};

// Every fault of the n-th call of a kind: an interruption, then errors.
std::vector<Fault> FaultsOf(Call call, int nth);

// Every fault to inject into an operation that made these calls. At most
// `calls_each` calls of a kind are taken: the first ones and the last (but of read(2)).
std::vector<Fault> FaultsFor(const CallCounter& counter, int calls_each = 8);

// Fails each system call that `operate` makes, in turn.
//   prepare(): a fresh state; its calls never fail.
//   operate(state): the operation; what it returns goes to check.
//   failed(outcome): whether it says that it failed.
//   check(state, outcome): that contents are unchanged and the state usable.
// A failed operation must hold no descriptor and no mapping more than before, and
// none fewer, unless the call goes on failing: then it cannot undo what it did. And
// nothing may be left when the state is gone. An operation may also tolerate a fault
// and succeed. One that is only interrupted ends as it does without (no check is
// asked then). Returns how many faults were injected.
template <class Prepare, class Operate, class Failed, class Check>
int FailEachCall(Prepare prepare, Operate operate, Failed failed, Check check) {
  std::vector<Fault> faults;
  bool fails_anyway = false;
  {
    auto state = prepare();
    CallCounter counter;
    const auto outcome = operate(state);
    faults = FaultsFor(counter);
    fails_anyway = failed(outcome);
  }
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.ToString());
    const LeakCheck outer;
    {
      auto state = prepare();
      const LeakCheck inner;
      using Outcome = std::invoke_result_t<Operate, decltype(state)&>;
      std::optional<Outcome> outcome;
      {
        FaultPlan plan(fault);
        outcome.emplace(operate(state));
        EXPECT_TRUE(plan.fired());
        if (fault.interrupts()) {
          EXPECT_TRUE(plan.repeated());
        }
      }
      if (failed(*outcome) && !fault.sticky) {
        EXPECT_TRUE(inner.Unchanged());
      }
      if (fault.interrupts()) {
        EXPECT_EQ(failed(*outcome), fails_anyway);
      } else {
        check(state, *outcome);
      }
    }
    EXPECT_TRUE(outer.Unchanged());
    if (::testing::Test::HasFailure()) break;  // One report is enough.
  }
  return static_cast<int>(faults.size());
}

// Fails each system call that the end of an object makes, in turn. A destructor or an
// assignment can report nothing: what it cannot do stays undone.
//   prepare(): a fresh state; its calls never fail.
//   end(state): destroys or overwrites an object of the state.
//   check(state): that the rest of the state is as it was, and works.
// Nothing may be left when the state is gone, but for addresses whose munmap(2) is
// what fails: they are abandoned, as nobody is left who could try again, and show
// nothing any more. Returns how many faults were injected.
template <class Prepare, class End, class Check>
int FailEachCallOfEnd(Prepare prepare, End end, Check check) {
  std::vector<Fault> faults;
  {
    auto state = prepare();
    CallCounter counter;
    end(state);
    faults = FaultsFor(counter);
  }
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.ToString());
    const LeakCheck before;
    {
      auto state = prepare();
      {
        FaultPlan plan(fault);
        end(state);
        EXPECT_TRUE(plan.fired());
        if (fault.interrupts()) {
          EXPECT_TRUE(plan.repeated());
        }
      }
      check(state);
    }
    EXPECT_TRUE(fault.call == Call::kMunmap && !fault.interrupts()
                    ? before.UnchangedButForReservations()
                    : before.Unchanged());
    if (::testing::Test::HasFailure()) break;
  }
  return static_cast<int>(faults.size());
}

// Fails each system call that an operation makes in a process that makes it for the
// first time, and so asks what it asks once in its life. Each fault has a forked child
// of its own, which inherits only what this process has asked already.
//   operate(): the operation; what it returns goes to check.
//   check(fault, outcome): that the outcome is right, and that the process goes on.
// REQUIRES: this process never ran the operation. Returns how many faults were
// injected.
template <class Operate, class Check>
int FailEachFirstCall(Operate operate, Check check) {
  constexpr int kWrong = 1;
  constexpr int kNoSuchCall = 2;
  const auto in_child = [&](const Fault& fault) {
    std::optional<std::invoke_result_t<Operate>> outcome;
    {
      FaultPlan plan(fault);
      outcome.emplace(operate());
      if (!plan.fired()) return kNoSuchCall;
      if (fault.interrupts()) {
        EXPECT_TRUE(plan.repeated());
      }
    }
    check(fault, *outcome);
    return ::testing::Test::HasFailure() ? kWrong : 0;
  };
  int injected = 0;
  for (int call = 0; call < internal::sys::kCalls; ++call) {
    bool was_made = true;
    for (int nth = 1; was_made; ++nth) {
      for (const Fault& fault : FaultsOf(static_cast<Call>(call), nth)) {
        SCOPED_TRACE(fault.ToString());
        const int status = RunInChild([&] { return in_child(fault); });
        was_made = !Exited(status, kNoSuchCall);
        if (!was_made) break;
        ++injected;
        EXPECT_TRUE(Exited(status, 0)) << "wait status " << status;
        if (::testing::Test::HasFailure()) return injected;
      }
    }
  }
  return injected;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_FAULT_PLAN_H_
