// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/ring_end.h"

#include <cstdint>

#include "doppel/containers/internal/mirror.h"

namespace doppel::internal {

RingEnd EndOver(const Mirror& items, uint64_t item_bytes, RingSeat& seat,
                const Mirror& scratch, bool owns_lines) {
  const uint64_t bytes = items.size_bytes();
  return {
      .seat = &seat,
      .data = items.data(),
      .scratch = scratch.data(),
      // Of items that do not fill the pages, one view wraps at the last.
      .lap_bytes = items.views() == 2 ? bytes : bytes / item_bytes * item_bytes,
      .item_bytes = item_bytes,
      .owns_lines = owns_lines};
}

}  // namespace doppel::internal
