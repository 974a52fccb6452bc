// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/mpsc_shared.h"

#include <atomic>
#include <cstdint>

#include "doppel/alloc/internal/sys.h"
#include "doppel/containers/internal/mpsc_frame.h"
#include "doppel/containers/internal/mpsc_protocol.h"

namespace doppel::internal {

void MpscShared::Looked(uint64_t position, uint64_t used_bytes, bool full) {
  if (full) {
    refusals.fetch_add(1, std::memory_order_relaxed);
    if (refused_position.exchange(position, std::memory_order_relaxed) !=
        position) {
      stalls.fetch_add(1, std::memory_order_relaxed);
    }
  }
  uint64_t most = high_water_bytes.load(std::memory_order_relaxed);
  while (most < used_bytes && !high_water_bytes.compare_exchange_weak(
                                  most, used_bytes, std::memory_order_relaxed,
                                  std::memory_order_relaxed)) {
  }
}

void LeaveProducer(MpscShared* shared, uint64_t* header, uint64_t open_bytes,
                   EventSeat* event, bool has_closed) noexcept {
  if (shared == nullptr) return;
  if (open_bytes != 0 && shared->owner_process == sys::ProcessId()) {
    MpscProducerCursor<>::Commit(
        0, MpscHeader::Skip(open_bytes),
        [header](uint64_t) { return std::atomic_ref<uint64_t>(*header); });
    shared->committed.Notify();
  }
  if (!has_closed && shared->senders.Go()) shared->committed.Notify();
  if (event != nullptr) event->Leave();
  shared->producers.fetch_sub(1, std::memory_order_release);
}

}  // namespace doppel::internal
