// SPDX-License-Identifier: Apache-2.0
//
// Operations on both sides of a guarded ring in one process, of items of three kinds.
// The two sides say of each other what each says of itself.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/guarded_ring.h"
#include "doppel/containers/ring_options.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"
#include "doppel/tests/fuzz/ring_driver.h"

namespace doppel::fuzz {
namespace {

bool AreSame(const RingStatistics& a, const RingStatistics& b) {
  return a.pushed == b.pushed && a.popped == b.popped &&
         a.push_refusals == b.push_refusals && a.push_stalls == b.push_stalls &&
         a.pop_refusals == b.pop_refusals && a.pop_stalls == b.pop_stalls &&
         a.high_water == b.high_water;
}

template <class T>
class GuardedHost {
 public:
  struct Drop {
    bool writer = false;
    bool reader = false;
  };

  // Both sides, as one ring.
  class View {
   public:
    explicit View(const GuardedHost& host) : host_(host) {}
    RingStatistics statistics() const {
      const RingStatistics said = host_.producer_->statistics();
      Require(AreSame(said, host_.consumer_->statistics()),
              "both sides say the same");
      return said;
    }
    uint64_t size() const {
      const RingStatistics said = statistics();
      return said.pushed - said.popped;
    }
    bool empty() const { return size() == 0; }

   private:
    const GuardedHost& host_;
  };

  GuardedHost() {
    absl::StatusOr<GuardedProducer<T>> producer = GuardedProducer<T>::Create(1);
    Require(producer.ok(), "a producer");
    producer_.emplace(*std::move(producer));
    Require(!producer_->writer().ok(), "nobody was accepted");
    absl::StatusOr<GuardedConsumer<T>> consumer =
        GuardedConsumer<T>::Attach(*producer_->Invite());
    Require(consumer.ok(), "a consumer");
    consumer_.emplace(*std::move(consumer));
    Require(producer_->Accept().ok(), "the consumer is accepted");
    Require(producer_->capacity() == consumer_->capacity(), "capacity");
    Require(producer_->memory_bytes() == consumer_->memory_bytes(), "memory");
  }

  View Ring() const { return View(*this); }
  size_t capacity() const { return producer_->capacity(); }
  size_t memory_bytes() const { return producer_->memory_bytes(); }
  RingWriter<T> writer() { return *producer_->writer(); }
  RingReader<T> reader() { return *consumer_->reader(); }
  bool EventsWork() const { return true; }

  // Handles stay valid when a side is moved.
  Drop Rearrange(Input& input, RingRecord&) {
    if (input.Byte() % 2 == 0) {
      GuardedProducer<T> moved(*std::move(producer_));
      *producer_ = std::move(moved);
    } else {
      GuardedConsumer<T> moved(*std::move(consumer_));
      *consumer_ = std::move(moved);
    }
    Require(!producer_->peer_gone() && !consumer_->peer_gone(), "peer_gone");
    Require(!producer_->Invite().ok(), "the ring is for one consumer");
    return {};
  }
  void Rearranged() {}

 private:
  std::optional<GuardedProducer<T>> producer_;
  std::optional<GuardedConsumer<T>> consumer_;
};

// A ring is made anew now and then, with an item in it.
constexpr int kInputsPerRing = 4096;

template <class T>
void Run(Input& input) {
  static std::optional<GuardedHost<T>> host;
  static std::optional<RingRecord> record;
  static int inputs = 0;
  if (inputs++ % kInputsPerRing == 0) {
    if (host) host->writer().try_push(ItemOf<T>(0));
    host.emplace();
    record.emplace(host->capacity(), host->memory_bytes());
  }
  RingDriver<T, GuardedHost<T>> driver(*host, *record);
  driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using doppel::fuzz::Input;
  using doppel::fuzz::Run;
  using doppel::fuzz::Wide;
  Input input(data, size);
  switch (input.Byte() % 3) {
    case 0:
      Run<uint8_t>(input);
      break;
    case 1:
      Run<uint64_t>(input);
      break;
    default:
      Run<Wide>(input);
  }
  return 0;
}
