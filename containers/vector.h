// SPDX-License-Identifier: Apache-2.0
//
// std::vector's interface on memory that grows in place: no element is ever copied
// or moved by growth, and pointers stay valid.
//
//   begin()           end()           committed       reserved
//   ▼                 ▼               ▼               ▼
//   ┌──┬──┬──┬──┬──┬──┬───────────────┬─ ─ ─ ─ ─ ─ ─ ─┐
//   │T │T │T │T │T │T │ pages, unused │ addresses only│
//   └──┴──┴──┴──┴──┴──┴───────────────┴─ ─ ─ ─ ─ ─ ─ ─┘
//   ◀──── size() ────▶                 growth shows the next pages here
//   ◀─────────── capacity() ─────────▶
//
// Invariants:
//   1. data() is the same from the first element to the vector's end: growth,
//      reserve and shrink_to_fit invalidate no pointer, reference or iterator to an
//      element that stays. insert and erase shift elements as std::vector's do.
//   2. Growth calls no constructor, assignment or destructor of an element.
//   3. Growth takes the pages that the elements need, or at most 1/24 more (2 MiB at
//      most, 32 MiB of hugetlb pages): there is no moment at which two copies exist.
//   4. An empty vector that never had an element has made no system call.
//   5. Lack of memory or addresses has no effect, whatever the operation. What an
//      element's function throws leaves what std::vector leaves: push_back,
//      emplace_back, resize and insertion at the end have no effect; insertion
//      elsewhere, assign and erase leave a valid vector with unspecified elements.
//
// What it costs: a mapping of its own. Creating and destroying a vector with one
// element takes tens of microseconds and at least a page, so take std::vector for
// small ones (below about 64 KiB) and this for those that grow large. A process has
// vm.max_map_count mappings (65,530 by default), of which a vector uses up to five,
// and six for each doubling beyond 16 MiB where several grow in turn in one arena.
//
// It differs from std::vector in this: capacity() grows by pages, not by doubling;
// reserve() gets the pages, not only the addresses; there is no allocator, but an Arena (Options); Vector<bool> holds bools; the
// iterators are pointers; T is aligned to a page at most.
//
// Thread safety: as std::vector: const members together, others alone.
// Fork: a child of fork(2) shares the pages with its parent, if the arena does
//   (Arena::ForkPolicy): it sees the parent's changes, and must not make any itself.
//   Destroying the vector there destroys no element.
// Errors: std::length_error past the reservation; std::bad_alloc without memory,
//   whose what() names the system call and what can be done; std::out_of_range from
//   at(). Create returns them as a status.
//
// Example:
//   Vector<uint64_t> numbers;
//   numbers.push_back(1);
//   const uint64_t* first = &numbers.front();
//   for (uint64_t i = 0; i < 100'000'000; ++i) numbers.push_back(i);
//   assert(*first == 1);   // still there

#ifndef DOPPEL_CONTAINERS_VECTOR_H_
#define DOPPEL_CONTAINERS_VECTOR_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/growing_mapping.h"
#include "doppel/containers/internal/vector_elements.h"
#include "doppel/containers/internal/vector_storage.h"

namespace doppel {

template <class T>
class Vector {
  static_assert(std::is_object_v<T> && !std::is_const_v<T>);

 public:
  using value_type = T;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using reference = T&;
  using const_reference = const T&;
  using pointer = T*;
  using const_pointer = const T*;
  using iterator = T*;
  using const_iterator = const T*;
  using reverse_iterator = std::reverse_iterator<iterator>;
  using const_reverse_iterator = std::reverse_iterator<const_iterator>;

  // Which arena its pages come from (null: the process's default, transparent
  // pages), and how many addresses it reserves: the most it can ever hold (0: the
  // machine's memory).
  using Options = GrowingMapping::Options;

  // --- Construction. All but the first two may throw. ---

  Vector() noexcept = default;
  explicit Vector(Options options) noexcept
      : elements_(internal::VectorStorage(std::move(options))) {}
  explicit Vector(size_t count, Options options = {})
      : Vector(std::move(options)) {
    resize(count);
  }
  Vector(size_t count, const T& value, Options options = {})
      : Vector(std::move(options)) {
    resize(count, value);
  }
  template <std::input_iterator Iterator>
  Vector(Iterator first, Iterator last, Options options = {})
      : Vector(std::move(options)) {
    Append(first, last);
  }
  Vector(std::initializer_list<T> values, Options options = {})
      : Vector(values.begin(), values.end(), std::move(options)) {}

  // Takes its addresses at once, so that their lack is an error here.
  static absl::StatusOr<Vector> Create(Options options) {
    Vector vector(std::move(options));
    if (absl::Status s = vector.elements_.Create(); !s.ok()) return s;
    return vector;
  }

