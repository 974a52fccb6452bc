// SPDX-License-Identifier: Apache-2.0
//
// What all subjects are given to pass, and what their readers make of it.
//
// Invariants:
//   1. A receiver of messages touches each cache line of each (Digest).
//
// Thread safety: values and functions of their arguments.
// Errors: none.
//
// Example:
//   digest += Digest(message.data(), message.size());

#ifndef DOPPEL_BENCH_CONTAINERS_RING_LOAD_H_
#define DOPPEL_BENCH_CONTAINERS_RING_LOAD_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

namespace doppel::bench {

inline constexpr size_t kBatch = 64;
inline constexpr size_t kMaxMessageBytes = 4096;
inline constexpr size_t kStreamBytes = 64 << 10;  // Taken at a time, at most.

using Length = uint64_t;  // What stands before a message.

// A word of each cache line.
inline uint64_t Digest(const std::byte* data, size_t bytes) {
  uint64_t sum = bytes;
  for (size_t i = 0; i + sizeof(uint64_t) <= bytes; i += 64) {
    uint64_t word = 0;
    std::memcpy(&word, data + i, sizeof(word));
    sum += word;
  }
  return sum;
}

inline uint64_t Sum(std::span<const uint64_t> items) {
  return std::accumulate(items.begin(), items.end(), uint64_t{0});
}

// What the readers of messages that copy share: a buffer.
class MessageBuffer {
 protected:
  std::span<std::byte> Room(size_t bytes) {
    return std::span(buffer_).first(bytes);
  }

 private:
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kStreamBytes);
};

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_RING_LOAD_H_
