// SPDX-License-Identifier: Apache-2.0
//
// The atomics of ring_layout.h's StdAtomics, made so that Relacy sees each operation:
// loads may return what is stale as far as the memory order allows, and threads may
// be switched before each.
//
//   RingCursor<ModelAtomics> ── load(acquire) ──▶ Sites: weakened? ──▶ rl::atomic
//                            ── LightFence() ───▶ Sites: left out? ──▶ Execution
//
// Invariants:
//   1. Each operation is passed to Sites with the place at which it is written.
//   2. Values are kept as 64 bits, so that Relacy can print enumerations too.
//   3. A load in an exhaustive search returns the newest value or the one before; in
//      a random one, any of the last three (Relacy's atomic_history_size).
//
// Thread safety: one thread; Relacy's threads are fibers of it.
// Errors: Relacy ends the execution and says why.
//
// Example:
//   RingCursor writer = RingCursor<ModelAtomics>::Writer(&mine, &theirs, 2);

#ifndef DOPPEL_TESTS_MODEL_MODEL_ATOMICS_H_
#define DOPPEL_TESTS_MODEL_MODEL_ATOMICS_H_

#include "doppel/tests/model/relacy.h"
//
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <source_location>

#include "doppel/tests/model/execution.h"
#include "doppel/tests/model/sites.h"

namespace doppel::model {

inline rl::debug_info InfoOf(const std::source_location& where) {
  return {where.function_name(), where.file_name(), where.line()};
}

inline rl::memory_order OrderOf(const std::source_location& where,
                                Operation operation,
                                std::memory_order written) {
  switch (Sites::OrderAt(where, operation, written)) {
    case std::memory_order_relaxed:
      return rl::mo_relaxed;
    case std::memory_order_consume:
      return rl::mo_consume;
    case std::memory_order_acquire:
      return rl::mo_acquire;
    case std::memory_order_release:
      return rl::mo_release;
    case std::memory_order_acq_rel:
      return rl::mo_acq_rel;
    case std::memory_order_seq_cst:
      break;
  }
  return rl::mo_seq_cst;
}

// While it lives, threads may be switched where the word is shared, and not elsewhere.
class SwitchPoint {
 public:
  explicit SwitchPoint(size_t word) : shared_(Execution::IsShared(word)) {
    if (!shared_) rl::ctx().disable_preemption();
  }
  ~SwitchPoint() {
    if (!shared_) rl::ctx().enable_preemption();
  }
  // For what is no rl::atomic.
  static void Here(size_t word) {
    if (Execution::IsShared(word)) rl::ctx().sched();
  }
  SwitchPoint(const SwitchPoint&) = delete;
  SwitchPoint& operator=(const SwitchPoint&) = delete;

 private:
  const bool shared_;
};

template <class T>
class ModelAtomic {
 public:
  using Where = std::source_location;
  using Order = std::memory_order;

  ModelAtomic() : ModelAtomic(T{}) {}
  ModelAtomic(T value) : word_(Raw(value)), ordinal_(Execution::AddWord()) {}
  ModelAtomic(const ModelAtomic&) = delete;
  ModelAtomic& operator=(const ModelAtomic&) = delete;

  T load(Order order = Order::seq_cst, Where where = Where::current()) const {
    const SwitchPoint point(ordinal_);
    return Cooked(
        word_.load(OrderOf(where, Operation::kLoad, order), InfoOf(where)));
  }

  void store(T value, Order order = Order::seq_cst,
             Where where = Where::current()) {
    const SwitchPoint point(ordinal_);
    word_.store(Raw(value), OrderOf(where, Operation::kStore, order),
                InfoOf(where));
  }

  T exchange(T value, Order order = Order::seq_cst,
             Where where = Where::current()) {
    const SwitchPoint point(ordinal_);
    return Cooked(word_.exchange(
        Raw(value), OrderOf(where, Operation::kReadModifyWrite, order),
        InfoOf(where)));
  }

