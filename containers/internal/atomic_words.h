// SPDX-License-Identifier: Apache-2.0
//
// Copies to and from memory that others read and write at the same time, by relaxed
// atomic words: what arrives may be a mixture, but it is no data race.
//
//   item of 12 bytes      │ word │ word │ word │        words of 4 bytes
//   item of 16 bytes      │    word     │     word    │ words of 8 bytes
//
// Invariants:
//   1. Each byte of the shared memory is always reached by words of the same size at
//      the same places, if all items have one size and stand a multiple of it apart.
//   2. The private side may be aligned in any way.
//
// Thread safety: any number of threads may load and store the same words. Order comes
//   from fences around the copies.
// Errors: none.
//
// Example:
//   StoreWords<sizeof(T)>(slot, reinterpret_cast<const std::byte*>(&item), sizeof(T));

#ifndef DOPPEL_CONTAINERS_INTERNAL_ATOMIC_WORDS_H_
#define DOPPEL_CONTAINERS_INTERNAL_ATOMIC_WORDS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace doppel::internal {

// The largest word of which items of so many bytes are made.
template <size_t kItemBytes>
using AtomicWord = std::conditional_t<
    kItemBytes % 8 == 0, uint64_t,
    std::conditional_t<
        kItemBytes % 4 == 0, uint32_t,
        std::conditional_t<kItemBytes % 2 == 0, uint16_t, uint8_t>>>;

// REQUIRES: `to` is aligned for the word; bytes is a multiple of kItemBytes.
template <size_t kItemBytes>
void StoreWords(std::byte* to, const std::byte* from, size_t bytes) {
  using Word = AtomicWord<kItemBytes>;
  static_assert(std::atomic_ref<Word>::is_always_lock_free);
  for (size_t i = 0; i < bytes; i += sizeof(Word)) {
    Word word = 0;
    std::memcpy(&word, from + i, sizeof(word));
    std::atomic_ref<Word>(*reinterpret_cast<Word*>(to + i))
        .store(word, std::memory_order_relaxed);
  }
}

// REQUIRES: `from` is aligned for the word; bytes is a multiple of kItemBytes.
template <size_t kItemBytes>
void LoadWords(std::byte* to, std::byte* from, size_t bytes) {
  using Word = AtomicWord<kItemBytes>;
  for (size_t i = 0; i < bytes; i += sizeof(Word)) {
    const Word word = std::atomic_ref<Word>(*reinterpret_cast<Word*>(from + i))
                          .load(std::memory_order_relaxed);
    std::memcpy(to + i, &word, sizeof(word));
  }
}

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_ATOMIC_WORDS_H_
