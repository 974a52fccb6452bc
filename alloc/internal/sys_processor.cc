// SPDX-License-Identifier: Apache-2.0

#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/internal/sys_invoke.h"

namespace doppel::internal::sys {

static_assert(ProcessorSet().size() == CPU_SETSIZE);

ProcessorSet AllowedProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (Invoke(Call::kSchedGetaffinity,
             [&] { return sched_getaffinity(0, sizeof(set), &set); }) != 0) {
    return {};
  }
  ProcessorSet processors;
  for (size_t i = 0; i < processors.size(); ++i) {
    processors[i] = CPU_ISSET(i, &set);
  }
  return processors;
}

bool KeepOn(pthread_t thread, const ProcessorSet& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t i = 0; i < processors.size(); ++i) {
    if (processors[i]) CPU_SET(i, &set);
  }
  return Invoke(Call::kSchedSetaffinity, [&] {
           errno = pthread_setaffinity_np(thread, sizeof(set), &set);
           return errno == 0 ? 0 : -1;
         }) == 0;
}

int CurrentProcessor() { return sched_getcpu(); }

std::string ThreadsOfCore(int processor) {
  absl::StatusOr<std::string> threads =
      ReadFile(absl::StrCat("/sys/devices/system/cpu/cpu", processor,
                            "/topology/thread_siblings_list"));
  return threads.ok() ? *std::move(threads) : std::string();
}

}  // namespace doppel::internal::sys
