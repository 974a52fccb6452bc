// SPDX-License-Identifier: Apache-2.0
//
// An item that knows its number, so that one that is lost, torn or repeated is seen.
//
// Invariants:
//   1. Each word follows from the number: an item made of two others is no item.
//   2. Its size does not divide a page: items stand across cache lines and the wrap.
//
// Thread safety: values.
// Errors: ExpectItem says what is there in place of the item.
//
// Example:
//   writer.try_push(Numbered(7));
//   ExpectItem(*reader.try_pop(), 7);

#ifndef DOPPEL_TESTS_CRASH_NUMBERED_ITEM_H_
#define DOPPEL_TESTS_CRASH_NUMBERED_ITEM_H_

#include <cstdint>

#include "gtest/gtest.h"

namespace doppel::testing {

struct Item {
  uint64_t number = 0;
  uint64_t inverse = 0;
  uint64_t hash = 0;
};

inline Item Numbered(uint64_t number) {
  return {number, ~number, number * 0x9e3779b97f4a7c15};
}

inline bool IsItem(const Item& item, uint64_t number) {
  const Item right = Numbered(number);
  return item.number == number && item.inverse == right.inverse &&
         item.hash == right.hash;
}

inline void ExpectItem(const Item& item, uint64_t number) {
  EXPECT_TRUE(IsItem(item, number))
      << "in place of item " << number << ": " << item.number;
}

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_CRASH_NUMBERED_ITEM_H_
