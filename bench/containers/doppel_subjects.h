// SPDX-License-Identifier: Apache-2.0
//
// doppel's rings as subjects (ring_subjects.h): items and messages in place, and items
// with a copy on each side, as the others are used.
//
// Invariants:
//   1. What holds a handle is inlined whole, as code is that has it in a local variable:
//      a handle whose address is passed to a function lives in memory.
//
// Thread safety: one thread a side.
// Errors: a ring that cannot be made throws std::runtime_error.
//
// Example:
//   DoppelItems ring(4096);
//   auto writer = ring.writer();
//   while (!writer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_DOPPEL_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_DOPPEL_SUBJECTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <stdexcept>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "doppel/bench/containers/ring_load.h"
#include "doppel/containers/message.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {

template <class T>
SpscRing<T> MakeDoppelRing(size_t bytes) {
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(bytes / sizeof(T));
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  return *std::move(ring);
}

class DoppelItems {
 public:
  static constexpr char kName[] = "doppel_ring";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return ring.try_push(item);
    }
    size_t Fill(uint64_t first) {
      const std::span<uint64_t> slots = ring.reserve(kBatch);
      if (slots.empty()) return 0;
      std::iota(slots.begin(), slots.end(), first);
      ring.commit(kBatch);
      return kBatch;
    }
  };
  struct Reader {
    Ring::Reader ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return ring.try_pop(item);
    }
    size_t Drain(uint64_t& sum) {
      auto items = ring.peek();
      items = items.first(std::min(items.size(), kBatch));
      sum += Sum(items);
      if (!items.empty()) ring.consume(items.size());
      return items.size();
    }
  };

  explicit DoppelItems(size_t bytes) : ring_(MakeDoppelRing<uint64_t>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  Ring ring_;
};

// The same with a copy on each side.
class DoppelItemsCopied {
 public:
  static constexpr char kName[] = "doppel_ring_copied";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return ring.push(items);
    }
  };
  struct Reader {
    Ring::Reader ring;
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = ring.pop(items);
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit DoppelItemsCopied(size_t bytes)
      : ring_(MakeDoppelRing<uint64_t>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  Ring ring_;
};

class DoppelBytes {
 public:
  static constexpr char kName[] = "doppel_ring";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<std::byte>;

  struct Writer {
    Ring::Writer ring;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      const std::span<std::byte> frame = ring.reserve(FrameBytes(length));
      if (frame.empty()) return false;
      std::memcpy(frame.data(), &length, sizeof(length));
      std::memcpy(frame.data() + sizeof(length), message.data(), length);
      ring.commit(frame.size());
      return true;
    }
    size_t Stream(std::span<const std::byte> bytes) { return ring.push(bytes); }
  };
  struct Reader {
    Ring::Reader ring;
    size_t Receive(uint64_t& digest) {
      const std::span<const std::byte> known = ring.peek(sizeof(Length));
      if (known.empty()) return 0;
      Length length = 0;
      std::memcpy(&length, known.data(), sizeof(length));
      digest += Digest(known.data() + sizeof(length), length);
      ring.consume(FrameBytes(length));
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      std::span<const std::byte> bytes = ring.peek();
      if (bytes.empty()) return 0;
      bytes = bytes.first(std::min(bytes.size(), kStreamBytes));
      use(bytes);
      ring.consume(bytes.size());
      return bytes.size();
    }
  };

  explicit DoppelBytes(size_t bytes)
      : ring_(MakeDoppelRing<std::byte>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  // Lengths stay aligned.
  static size_t FrameBytes(size_t message_bytes) {
    return (sizeof(Length) + message_bytes + 7) / 8 * 8;
  }

  Ring ring_;
};

class DoppelMessages {
 public:
  static constexpr char kName[] = "doppel_messages";
  static constexpr bool kBlocks = false;

  struct Writer {
    MessageWriter messages;
    ABSL_ATTRIBUTE_ALWAYS_INLINE ~Writer() = default;
    bool Send(std::span<const std::byte> message) {
      return messages.push(message) == RingRoom::kRoom;
    }
  };
  struct Reader {
    MessageReader messages;
    ABSL_ATTRIBUTE_ALWAYS_INLINE ~Reader() = default;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Receive(uint64_t& digest) {
      const auto message = messages.next();
      if (!message) return 0;
      digest += Digest(message->data(), message->size());
      messages.release();
      return message->size();
    }
  };

  explicit DoppelMessages(size_t bytes)
      : ring_(MakeDoppelRing<std::byte>(bytes)) {}
  Writer writer() { return {MessageWriter(ring_.writer())}; }
  Reader reader() { return {MessageReader(ring_.reader())}; }

 private:
  SpscRing<> ring_;
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_DOPPEL_SUBJECTS_H_