  // A copy has the same options unless others are given, and pages of its own.
  Vector(const Vector& other)
      : Vector(other, other.elements_.storage().options()) {}
  Vector(const Vector& other, Options options)
      : Vector(other.begin(), other.end(), std::move(options)) {}
  // `other` keeps its options and is empty, without pages.
  Vector(Vector&& other) noexcept = default;
  ~Vector() = default;

  // Keeps its own options.
  Vector& operator=(const Vector& other) {
    if (this != &other) assign(other.begin(), other.end());
    return *this;
  }
  // Takes pages and options.
  Vector& operator=(Vector&& other) noexcept {
    if (this != &other) {
      Vector taken(std::move(other));
      swap(taken);
    }
    return *this;
  }
  Vector& operator=(std::initializer_list<T> values) {
    assign(values.begin(), values.end());
    return *this;
  }

  // The value may be one of the elements.
  void assign(size_t count, const T& value) {
    elements_.Assign(count, internal::FillSource<T>{value});
  }
  // REQUIRES: the range is not of this vector ([sequence.reqmts]).
  template <std::input_iterator Iterator>
  void assign(Iterator first, Iterator last) {
    if constexpr (std::forward_iterator<Iterator>) {
      elements_.Assign(Distance(first, last),
                       internal::RangeSource<T, Iterator>{first});
    } else {
      // Behind what is there, which stays if the pages or the range give out.
      const size_t before = size();
      Append(first, last);
      erase(begin(), begin() + before);
    }
  }
  void assign(std::initializer_list<T> values) {
    assign(values.begin(), values.end());
  }

  // --- Access. operator[], front, back: checked in hardened builds. ---

  T& at(size_t index) {
    CheckIndex(index);
    return begin()[index];
  }
  const T& at(size_t index) const {
    CheckIndex(index);
    return begin()[index];
  }
  T& operator[](size_t index) {
    ABSL_HARDENING_ASSERT(index < size());
    return begin()[index];
  }
  const T& operator[](size_t index) const {
    ABSL_HARDENING_ASSERT(index < size());
    return begin()[index];
  }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[size() - 1]; }
  const T& back() const { return (*this)[size() - 1]; }
  T* data() noexcept { return begin(); }
  const T* data() const noexcept { return begin(); }

  iterator begin() noexcept { return elements_.begin(); }
  const_iterator begin() const noexcept { return elements_.begin(); }
  const_iterator cbegin() const noexcept { return begin(); }
  iterator end() noexcept { return elements_.end(); }
  const_iterator end() const noexcept { return elements_.end(); }
  const_iterator cend() const noexcept { return end(); }
  reverse_iterator rbegin() noexcept { return reverse_iterator(end()); }
  const_reverse_iterator rbegin() const noexcept {
    return const_reverse_iterator(end());
  }
  const_reverse_iterator crbegin() const noexcept { return rbegin(); }
  reverse_iterator rend() noexcept { return reverse_iterator(begin()); }
  const_reverse_iterator rend() const noexcept {
    return const_reverse_iterator(begin());
  }
  const_reverse_iterator crend() const noexcept { return rend(); }

  // --- Size. ---

  [[nodiscard]] bool empty() const noexcept { return begin() == end(); }
  size_t size() const noexcept { return elements_.size(); }
  // Elements that fit into the pages there are.
  size_t capacity() const noexcept {
    return static_cast<size_t>(elements_.limit() - elements_.begin());
  }
  // Elements that fit into the reservation. It may turn out smaller with the first
  // element, where RLIMIT_AS is short and Options::reserve_bytes is 0.
  size_t max_size() const noexcept { return elements_.max_size(); }
  // Pages for `count` elements now. Throws std::length_error, std::bad_alloc.
  void reserve(size_t count) {
    if (count > size()) elements_.ReserveMore(count - size());
  }
  // Gives pages that hold no element back to the arena; keeps them where the system
  // fails to take them.
  void shrink_to_fit() { elements_.ShrinkToFit(); }
  // The physical side of it, for statistics; nullptr before the first element.
  const GrowingMapping* memory() const noexcept {
    return elements_.storage().memory();
  }

  // --- Elements. ---

