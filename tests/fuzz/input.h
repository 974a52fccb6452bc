// SPDX-License-Identifier: Apache-2.0
//
// The bytes that a fuzzer gives, as choices.
//
//   input │ op │ count │ op │ op │ count │ count │ ...   read from front to back
//
// Invariants:
//   1. Every input means something: past its end each byte is 0.
//   2. What an operation reads depends only on what was read before: a mutation of the
//      input's tail leaves the operations before it as they were.
//
// clang's FuzzedDataProvider does the same, but gcc, which replays the corpus, has not
// got it; and it takes numbers from the input's end, against (2).
//
// Thread safety: one thread.
// Errors: none.
//
// Example:
//   for (Input input(data, size); !input.empty();) Step(input.Byte(), input);

#ifndef DOPPEL_TESTS_FUZZ_INPUT_H_
#define DOPPEL_TESTS_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "absl/base/optimization.h"

namespace doppel::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : next_(data), end_(data + size) {}

  bool empty() const { return next_ == end_; }

  uint8_t Byte() { return empty() ? uint8_t{0} : *next_++; }

  // Less than `limit`; `limit` is at most 65536.
  uint64_t Below(uint64_t limit) {
    const uint64_t low = Byte();
    if (limit <= 256) return low % limit;
    return (low << 8 | Byte()) % limit;
  }

  // How many to ask for where `available` are there, of `capacity` at most: a few, or
  // about as many as there are, or a part of the capacity and a little more than all.
  uint64_t Count(uint64_t available, uint64_t capacity) {
    const uint64_t byte = Byte();
    if (byte < 128) return byte % 32;
    if (byte < 192) {
      const uint64_t near = available + byte % 8;
      return near < 3 ? 0 : near - 3;
    }
    return capacity * (byte - 192) / 61;
  }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
};

// Ends the process, which is how a fuzzer learns of a fault.
inline void Require(bool holds, const char* what,
                    const char* file = __builtin_FILE(),
                    int line = __builtin_LINE()) {
  if (ABSL_PREDICT_TRUE(holds)) return;
  std::fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
  std::abort();
}

}  // namespace doppel::fuzz

#endif  // DOPPEL_TESTS_FUZZ_INPUT_H_
