// SPDX-License-Identifier: Apache-2.0
//
// Loops as users write them, to be compiled and looked at (registers_test.sh).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/broadcast_ring.h"
#include "doppel/containers/message.h"
#include "doppel/containers/mpsc_ring.h"
#include "doppel/containers/overwriting_ring.h"
#include "doppel/containers/ring_wait.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel {

using Number = uint64_t;

void PushEach(SpscRing<Number>& ring, Number n) {
  RingWriter<Number> writer = ring.writer();
  for (Number i = 0; i < n; ++i) {
    while (!writer.try_push(i)) {
      if (writer.wait() != RingWait::kReady) return;
    }
  }
  writer.close();
}

Number PopEach(SpscRing<Number>& ring) {
  RingReader<Number> reader = ring.reader();
  Number sum = 0;
  do {
    while (const std::optional<Number> item = reader.try_pop()) sum += *item;
  } while (reader.wait() == RingWait::kReady);
  return sum;
}

void PushBatches(SpscRing<Number>& ring, std::span<const Number> items) {
  RingWriter<Number> writer = ring.writer();
  while (!items.empty()) {
    items = items.subspan(writer.push(items));
    const std::span<Number> slots = writer.reserve(2);
    if (slots.empty()) continue;
    slots[0] = items.size();
    writer.commit(1);
  }
}

Number PopBatches(SpscRing<Number>& ring) {
  RingReader<Number> reader = ring.reader();
  Number sum = 0;
  while (reader.status().ok()) {
    for (const Number item : reader.peek()) sum += item;
    reader.consume(reader.known());
    std::array<Number, 64> items;
    sum += reader.pop(items);
  }
  return sum;
}

absl::Status PopShared(SharedRing<Number>& ring, Number& sum) {
  absl::StatusOr<RingReader<Number>> made = ring.reader();
  if (!made.ok()) return made.status();
  RingReader<Number> reader = *std::move(made);
  Number item = 0;
  while (reader.wait() == RingWait::kReady) {
    while (reader.try_pop(item)) sum += item;
  }
  return reader.status();
}

void PushMessages(SpscRing<>& ring, std::span<const std::byte> message) {
  MessageWriter writer(ring.writer());
  for (;;) {
    while (writer.push(message) == RingRoom::kRoom) {
    }
    if (writer.wait(message.size()) != RingWait::kReady) return;
  }
}

Number PopMessages(SpscRing<>& ring) {
  MessageReader reader(ring.reader());
  Number bytes = 0;
  while (reader.wait() == RingWait::kReady) {
    while (const auto message = reader.next()) bytes += message->size();
    reader.release();
  }
  return bytes;
}

void Broadcast(BroadcastRing<Number>& ring, Number n) {
  auto writer = ring.writer();
  for (Number i = 0; i < n; ++i) {
    while (!writer.try_push(i)) {
      if (writer.wait() != RingWait::kReady) return;
    }
  }
}

void Produce(MpscRing& ring, std::span<const std::byte> message) {
  auto producer = ring.producer();
  for (;;) {
    while (producer.push(message) == RingRoom::kRoom) {
    }
    if (producer.wait(message.size()) != RingWait::kReady) return;
  }
}

Number Consume(MpscRing& ring) {
  auto consumer = ring.consumer();
  Number bytes = 0;
  do {
    while (const auto message = consumer.next()) bytes += message->size();
    consumer.release();
  } while (consumer.wait() == RingWait::kReady);
  return bytes;
}

void Overwrite(OverwritingRing<Number>& ring, Number n) {
  auto writer = ring.writer();
  for (Number i = 0; i < n; ++i) writer.push(i);
}

// Of the rings that a reader joins.
template <typename Ring>
absl::Status PopJoined(Ring& ring, Number& sum) {
  auto joined = ring.reader();
  if (!joined.ok()) return joined.status();
  auto reader = *std::move(joined);
  do {
    while (const std::optional<Number> item = reader.try_pop()) sum += *item;
  } while (reader.wait() == RingWait::kReady);
  return absl::OkStatus();
}

template absl::Status PopJoined(BroadcastRing<Number>& ring, Number& sum);
template absl::Status PopJoined(OverwritingRing<Number>& ring, Number& sum);

}  // namespace doppel