  ABSL_ATTRIBUTE_ALWAYS_INLINE void push_back(const T& value) {
    elements_.EmplaceBack(value);
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void push_back(T&& value) {
    elements_.EmplaceBack(std::move(value));
  }
  template <class... Arguments>
  ABSL_ATTRIBUTE_ALWAYS_INLINE T& emplace_back(Arguments&&... arguments) {
    return elements_.EmplaceBack(std::forward<Arguments>(arguments)...);
  }
  void pop_back() {
    ABSL_HARDENING_ASSERT(!empty());
    elements_.Truncate(end() - 1);
  }
  void clear() noexcept { elements_.Truncate(begin()); }

  void resize(size_t count) { ResizeFrom(count, internal::DefaultSource<T>{}); }
  void resize(size_t count, const T& value) {
    ResizeFrom(count, internal::FillSource<T>{value});
  }

  // Arguments may be elements, as with every insertion of single values.
  template <class... Arguments>
  iterator emplace(const_iterator at, Arguments&&... arguments) {
    const size_t index = IndexOf(at);
    if (index == size()) {
      elements_.EmplaceBack(std::forward<Arguments>(arguments)...);
    } else {
      elements_.Emplace(index, std::forward<Arguments>(arguments)...);
    }
    return begin() + index;
  }
  iterator insert(const_iterator at, const T& value) {
    return emplace(at, value);
  }
  iterator insert(const_iterator at, T&& value) {
    return emplace(at, std::move(value));
  }
  iterator insert(const_iterator at, size_t count, const T& value) {
    const size_t index = IndexOf(at);
    // The value may be an element that the insertion moves.
    const T copy(value);
    elements_.Insert(index, count, internal::FillSource<T>{copy});
    return begin() + index;
  }
  // REQUIRES: the range is not of this vector ([sequence.reqmts]).
  template <std::input_iterator Iterator>
  iterator insert(const_iterator at, Iterator first, Iterator last) {
    const size_t index = IndexOf(at);
    if constexpr (std::forward_iterator<Iterator>) {
      elements_.Insert(index, Distance(first, last),
                       internal::RangeSource<T, Iterator>{first});
    } else {
      const size_t before = size();
      Append(first, last);
      std::rotate(begin() + index, begin() + before, end());
    }
    return begin() + index;
  }
  iterator insert(const_iterator at, std::initializer_list<T> values) {
    return insert(at, values.begin(), values.end());
  }

  iterator erase(const_iterator at) {
    ABSL_HARDENING_ASSERT(at != end());
    return erase(at, at + 1);
  }
  iterator erase(const_iterator first, const_iterator last) {
    T* const to = begin() + IndexOf(first);
    if (first != last) {
      elements_.Truncate(std::move(begin() + IndexOf(last), end(), to));
    }
    return to;
  }

  void swap(Vector& other) noexcept { elements_.Swap(other.elements_); }
  friend void swap(Vector& a, Vector& b) noexcept { a.swap(b); }

  friend bool operator==(const Vector& a, const Vector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }
  friend auto operator<=>(const Vector& a, const Vector& b) requires
      requires(const T& x, const T& y) {
    x < y;
  }
  {
    return std::lexicographical_compare_three_way(
        a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) {
          if constexpr (std::three_way_comparable<T>) {
            return x <=> y;
          } else {
            return x < y   ? std::weak_ordering::less
                   : y < x ? std::weak_ordering::greater
                           : std::weak_ordering::equivalent;
          }
        });
  }

  // std::erase and std::erase_if for this vector: how many were removed.
  template <class U>
  friend size_t erase(Vector& vector, const U& value) {
    return erase_if(vector, [&](const T& x) { return x == value; });
  }
  template <class Predicate>
  friend size_t erase_if(Vector& vector, Predicate predicate) {
    T* const end = std::remove_if(vector.begin(), vector.end(), predicate);
    const auto removed = static_cast<size_t>(vector.end() - end);
    vector.elements_.Truncate(end);
    return removed;
  }

 private:
  template <class Iterator>
  static size_t Distance(Iterator first, Iterator last) {
    return static_cast<size_t>(std::ranges::distance(first, last));
  }

  size_t IndexOf(const_iterator at) const {
    const auto index = static_cast<size_t>(at - begin());
    ABSL_HARDENING_ASSERT(index <= size());
    return index;
  }

  void CheckIndex(size_t index) const {
    if (index >= size()) internal::ThrowOutOfRange(index, size());
  }

  template <class Source>
  void ResizeFrom(size_t count, const Source& source) {
    if (count > size()) {
      elements_.Append(source, 0, count - size());
    } else {
      elements_.Truncate(begin() + count);
    }
  }

  // Appends a range; none of it stays if an element's constructor throws.
  template <class Iterator>
  void Append(Iterator first, Iterator last) {
    if constexpr (std::forward_iterator<Iterator>) {
      elements_.Append(internal::RangeSource<T, Iterator>{first}, 0,
                       Distance(first, last));
    } else {
      const size_t before = size();
      try {
        for (; first != last; ++first) emplace_back(*first);
      } catch (...) {
        elements_.Truncate(begin() + before);
        throw;
      }
    }
  }

  // The elements, and the memory that they are in.
  internal::VectorElements<T> elements_;
};

template <std::input_iterator Iterator>
Vector(Iterator, Iterator, GrowingMapping::Options = {})
    -> Vector<std::iter_value_t<Iterator>>;

}  // namespace doppel

#endif  // DOPPEL_CONTAINERS_VECTOR_H_
