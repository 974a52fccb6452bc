// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/cache_size.h"

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel::internal {
namespace {

// What /sys says, as "2048K"; 0 if it says nothing.
uint64_t CacheBytesOfSys() {
  const absl::StatusOr<std::string> size =
      sys::ReadFile("/sys/devices/system/cpu/cpu0/cache/index2/size");
  if (!size.ok()) return 0;
  absl::string_view digits = absl::StripSuffix(*size, "\n");
  const bool kibibytes = absl::ConsumeSuffix(&digits, "K");
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number)) return 0;
  return kibibytes ? number << 10 : number;
}

}  // namespace

uint64_t CacheBytes() {
  static const uint64_t bytes = [] {
    const uint64_t of_libc = sys::Level2CacheBytes();
    if (of_libc > 0) return of_libc;
    const uint64_t of_sys = CacheBytesOfSys();
    return of_sys > 0 ? of_sys : kUnknownCacheBytes;
  }();
  return bytes;
}

}  // namespace doppel::internal
