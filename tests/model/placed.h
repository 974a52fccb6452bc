// SPDX-License-Identifier: Apache-2.0
//
// An object that wants more alignment than Relacy gives a model.
//
//   bytes_ │ · · · │ T │ · │        T starts where its alignment lets it
//
// Invariants:
//   1. The object is made and destroyed with its Placed.
//
// Thread safety: that of T.
// Errors: none.
//
// Example:
//   Placed<RingSide<ModelAtomics>> side;
//   side->position.load(std::memory_order_relaxed);

#ifndef DOPPEL_TESTS_MODEL_PLACED_H_
#define DOPPEL_TESTS_MODEL_PLACED_H_

#include <array>
#include <cstddef>
#include <memory>

namespace doppel::model {

template <class T>
class Placed {
 public:
  Placed() {
    void* at = bytes_.data();
    size_t room = bytes_.size();
    object_ = std::construct_at(
        static_cast<T*>(std::align(alignof(T), sizeof(T), at, room)));
  }
  ~Placed() { std::destroy_at(object_); }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  T* get() { return object_; }
  T* operator->() { return object_; }

 private:
  std::array<std::byte, sizeof(T) + alignof(T)> bytes_;
  T* object_;
};

}  // namespace doppel::model

#endif  // DOPPEL_TESTS_MODEL_PLACED_H_
