// SPDX-License-Identifier: Apache-2.0
//
// A message that knows its number, as numbered_item.h's items do.
//
// Invariants:
//   1. Length and bytes follow from the number: a message made of two others is none.
//   2. Lengths differ by what is no multiple of 8, so that frames have pads of each
//      length and stand across the wrap in many ways.
//
// Thread safety: values.
// Errors: NumberOf says kNone of what is no message.
//
// Example:
//   writer.push(NumberedMessage(7).bytes());
//   EXPECT_EQ(NumberOf(*reader.next()), 7);

#ifndef DOPPEL_TESTS_CRASH_NUMBERED_MESSAGE_H_
#define DOPPEL_TESTS_CRASH_NUMBERED_MESSAGE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace doppel::testing {

class NumberedMessage {
 public:
  static constexpr size_t kMostBytes = 400;

  explicit NumberedMessage(uint64_t number)
      : size_(sizeof(number) + number * 29 % (kMostBytes - sizeof(number))) {
    for (size_t i = 0; i < size_; ++i) {
      bytes_[i] = static_cast<std::byte>(number * 31 + i);
    }
    std::memcpy(bytes_.data(), &number, sizeof(number));
  }

  std::span<const std::byte> bytes() const {
    return std::span(bytes_).first(size_);
  }

  // REQUIRES: there is room.
  void CopyTo(std::span<std::byte> room) const {
    std::memcpy(room.data(), bytes_.data(), size_);
  }

 private:
  size_t size_;
  std::array<std::byte, kMostBytes> bytes_ = {};
};

inline constexpr uint64_t kNone = ~uint64_t{0};

inline uint64_t NumberOf(std::span<const std::byte> bytes) {
  uint64_t number = kNone;
  if (bytes.size() < sizeof(number)) return kNone;
  std::memcpy(&number, bytes.data(), sizeof(number));
  return std::ranges::equal(bytes, NumberedMessage(number).bytes()) ? number
                                                                    : kNone;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_NUMBERED_MESSAGE_H_
