// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/internal/shared_orphans.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/alloc/arena.h"
#include "doppel/alloc/memfd.h"
#include "doppel/containers/internal/shared_locks.h"
#include "doppel/containers/ring_layout.h"

namespace doppel::internal {
namespace {

struct Orphan {
  SharedPages pages;
  SharedLocks locks;
  Orphan* next = nullptr;

  bool EndIfFree() {
    if (!locks.is_open()) return false;  // A forked child's copy.
    const std::optional<SharedLocks::Turn> turn = locks.TryTurn();
    return turn.has_value() && EndRingIfFree(locks, *pages.words);
  }
};

// A list that is taken whole, and whose members are put back one by one: a lock could be
// held over a fork(2) by a thread that the child has not.
constinit std::atomic<Orphan*> g_orphans{nullptr};

void Put(Orphan* orphan) {
  orphan->next = g_orphans.load(std::memory_order_relaxed);
  while (!g_orphans.compare_exchange_weak(orphan->next, orphan,
                                          std::memory_order_release,
                                          std::memory_order_relaxed)) {
  }
}

}  // namespace

bool EndRingIfFree(const SharedLocks& locks, RingHeader<>& words) {
  const absl::StatusOr<bool> held = locks.AreHeldElsewhere();
  if (!held.ok() || *held) return false;
  std::atomic_ref<uint64_t>(words.identity.number)
      .store(0, std::memory_order_relaxed);
  return true;
}

void KeepUntilFree(SharedPages pages) noexcept {
  try {
    auto orphan = std::make_unique<Orphan>();
    if (orphan->locks
            .Open(pages.header.arena()->memfd().fd(),
                  pages.header.offset_bytes())
            .ok()) {
      orphan->pages = std::move(pages);
      Put(orphan.release());
      return;
    }
  } catch (const std::bad_alloc&) {
    // The pages are lost, which is better than that two use them.
  }
  pages.header.Forget();
  pages.items.Forget();
}

void GiveBackOrphans() noexcept {
  Orphan* orphan = g_orphans.exchange(nullptr, std::memory_order_acquire);
  while (orphan != nullptr) {
    Orphan* const next = orphan->next;
    if (orphan->EndIfFree()) {
      delete orphan;
    } else {
      Put(orphan);
    }
    orphan = next;
  }
}

}  // namespace doppel::internal
