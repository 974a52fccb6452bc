// SPDX-License-Identifier: Apache-2.0
//
// Operations on an SpscRing, of items of four kinds, with lines owned and not. Rings
// serve for many inputs: to make one takes longer than to run one.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/spsc_ring.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"
#include "doppel/tests/fuzz/ring_driver.h"

namespace doppel::fuzz {
namespace {

template <class T>
class SpscHost {
 public:
  struct Drop {
    bool writer = false;
    bool reader = false;
  };

  explicit SpscHost(LineOwnership owns) : ring_(Make(owns)) {}

  SpscRing<T>& Ring() { return ring_; }
  RingWriter<T> writer() { return ring_.writer(); }
  RingReader<T> reader() { return ring_.reader(); }
  bool EventsWork() const { return true; }

  // Handles stay valid when the ring is moved.
  Drop Rearrange(Input&, RingRecord&) {
    SpscRing<T> moved(std::move(ring_));
    ring_ = std::move(moved);
    return {};
  }
  void Rearranged() {}

 private:
  static SpscRing<T> Make(LineOwnership owns) {
    absl::StatusOr<SpscRing<T>> ring =
        SpscRing<T>::Create(1, {.line_ownership = owns});
    Require(ring.ok(), "a ring");
    Require(ring->owns_lines() == (owns == LineOwnership::kOn), "owns_lines");
    return *std::move(ring);
  }

  SpscRing<T> ring_;
};

// A ring is made anew now and then, with items in it: they end with it.
constexpr int kInputsPerRing = 4096;

template <class T, LineOwnership kOwns>
void Run(Input& input) {
  static std::optional<SpscHost<T>> host;
  static std::optional<RingRecord> record;
  static int inputs = 0;
  if (inputs++ % kInputsPerRing == 0) {
    if (host) {
      host->writer().try_push(ItemOf<T>(0));
      host->writer().try_push(ItemOf<T>(3));  // On the heap, if a string.
    }
    host.emplace(kOwns);
    record.emplace(host->Ring().capacity(), host->Ring().memory_bytes());
  }
  RingDriver<T, SpscHost<T>> driver(*host, *record);
  driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

template <class T>
void RunEither(bool owns, Input& input) {
  owns ? Run<T, LineOwnership::kOn>(input) : Run<T, LineOwnership::kOff>(input);
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace doppel::fuzz;
  Input input(data, size);
  const uint8_t kind = input.Byte();
  const bool owns = kind / 4 % 2 != 0;
  switch (kind % 4) {
    case 0:
      RunEither<uint8_t>(owns, input);
      break;
    case 1:
      RunEither<uint64_t>(owns, input);
      break;
    case 2:
      RunEither<Wide>(owns, input);
      break;
    default:
      RunEither<std::string>(owns, input);
  }
  return 0;
}
