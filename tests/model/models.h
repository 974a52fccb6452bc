// SPDX-License-Identifier: Apache-2.0
//
// The models by name, for whoever runs them all.
//
//   SpscModels()  writer and reader, who never wait      spsc_model.h
//   WaitModels()  writer and reader, who sleep           wait_model.h
//   EventModels() threads that sleep by an event count   event_model.h
//   EndsModels()  ends of sides, and seats with one holder  ends_model.h
//   MpscModels()  two producers and a consumer           mpsc_model.h
//   BroadcastModels()  a writer and readers that come and go  broadcast_model.h
//   OverwriteModels()  a writer that overwrites, and a reader broadcast_model.h
//       each ── search_all, search_at_random ──▶ Finding
//
// Relacy is not included here: each model is compiled once, in the file of its list.
//
// Invariants:
//   1. kAllTried means that every schedule was tried, up to the number of switches that
//      was asked for, with every value that a load may return (model_atomics.h says
//      which), and that none failed.
//
// Thread safety: one search at a time.
// Errors: in the Finding. A data race, a failed assertion, a deadlock and a loop without
//   end are faults.
//
// Example:
//   for (const NamedModel& model : SpscModels()) model.search_at_random(1'000);

#ifndef DOPPEL_TESTS_MODEL_MODELS_H_
#define DOPPEL_TESTS_MODEL_MODELS_H_

#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace doppel::model {

enum class Result : uint8_t {
  kAllTried,   // No fault in any schedule.
  kNoneFound,  // No fault in as many as were asked for.
  kFault,
};

struct Finding {
  Result result = Result::kAllTried;
  uint64_t executions = 0;
  std::string fault;  // Relacy's name for it.
  std::string text;   // The execution that failed, operation by operation.
};

// How often threads that could have gone on may be switched in one execution.
inline constexpr unsigned kAnyNumber = std::numeric_limits<unsigned>::max();

// In executions.
inline constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

struct NamedModel {
  const char* name;
  // How many switches the exhaustive search tries, in short and in long campaigns.
  unsigned switches;
  unsigned switches_long;
  Finding (*search_all)(unsigned switches, uint64_t limit);
  Finding (*search_at_random)(uint64_t executions);
};

std::span<const NamedModel> SpscModels();
std::span<const NamedModel> WaitModels();
std::span<const NamedModel> EventModels();
std::span<const NamedModel> EndsModels();
std::span<const NamedModel> MpscModels();
std::span<const NamedModel> BroadcastModels();
std::span<const NamedModel> OverwriteModels();

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_MODELS_H_
