// SPDX-License-Identifier: Apache-2.0
//
// The elements of a Vector and the memory behind them: what its interface is made
// of. Here stands how elements make place for others, and what holds when one of
// their functions throws.
//
//   begin             end             limit
//   ▼                 ▼               ▼
//   ┌──┬──┬──┬──┬──┬──┬───────────────┬─ ─ ─ ─ ─ ─ ─ ─┐
//   │a │b │c │d │e │f │ raw, nobody's │ addresses only│
//   └──┴──┴──┴──┴──┴──┴───────────────┴─ ─ ─ ─ ─ ─ ─ ─┘
//                      poisoned under AddressSanitizer
//   insert 2 at c:  a b · · c d e f     · moved from, assigned next
//
// Invariants:
//   1. [begin, end) are elements at every moment, also when an element's function
//      throws in the middle of an insertion; some may be moved from then.
//   2. What happens at the end happens wholly or not at all.
//   3. begin is null before the first element and fixed from then on; each element
//      behind an insertion moves once.
//   4. end <= limit <= begin + max_size(), so sums of sizes do not overflow.
//
// Thread safety: as the Vector's.
// Errors: std::length_error, std::bad_alloc from growth, before anything changed; and
//   what the elements' functions throw.
//
// Example:
//   VectorElements<int> elements;
//   elements.EmplaceBack(1);
//   elements.Insert(0, 3, FillSource<int>{7});

#ifndef DOPPEL_CONTAINERS_INTERNAL_VECTOR_ELEMENTS_H_
#define DOPPEL_CONTAINERS_INTERNAL_VECTOR_ELEMENTS_H_

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "doppel/alloc/internal/poison.h"
#include "doppel/containers/internal/vector_storage.h"

namespace doppel::internal {

// A source gives elements by their number: Construct makes those from `from` on in
// raw memory, all or nothing, and returns their end; Assign overwrites elements with
// the first `count`.

// As T() makes them.
template <class T>
struct DefaultSource {
  T* Construct(T* to, size_t /*from*/, size_t count) const {
    return std::uninitialized_value_construct_n(to, count);
  }
};

// The same value again and again.
template <class T>
struct FillSource {
  T* Construct(T* to, size_t /*from*/, size_t count) const {
    return std::uninitialized_fill_n(to, count, value);
  }
  void Assign(T* to, size_t count) const { std::fill_n(to, count, value); }

  const T& value;
};

// The elements of a range that can be walked twice. Of C++20's iterators too: to the
// older algorithms those of some views are none.
template <class T, std::forward_iterator Iterator>
struct RangeSource {
  T* Construct(T* to, size_t from, size_t count) const {
    return std::ranges::uninitialized_copy_n(
               std::ranges::next(first, Signed(from)), Signed(count), to,
               to + count)
        .out;
  }
  void Assign(T* to, size_t count) const {
    std::ranges::copy_n(first, Signed(count), to);
  }

  static auto Signed(size_t count) {
    return static_cast<std::iter_difference_t<Iterator>>(count);
  }

