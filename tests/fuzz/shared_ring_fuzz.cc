// SPDX-License-Identifier: Apache-2.0
//
// Operations on a SharedRing through two attachments in one process, which are dropped
// and made anew in between. That is slow, so that few inputs may do it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_options.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/fuzz/input.h"
#include "doppel/tests/fuzz/items.h"
#include "doppel/tests/fuzz/ring_driver.h"

namespace doppel::fuzz {
namespace {

template <class T>
class SharedHost {
 public:
  struct Drop {
    bool writer = false;
    bool reader = false;
  };

  explicit SharedHost(LineOwnership owns) : owns_(owns) {
    absl::StatusOr<SharedRing<T>> made =
        SharedRing<T>::Create(1, {.line_ownership = owns});
    Require(made.ok(), "a ring");
    rings_[0].emplace(*std::move(made));
    Attach(1);
  }

  SharedRing<T>& Ring() { return *rings_[0]; }

  RingWriter<T> writer() {
    CheckRefused(writer_at_, &SharedRing<T>::writer);
    return *rings_[writer_at_]->writer();
  }
  RingReader<T> reader() {
    CheckRefused(reader_at_, &SharedRing<T>::reader);
    return *rings_[reader_at_]->reader();
  }

  // The link does not lead to a side of the same attachment.
  bool EventsWork() const { return writer_at_ != reader_at_; }

  void MayAttach(int times) { attaches_ = times; }

  // Moves the rings, or drops an attachment: its sides are the other's from then on,
  // or go to the one that comes in its place.
  Drop Rearrange(Input& input, RingRecord& record) {
    const uint8_t how = input.Byte();
    dropped_ = how % 2;
    is_left_ = attaches_ <= 0 || how >= 192;
    if (is_left_) return {};
    --attaches_;
    const Drop drop = {.writer = writer_at_ == dropped_,
                       .reader = reader_at_ == dropped_};
    if (drop.writer) {
      if (how % 4 >= 2) writer_at_ = 1 - dropped_;
      record.written_at = nullptr;
    }
    if (drop.reader) {
      if (how % 8 >= 4) reader_at_ = 1 - dropped_;
      record.read_at = nullptr;
    }
    // The survivor invites the new one: its event is another from then on.
    for (RingModel::Side* side :
         {&record.model.writer(), &record.model.reader()}) {
      side->armed = false;
      side->event_due = false;
    }
    // A watch is the attachment's.
    if (drop.writer) record.model.writer().stalled = false;
    if (drop.reader) record.model.reader().stalled = false;
    return drop;
  }

  void Rearranged() {
    if (is_left_) {
      SharedRing<T> moved(*std::move(rings_[dropped_]));
      *rings_[dropped_] = std::move(moved);
      return;
    }
    rings_[dropped_].reset();
    Attach(dropped_);
  }

 private:
  void Attach(size_t i) {
    absl::StatusOr<RingInvitation> invitation = rings_[1 - i]->Invite();
    Require(invitation.ok(), "an invitation");
    absl::StatusOr<SharedRing<T>> ring = SharedRing<T>::Attach(
        *std::move(invitation), {.line_ownership = owns_});
    Require(ring.ok(), "an attachment");
    Require(ring->capacity() == rings_[1 - i]->capacity(), "capacity");
    rings_[i].emplace(*std::move(ring));
  }

  // Of each side there is one attachment at a time.
  template <class Make>
  void CheckRefused(size_t holder, Make make) {
    if (++claims_ % 64 != 0) return;  // A system call.
    Require((*rings_[holder].*make)().ok(), "the holder may have it again");
    Require((*rings_[1 - holder].*make)().status().code() ==
                absl::StatusCode::kFailedPrecondition,
            "the other one is refused");
  }

  LineOwnership owns_;
  std::array<std::optional<SharedRing<T>>, 2> rings_;
  size_t writer_at_ = 0;  // Which attachment has the side.
  size_t reader_at_ = 1;
  int attaches_ = 0;    // How many this input has left.
  size_t dropped_ = 0;  // What Rearrange chose.
  bool is_left_ = false;
  uint64_t claims_ = 0;
};

constexpr int kInputsPerRing = 4096;

template <class T>
void Run(Input& input, int attaches) {
  static std::optional<SharedHost<T>> host;
  static std::optional<RingRecord> record;
  static int inputs = 0;
  if (inputs++ % kInputsPerRing == 0) {
    const bool owns = inputs / kInputsPerRing % 2 != 0;
    host.emplace(owns ? LineOwnership::kOn : LineOwnership::kOff);
    record.emplace(host->Ring().capacity(), host->Ring().memory_bytes());
  }
  host->MayAttach(attaches);
  RingDriver<T, SharedHost<T>> driver(*host, *record);
  driver.Start(input);
  while (!input.empty()) driver.Step(input);
  driver.Finish();
}

}  // namespace
}  // namespace doppel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace doppel::fuzz;
  Input input(data, size);
  const uint8_t kind = input.Byte();
  // To attach takes as long as a hundred other operations. One input of sixteen may do
  // it, by a sum of its bytes: what comes of such an input by mutation mostly may not.
  uint64_t sum = 0;
  for (size_t i = 0; i < size; ++i) sum = (sum + data[i]) * 0x9e3779b97f4a7c15;
  const int attaches = sum >> 60 == 0 ? 3 : 0;
  kind % 2 == 0 ? Run<uint8_t>(input, attaches) : Run<Wide>(input, attaches);
  return 0;
}
