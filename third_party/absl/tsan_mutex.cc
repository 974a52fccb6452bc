// SPDX-License-Identifier: Apache-2.0
//
// Tells TSan what the packaged, uninstrumented absl::Mutex does. Linked with
// --wrap in the tsan config only: each call that our code makes passes here.

#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"

#define DOPPEL_MUTEX(name) "_ZN4absl7debian35Mutex" name "Ev"

extern "C" {
void RealLock(absl::Mutex*) __asm__("__real_" DOPPEL_MUTEX("4Lock"));
void RealUnlock(absl::Mutex*) __asm__("__real_" DOPPEL_MUTEX("6Unlock"));
bool RealTryLock(absl::Mutex*) __asm__("__real_" DOPPEL_MUTEX("7TryLock"));
void RealReaderLock(absl::Mutex*) __asm__(
    "__real_" DOPPEL_MUTEX("10ReaderLock"));
void RealReaderUnlock(absl::Mutex*) __asm__(
    "__real_" DOPPEL_MUTEX("12ReaderUnlock"));

void WrapLock(absl::Mutex*) __asm__("__wrap_" DOPPEL_MUTEX("4Lock"));
void WrapUnlock(absl::Mutex*) __asm__("__wrap_" DOPPEL_MUTEX("6Unlock"));
bool WrapTryLock(absl::Mutex*) __asm__("__wrap_" DOPPEL_MUTEX("7TryLock"));
void WrapReaderLock(absl::Mutex*) __asm__(
    "__wrap_" DOPPEL_MUTEX("10ReaderLock"));
void WrapReaderUnlock(absl::Mutex*) __asm__(
    "__wrap_" DOPPEL_MUTEX("12ReaderUnlock"));
}

// Abseil constructs Mutex constinit and destroys it without a call that could be
// wrapped, so TSan learns of a mutex at its first lock.
void WrapLock(absl::Mutex* mutex) {
  __tsan_mutex_pre_lock(mutex, __tsan_mutex_linker_init);
  RealLock(mutex);
  __tsan_mutex_post_lock(mutex, __tsan_mutex_linker_init, 0);
}

void WrapUnlock(absl::Mutex* mutex) {
  __tsan_mutex_pre_unlock(mutex, 0);
  RealUnlock(mutex);
  __tsan_mutex_post_unlock(mutex, 0);
}

bool WrapTryLock(absl::Mutex* mutex) {
  constexpr unsigned kFlags = __tsan_mutex_linker_init | __tsan_mutex_try_lock;
  __tsan_mutex_pre_lock(mutex, kFlags);
  const bool locked = RealTryLock(mutex);
  __tsan_mutex_post_lock(
      mutex, locked ? kFlags : kFlags | __tsan_mutex_try_lock_failed, 0);
  return locked;
}

void WrapReaderLock(absl::Mutex* mutex) {
  constexpr unsigned kFlags = __tsan_mutex_linker_init | __tsan_mutex_read_lock;
  __tsan_mutex_pre_lock(mutex, kFlags);
  RealReaderLock(mutex);
  __tsan_mutex_post_lock(mutex, kFlags, 0);
}

void WrapReaderUnlock(absl::Mutex* mutex) {
  __tsan_mutex_pre_unlock(mutex, __tsan_mutex_read_lock);
  RealReaderUnlock(mutex);
  __tsan_mutex_post_unlock(mutex, __tsan_mutex_read_lock);
}