  T fetch_add(T value, Order order = Order::seq_cst,
              Where where = Where::current()) {
    const SwitchPoint point(ordinal_);
    return Cooked(word_.fetch_add(
        Raw(value), OrderOf(where, Operation::kReadModifyWrite, order),
        InfoOf(where)));
  }

  T fetch_sub(T value, Order order = Order::seq_cst,
              Where where = Where::current()) {
    const SwitchPoint point(ordinal_);
    return Cooked(word_.fetch_sub(
        Raw(value), OrderOf(where, Operation::kReadModifyWrite, order),
        InfoOf(where)));
  }

  T fetch_or(T value, Order order = Order::seq_cst,
             Where where = Where::current()) {
    const SwitchPoint point(ordinal_);
    return Cooked(word_.fetch_or(
        Raw(value), OrderOf(where, Operation::kReadModifyWrite, order),
        InfoOf(where)));
  }

  bool compare_exchange_strong(T& expected, T value, Order success,
                               Order failure, Where where = Where::current()) {
    return Exchange<false>(expected, value, success, failure, where);
  }
  bool compare_exchange_weak(T& expected, T value, Order success, Order failure,
                             Where where = Where::current()) {
    return Exchange<true>(expected, value, success, failure, where);
  }
  bool compare_exchange_strong(T& expected, T value,
                               Order order = Order::seq_cst,
                               Where where = Where::current()) {
    return Exchange<false>(expected, value, order, OfFailure(order), where);
  }
  bool compare_exchange_weak(T& expected, T value, Order order = Order::seq_cst,
                             Where where = Where::current()) {
    return Exchange<true>(expected, value, order, OfFailure(order), where);
  }

  // The newest value, whatever the caller has seen: what the kernel reads.
  T Newest() const { return Cooked(word_.debug_value()); }

  // For a SwitchPoint of the caller.
  size_t ordinal() const { return ordinal_; }

 private:
  static uint64_t Raw(T value) { return static_cast<uint64_t>(value); }
  static T Cooked(uint64_t value) { return static_cast<T>(value); }

  static Order OfFailure(Order order) {
    if (order == Order::acq_rel) return Order::acquire;
    if (order == Order::release) return Order::relaxed;
    return order;
  }

  // Relacy wants the order of failure no stronger than that of success. The standard
  // no longer does, but a mutant that breaks it would stop Relacy, not the protocol.
  template <bool kWeak>
  bool Exchange(T& expected, T value, Order success, Order failure,
                const Where& where) {
    const SwitchPoint point(ordinal_);
    uint64_t found = Raw(expected);
    const rl::memory_order on_failure =
        OrderOf(where, Operation::kFailedExchange, failure);
    rl::memory_order on_success =
        OrderOf(where, Operation::kReadModifyWrite, success);
    if (on_failure == rl::mo_acquire && on_success == rl::mo_relaxed) {
      on_success = rl::mo_acquire;
    }
    if (on_failure == rl::mo_acquire && on_success == rl::mo_release) {
      on_success = rl::mo_acq_rel;
    }
    const bool done =
        word_.compare_exchange(rl::bool_t<kWeak>(), found, Raw(value),
                               on_success, on_failure, InfoOf(where));
    expected = Cooked(found);
    return done;
  }

  rl::atomic<uint64_t> word_;
  const size_t ordinal_;
};

struct ModelAtomics {
  template <class T>
  using Atomic = ModelAtomic<T>;

  static void LightFence(
      const std::source_location& where = std::source_location::current()) {
    if (Sites::FenceStandsAt(where, Operation::kLightFence)) {
      Execution::LightFence();
    }
  }
};

// The other half of LightFence: in the library, a system call.
inline void HeavyFence(
    const std::source_location& where = std::source_location::current()) {
  if (Sites::FenceStandsAt(where, Operation::kHeavyFence)) {
    Execution::HeavyFence();
  }
}

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_MODEL_ATOMICS_H_
