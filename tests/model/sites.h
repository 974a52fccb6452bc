// SPDX-License-Identifier: Apache-2.0
//
// The places in the protocol where a memory order is written, and what each may be
// weakened to.
//
//   mine_->position.store(position_, std::memory_order_release);
//          ────────┬──────────────────────────────────────────
//                  └ a site: ring_protocol.h:136:26, store, release
//                    its mutant: the same store, relaxed
//
// A site is known by std::source_location, which the model's atomics take as a default
// argument. So a site is found by running once, and a new atomic operation in the
// protocol is a new site, and new mutants, with no list to keep.
//
// Invariants:
//   1. At most one site is weakened at a time. With none, every order is as written.
//   2. A compare-exchange is two sites: where it succeeds, and where it fails.
//   3. A relaxed site has no mutant; a fence has one, which is none.
//   4. Nothing here takes memory from the heap: Relacy would count it as the model's.
//
// Thread safety: one thread; Relacy's threads are fibers of it.
// Errors: a source with more than kMaxSites sites ends the process.
//
// Example:
//   Sites::Weaken(mutant);
//   ... run a model ...
//   Sites::WeakenNothing();

#ifndef DOPPEL_TESTS_MODEL_SITES_H_
#define DOPPEL_TESTS_MODEL_SITES_H_

#include "doppel/tests/model/relacy.h"
//
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <source_location>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace doppel::model {

enum class Operation : uint8_t {
  kLoad,
  kStore,
  kReadModifyWrite,
  kFailedExchange,
  kLightFence,
  kHeavyFence,
};

inline absl::string_view NameOf(Operation operation) {
  constexpr std::array<absl::string_view, 6> kNames = {
      "load",        "store",      "read-modify-write", "failed exchange",
      "light fence", "heavy fence"};
  return kNames[static_cast<size_t>(operation)];
}

inline absl::string_view NameOf(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed:
      return "relaxed";
    case std::memory_order_consume:
      return "consume";
    case std::memory_order_acquire:
      return "acquire";
    case std::memory_order_release:
      return "release";
    case std::memory_order_acq_rel:
      return "acq_rel";
    case std::memory_order_seq_cst:
      return "seq_cst";
  }
  return "?";
}

struct Site {
  std::source_location where;
  Operation operation = Operation::kLoad;
  std::memory_order order = std::memory_order_relaxed;

  bool IsFence() const {
    return operation == Operation::kLightFence ||
           operation == Operation::kHeavyFence;
  }

  // The columns first: they differ nearly always, and this is a model's inner loop.
  bool Is(const std::source_location& other, Operation its) const {
    return where.line() == other.line() && where.column() == other.column() &&
           operation == its &&
           std::strcmp(where.file_name(), other.file_name()) == 0;
  }

  std::string Name() const {
    absl::string_view file = where.file_name();
    file.remove_prefix(file.rfind('/') + 1);
    return absl::StrCat(file, ":", where.line(), ":", where.column(), " ",
                        NameOf(operation),
                        IsFence() ? "" : absl::StrCat(" ", NameOf(order)));
  }
};

// A site with a weaker order: relaxed, for a fence, means that it is left out.
struct Mutant {
  static constexpr int kEachThread = -1;

  Site site;
  std::memory_order order = std::memory_order_relaxed;
  int thread = kEachThread;  // In which the site is weak.

  std::string Name() const {
    return absl::StrCat(
        site.Name(), " -> ", site.IsFence() ? "none" : NameOf(order),
        thread == kEachThread ? "" : absl::StrCat(" in thread ", thread));
  }
};

class Sites {
 public:
  static constexpr size_t kMaxSites = 256;

  // The order that holds at a site: the one that is written there, or a weaker one.
  static std::memory_order OrderAt(const std::source_location& where,
                                   Operation operation,
                                   std::memory_order written) {
    if (recording_) Record(where, operation, written);
    if (!weakens_ || !mutant_.site.Is(where, operation)) return written;
    if (mutant_.thread != Mutant::kEachThread &&
        mutant_.thread != static_cast<int>(rl::thread_index())) {
      return written;
    }
    return mutant_.order;
  }

  static bool FenceStandsAt(const std::source_location& where,
                            Operation operation) {
    return OrderAt(where, operation, std::memory_order_seq_cst) !=
           std::memory_order_relaxed;
  }

  static void Weaken(const Mutant& mutant) {
    mutant_ = mutant;
    weakens_ = true;
  }
  static void WeakenNothing() { weakens_ = false; }

  // Between them what is passed becomes known, and what was known is forgotten.
  static void BeginRecording() {
    count_ = 0;
    recording_ = true;
  }
  static void EndRecording() { recording_ = false; }
  static std::span<const Site> All() { return {sites_.data(), count_}; }

  // What may be tried in the place of `site`'s order, one step weaker and more.
  static std::span<const std::memory_order> WeakerThan(const Site& site) {
    using enum std::memory_order;
    static constexpr std::array kOfRmw = {acq_rel, acquire, release, relaxed};
    static constexpr std::array kOfLoad = {acquire, relaxed};
    static constexpr std::array kOfStore = {release, relaxed};
    if (site.order == relaxed) return {};
    if (site.IsFence()) return std::span(kOfLoad).last(1);
    if (site.order == acq_rel) return std::span(kOfRmw).last(3);
    if (site.order != seq_cst) return std::span(kOfLoad).last(1);
    switch (site.operation) {
      case Operation::kLoad:
      case Operation::kFailedExchange:
        return kOfLoad;
      case Operation::kStore:
        return kOfStore;
      default:
        return kOfRmw;
    }
  }

 private:
  static void Record(const std::source_location& where, Operation operation,
                     std::memory_order written) {
    for (const Site& site : All()) {
      if (site.Is(where, operation)) return;
    }
    if (count_ == kMaxSites) std::abort();
    sites_[count_++] = {where, operation, written};
  }

  inline static std::array<Site, kMaxSites> sites_ = {};
  inline static size_t count_ = 0;
  inline static Mutant mutant_ = {};
  inline static bool weakens_ = false;
  inline static bool recording_ = false;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_SITES_H_
