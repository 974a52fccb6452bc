// SPDX-License-Identifier: Apache-2.0

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/internal/sys_invoke.h"

namespace doppel::internal::sys {
namespace {

// Not absl::StrFormat: it ends the process where the heap has no memory for the text.
std::string Range(const void* at, size_t bytes) {
  return absl::StrCat("0x", absl::Hex(reinterpret_cast<uintptr_t>(at)), ", ",
                      bytes);
}

absl::string_view MapAdvice(int flags) {
  switch (CallErrno()) {
    case ENOMEM:
      return (flags & MAP_HUGETLB) != 0
                 ? "the hugetlb pool is exhausted: raise vm.nr_hugepages"
                 : "out of address space (RLIMIT_AS, ulimit -v), of mappings "
                   "(vm.max_map_count), or of hugetlb pages "
                   "(vm.nr_hugepages)";
    case EINVAL:
      return "address, length and offset must be multiples of the page size";
    case EPERM:
      return "a seal of the file forbids writable mappings";
    case EACCES:
      return "the descriptor is not open for this";
    default:
      return {};
  }
}

absl::string_view AdviseAdvice() {
  switch (CallErrno()) {
    case EINVAL:
      return "this kernel or kind of memory does not take this advice";
    case ENOMEM:
      return "part of the range is not mapped, or no memory is left";
    case EFAULT:
    case EHWPOISON:
      return "no page could be had: memory, the control group's limit or the "
             "hugetlb pool is exhausted";
    default:
      return {};
  }
}

constexpr absl::string_view kLockAdvice =
    "raise RLIMIT_MEMLOCK (ulimit -l) or give the process CAP_IPC_LOCK";

absl::Status OkOr(Call call, int result, const std::string& arguments,
                  absl::string_view advice) {
  return result == 0 ? absl::OkStatus() : Failure(call, arguments, advice);
}

}  // namespace

absl::StatusOr<std::byte*> Mmap(void* at, size_t bytes, int protection,
                                int flags, int fd, uint64_t offset_bytes) {
  const intptr_t result = Invoke(Call::kMmap, [&] {
    return reinterpret_cast<intptr_t>(mmap(at, bytes, protection, flags, fd,
                                           static_cast<off_t>(offset_bytes)));
  });
  if (result != -1) return reinterpret_cast<std::byte*>(result);
  return Failure(
      Call::kMmap,
      absl::StrCat(Range(at, bytes), ", 0x", absl::Hex(protection), ", 0x",
                   absl::Hex(flags), ", ", fd, ", ", offset_bytes),
      MapAdvice(flags));
}

absl::Status Munmap(void* at, size_t bytes) {
  const int result = Invoke(Call::kMunmap, [&] { return munmap(at, bytes); });
  if (result == 0) return absl::OkStatus();
  return Failure(Call::kMunmap, Range(at, bytes),
                 CallErrno() == ENOMEM ? "splitting the mapping would exceed "
                                         "vm.max_map_count: raise it"
                                       : "");
}

absl::Status Mprotect(void* at, size_t bytes, int protection) {
  const int result =
      Invoke(Call::kMprotect, [&] { return mprotect(at, bytes, protection); });
  if (result == 0) return absl::OkStatus();
  return Failure(Call::kMprotect,
                 absl::StrCat(Range(at, bytes), ", 0x", absl::Hex(protection)),
                 CallErrno() == EACCES
                     ? "the descriptor or a seal forbids this protection"
                     : "");
}

absl::StatusOr<std::byte*> Mremap(void* from, size_t old_bytes,
                                  size_t new_bytes, int flags, void* to) {
  const intptr_t result = Invoke(Call::kMremap, [&] {
    return reinterpret_cast<intptr_t>(
        mremap(from, old_bytes, new_bytes, flags, to));
  });
  if (result != -1) return reinterpret_cast<std::byte*>(result);
  return Failure(Call::kMremap,
                 absl::StrCat(Range(from, old_bytes), ", ", new_bytes, ", 0x",
                              absl::Hex(flags), ", 0x",
                              absl::Hex(reinterpret_cast<uintptr_t>(to))),
                 CallErrno() == EAGAIN ? kLockAdvice : "");
}

absl::Status Madvise(void* at, size_t bytes, int advice) {
  const int result =
      Invoke(Call::kMadvise, [&] { return madvise(at, bytes, advice); });
  if (result == 0) return absl::OkStatus();
  absl::Status failure =
      Failure(Call::kMadvise, absl::StrCat(Range(at, bytes), ", ", advice),
              AdviseAdvice());
  // Populating says EFAULT where a touch would have raised SIGBUS.
  return CallErrno() == EFAULT ? absl::ResourceExhaustedError(failure.message())
                               : failure;
}

absl::Status Mlock(void* at, size_t bytes, unsigned flags) {
  // By number: C libraries older than 2.27 have no mlock2.
  const long result = Invoke(
      Call::kMlock, [&] { return syscall(SYS_mlock2, at, bytes, flags); });
  return OkOr(Call::kMlock, static_cast<int>(result), Range(at, bytes),
              kLockAdvice);
}

absl::Status Munlock(void* at, size_t bytes) {
  return OkOr(Call::kMunlock,
              Invoke(Call::kMunlock, [&] { return munlock(at, bytes); }),
              Range(at, bytes), {});
}

absl::Status Mlockall(int flags) {
  return OkOr(Call::kMlockall,
              Invoke(Call::kMlockall, [&] { return mlockall(flags); }),
              absl::StrCat("0x", absl::Hex(flags)), kLockAdvice);
}

absl::Status Munlockall() {
  return OkOr(Call::kMunlockall,
              Invoke(Call::kMunlockall, [] { return munlockall(); }), "", {});
}

absl::Status Msync(void* at, size_t bytes, int flags) {
  return OkOr(
      Call::kMsync,
      Invoke(Call::kMsync, [&] { return msync(at, bytes, flags); }),
      absl::StrCat(Range(at, bytes), ", 0x", absl::Hex(flags)),
      CallErrno() == EBUSY ? "the range is locked: unlock it first" : "");
}

}  // namespace doppel::internal::sys
