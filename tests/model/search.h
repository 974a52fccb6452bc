// SPDX-License-Identifier: Apache-2.0
//
// Runs a model through Relacy: every schedule there is, or as many as one asks for.
//
//   struct Counter : Model<Counter, 2> {      two threads
//     ModelAtomic<int> count;                 made anew for each execution
//     void thread(unsigned index) { ... }     runs as fiber 0 and fiber 1
//     void Check() { ... }                    after both
//   };
//
// Invariants:
//   1. A search depends on the model and on the weakened site only: run again, it
//      finds the same.
//   2. A search that fails is run again from the execution that failed, to say what
//      happened in it.
//
// Thread safety: one search at a time.
// Errors: in the Finding. A data race, a failed RL_ASSERT, a deadlock and a loop
//   without end are faults.
//
// Example:
//   const Finding found = SearchAll<Counter>();
//   EXPECT_EQ(found.result, Result::kAllTried) << found.text;

#ifndef DOPPEL_TESTS_MODEL_SEARCH_H_
#define DOPPEL_TESTS_MODEL_SEARCH_H_

#include "doppel/tests/model/relacy.h"
//
#include <cstdint>
#include <ostream>
#include <string>

#include "doppel/tests/model/execution.h"
#include "doppel/tests/model/models.h"

namespace doppel::model {

template <class Derived, int kThreads>
struct Model : rl::test_suite<Derived, kThreads> {
  Model() { Execution::Begin(); }
  void before() { Execution::Run(); }
  void after() {
    Execution::End();
    static_cast<Derived*>(this)->Check();
  }
  void Check() {}
};

namespace internal {

template <class M, class Scheduler>
Finding Search(rl::test_params params, bool exhaustive) {
  std::ostream nowhere(nullptr);
  params.progress_stream = &nowhere;
  // Relacy's own streams: they do not take memory by operator new, which is Relacy's.
  rl::ostringstream state;
  rl::ostringstream text;
  params.output_stream = &text;
  rl::test_result_e result = rl::test_result_success;
  do {
    Execution::Restart();
    state.str("");
    result = rl::run_test<M, Scheduler>(params, state, false);
  } while (Execution::BeganAnew());

  Finding finding;
  finding.executions = Execution::Count();
  if (result == rl::test_result_success) {
    if (!exhaustive) finding.result = Result::kNoneFound;
    return finding;
  }
  if (result == rl::test_result_until_condition_hit) {
    --finding.executions;  // The last one only found that it was too many.
    finding.result = Result::kNoneFound;
    return finding;
  }
  finding.result = Result::kFault;
  finding.fault = rl::test_result_str(result);
  params.initial_state = state.str();
  params.collect_history = true;
  Execution::Restart();
  rl::run_test<M, Scheduler>(params, state, true);
  finding.text = text.str().c_str();
  return finding;
}

}  // namespace internal

// Every schedule with at most so many switches, or the first `limit` of them.
template <class M>
Finding SearchAll(unsigned switches = kAnyNumber, uint64_t limit = kNoLimit) {
  constexpr rl::thread_id_t kThreads = M::params::thread_count;
  rl::test_params params;
  Execution::Forget(limit);
  if (switches == kAnyNumber) {
    params.search_type = rl::fair_full_search_scheduler_type;
    return internal::Search<M, rl::full_search_scheduler<kThreads>>(params,
                                                                    true);
  }
  params.search_type = rl::fair_context_bound_scheduler_type;
  params.context_bound = switches;
  return internal::Search<M, rl::context_bound_scheduler<kThreads>>(params,
                                                                    true);
}

template <class M>
Finding SearchAtRandom(uint64_t executions) {
  rl::test_params params;
  params.search_type = rl::random_scheduler_type;
  params.iteration_count = executions;
  Execution::Forget(kNoLimit);
  return internal::Search<M, rl::random_scheduler<M::params::thread_count>>(
      params, false);
}

template <class M>
constexpr NamedModel Named(const char* name, unsigned switches,
                           unsigned switches_long) {
  return {name, switches, switches_long, SearchAll<M>, SearchAtRandom<M>};
}

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_SEARCH_H_