  Iterator first;
};

template <class T>
class VectorElements {
 public:
  VectorElements() noexcept = default;
  explicit VectorElements(VectorStorage storage) noexcept
      : storage_(std::move(storage)) {}
  // `other` is empty then, with the options that it had.
  VectorElements(VectorElements&& other) noexcept
      : begin_(std::exchange(other.begin_, nullptr)),
        end_(std::exchange(other.end_, nullptr)),
        limit_(std::exchange(other.limit_, nullptr)),
        storage_(std::move(other.storage_)) {}
  VectorElements& operator=(VectorElements&&) = delete;
  ~VectorElements() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      // In a forked child the elements are the parent's, which may have replaced them.
      if (storage_.InOwnerProcess()) std::destroy(begin_, end_);
    }
    Unpoison(begin_, BytesBetween(begin_, limit_));
  }

  void Swap(VectorElements& other) noexcept {
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
    std::swap(limit_, other.limit_);
    std::swap(storage_, other.storage_);
  }

  T* begin() const { return begin_; }
  T* end() const { return end_; }
  T* limit() const { return limit_; }
  const VectorStorage& storage() const { return storage_; }
  size_t size() const { return static_cast<size_t>(end_ - begin_); }
  size_t max_size() const {
    return static_cast<size_t>(storage_.max_bytes()) / sizeof(T);
  }

  // Takes the addresses now.
  absl::Status Create() {
    absl::Status status = storage_.Create();
    if (status.ok()) FollowStorage();
    return status;
  }

  // Pages for `count` elements more; throws before anything changed.
  ABSL_ATTRIBUTE_ALWAYS_INLINE void ReserveMore(size_t count) {
    if (count > static_cast<size_t>(limit_ - end_)) GrowBy(count);
    // For the compiler, which warns of sizes that GrowBy has refused.
    ABSL_ASSUME(count < PTRDIFF_MAX / sizeof(T));
  }

  void ShrinkToFit() {
    Unpoison(end_, BytesBetween(end_, limit_));
    storage_.ShrinkTo(size() * sizeof(T));
    FollowStorage();
  }

  template <class... Arguments>
  ABSL_ATTRIBUTE_ALWAYS_INLINE T& EmplaceBack(Arguments&&... arguments) {
    // No element moves, so an argument that is one of them stays valid.
    if (ABSL_PREDICT_FALSE(end_ == limit_)) GrowBy(1);
    const Room room(*this, 1);
    T* const place =
        std::construct_at(end_, std::forward<Arguments>(arguments)...);
    end_ = place + 1;
    return *place;
  }

  // The elements `from` to `from + count` of the source behind the last one.
  template <class Source>
  void Append(const Source& source, size_t from, size_t count) {
    ReserveMore(count);
    const Room room(*this, count);
    end_ = source.Construct(end_, from, count);
  }

  // The source's first `count` elements before the one at `index`.
  template <class Source>
  void Insert(size_t index, size_t count, const Source& source) {
    if (count == 0) return;  // A shift by 0 would move each onto itself.
    ReserveMore(count);
    const Room room(*this, count);
    T* const at = begin_ + index;
    T* const old_end = end_;
    const auto tail = static_cast<size_t>(old_end - at);
    if (tail >= count) {
      ShiftUp(at, count);
      source.Assign(at, count);
      return;
    }
    // They reach past the old end: those that do are made first.
    end_ = source.Construct(old_end, tail, count - tail);
    end_ = std::uninitialized_move(at, old_end, end_);
    source.Assign(at, tail);
  }

  // One, before an element: REQUIRES: index < size().
  template <class... Arguments>
  void Emplace(size_t index, Arguments&&... arguments) {
    // Before the arguments are used up: without pages they stay as they were.
    ReserveMore(1);
    // An argument may be an element that the shift moves.
    T value(std::forward<Arguments>(arguments)...);
    const Room room(*this, 1);
    ShiftUp(begin_ + index, 1);
    begin_[index] = std::move(value);
  }

  // The source's first `count` elements instead of those there are.
  template <class Source>
  void Assign(size_t count, const Source& source) {
    const size_t kept = std::min(count, size());
    ReserveMore(count - kept);
    source.Assign(begin_, kept);
    if (count > kept) {
      Append(source, kept, count - kept);
    } else {
      Truncate(begin_ + count);
    }
  }

  void Truncate(T* end) noexcept {
    std::destroy(end, end_);
    Poison(end, BytesBetween(end, end_));
    end_ = end;
  }

 private:
  // While it lives, `count` elements can be made past the end; what is no element
  // when it goes is nobody's again.
  class Room {
   public:
    Room(VectorElements& elements, size_t count)
        : elements_(elements), limit_(elements.end_ + count) {
      Unpoison(elements.end_, count * sizeof(T));
    }
    ~Room() { Poison(elements_.end_, BytesBetween(elements_.end_, limit_)); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

   private:
    VectorElements& elements_;
    const T* const limit_;
  };

  static size_t BytesBetween(const T* from, const T* to) {
    return static_cast<size_t>(to - from) * sizeof(T);
  }

  // The cold path. Never inlined: emplace_back stays a compare and a store.
  ABSL_ATTRIBUTE_NOINLINE void GrowBy(size_t count) {
    static_assert(alignof(T) <= 4096, "elements are aligned to a page at most");
    if (count > max_size() - size()) ThrowTooLong(size(), count, max_size());
    storage_.Grow((size() + count) * sizeof(T));
    FollowStorage();
  }

  void FollowStorage() {
    if (begin_ == nullptr) {
      begin_ = end_ = reinterpret_cast<T*>(storage_.data());
    }
    limit_ = begin_ + storage_.committed_bytes() / sizeof(T);
    Poison(end_, BytesBetween(end_, limit_));
  }

  // Moves [at, end) up by `count` places, of which there are as many.
  void ShiftUp(T* at, size_t count) {
    T* const old_end = end_;
    T* const split = old_end - count;
    end_ = std::uninitialized_move(split, old_end, old_end);
    std::move_backward(at, split, old_end);
  }

  T* begin_ = nullptr;
  T* end_ = nullptr;
  T* limit_ = nullptr;  // Where whole elements of the committed pages end.
  VectorStorage storage_;
};

}  // namespace doppel::internal

#endif  // DOPPEL_CONTAINERS_INTERNAL_VECTOR_ELEMENTS_H_
