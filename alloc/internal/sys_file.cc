// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/base/macros.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/internal/sys_invoke.h"

namespace doppel::internal::sys {
namespace {

// The kernel's file sizes are signed.
constexpr uint64_t kMaxFileBytes = INT64_MAX;

// A file that grows past the limit raises SIGXFSZ, which ends the process (and so
// does any write past it); so the limit is asked first.
absl::Status CheckFileSize(Call call, uint64_t end_bytes) {
  if (end_bytes > kMaxFileBytes) {
    return absl::OutOfRangeError(
        absl::StrCat(CallName(call), " to ", end_bytes,
                     " bytes: a file holds at most 2^63-1"));
  }
  absl::StatusOr<uint64_t> limit = SoftLimit(RLIMIT_FSIZE);
  if (!limit.ok()) return limit.status();
  if (end_bytes <= *limit) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(
      CallName(call), " to ", end_bytes, " bytes: RLIMIT_FSIZE allows ", *limit,
      "; raise it (ulimit -f) or ask for less"));
}

// For calls that are limited only where they make the file larger.
absl::Status CheckGrowth(Call call, int fd, uint64_t end_bytes) {
  absl::Status fits = CheckFileSize(call, end_bytes);
  if (fits.ok()) return fits;
  absl::StatusOr<struct stat> file = Fstat(fd);
  if (!file.ok()) return file.status();
  return end_bytes <= static_cast<uint64_t>(file->st_size) ? absl::OkStatus()
                                                           : fits;
}

// tmpfs gives up, and takes the pages back, when a signal arrives: under a profiler's
// timer a large request would be repeated for ever. What is interrupted goes on in
// smaller pieces.
bool FallocateInPieces(int fd, int mode, uint64_t offset_bytes,
                       uint64_t length_bytes) {
  constexpr uint64_t kLeastPieceBytes = uint64_t{2} << 20;
  uint64_t piece_bytes = length_bytes;
  do {
    piece_bytes = std::min(piece_bytes, length_bytes);
    if (InvokeOnce(Call::kFallocate, [&] {
          return fallocate(fd, mode, static_cast<off_t>(offset_bytes),
                           static_cast<off_t>(piece_bytes));
        }) == 0) {
      offset_bytes += piece_bytes;
      length_bytes -= piece_bytes;
    } else if (CallErrno() != EINTR) {
      return false;
    } else {
      piece_bytes = std::max(piece_bytes / 2, kLeastPieceBytes);
    }
  } while (length_bytes > 0);
  return true;
}

int FlagOf(Blocking blocking) {
  return blocking == Blocking::kNever ? MSG_DONTWAIT : 0;
}

}  // namespace

absl::StatusOr<int> MemfdCreate(const std::string& name, unsigned flags) {
  // By number: C libraries older than 2.27 have no wrapper.
  const long fd = Invoke(Call::kMemfdCreate, [&] {
    return syscall(SYS_memfd_create, name.c_str(), flags);
  });
  if (fd >= 0) return static_cast<int>(fd);
  return Failure(Call::kMemfdCreate,
                 absl::StrCat("\"", name, "\", 0x", absl::Hex(flags)),
                 CallErrno() == EINVAL
                     ? "the kernel knows not all flags, or the name is longer "
                       "than 249 bytes"
                 : CallErrno() == ENODEV || CallErrno() == ENOENT
                     ? "the kernel has no hugetlb pages of this size"
                     : "");
}

absl::StatusOr<int> ShmOpen(const std::string& name, int flags) {
  const int fd = Invoke(Call::kShmOpen,
                        [&] { return shm_open(name.c_str(), flags, 0600); });
  if (fd >= 0) return fd;
  return Failure(
      Call::kShmOpen, absl::StrCat("\"", name, "\", 0x", absl::Hex(flags)),
      CallErrno() == EEXIST   ? "another process made it: open it instead"
      : CallErrno() == ENOENT ? "nothing of that name is there: create it"
      : CallErrno() == EINVAL ? "a name is one slash and no other"
                              : "");
}

absl::Status ShmUnlink(const std::string& name) {
  if (Invoke(Call::kShmUnlink, [&] { return shm_unlink(name.c_str()); }) == 0) {
    return absl::OkStatus();
  }
  return Failure(Call::kShmUnlink, absl::StrCat("\"", name, "\""));
}

absl::StatusOr<int> Open(const std::string& path, int flags) {
  const int fd = Invoke(Call::kOpen,
                        [&] { return open(path.c_str(), flags | O_CLOEXEC); });
  if (fd >= 0) return fd;
  return Failure(Call::kOpen,
                 absl::StrCat("\"", path, "\", 0x", absl::Hex(flags)));
}

absl::StatusOr<int> Dup(int fd) {
  const int copy =
      Invoke(Call::kDup, [&] { return fcntl(fd, F_DUPFD_CLOEXEC, 0); });
  if (copy >= 0) return copy;
  return Failure(Call::kDup, absl::StrCat(fd));
}

absl::Status Replace(int fd, int by) {
  if (Invoke(Call::kDup, [&] { return dup3(by, fd, O_CLOEXEC); }) < 0) {
    return Failure(Call::kDup, absl::StrCat(by, ", ", fd));
  }
  Close(by);
  return absl::OkStatus();
}

absl::StatusOr<int> Reopen(int fd) {
  return Open(absl::StrCat("/proc/self/fd/", fd), O_RDWR);
}

void Close(int fd) { close(fd); }

absl::Status Ftruncate(int fd, uint64_t size_bytes) {
  if (absl::Status s = CheckGrowth(Call::kFtruncate, fd, size_bytes); !s.ok()) {
    return s;
  }
  if (Invoke(Call::kFtruncate, [&] {
        return ftruncate(fd, static_cast<off_t>(size_bytes));
      }) == 0) {
    return absl::OkStatus();
  }
  return Failure(Call::kFtruncate, absl::StrCat(fd, ", ", size_bytes),
                 CallErrno() == EINVAL
                     ? "the size must be a multiple of the file's huge page"
                 : CallErrno() == EPERM
                     ? "F_SEAL_GROW or F_SEAL_SHRINK fixes the size"
                     : "");
}

absl::Status Fallocate(int fd, int mode, uint64_t offset_bytes,
                       uint64_t length_bytes) {
  if (length_bytes > UINT64_MAX - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat("fallocate of ", length_bytes,
                                              " bytes at ", offset_bytes,
                                              " overflows"));
  }
  // Giving pages back is not limited.
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0) {
    absl::Status s =
        CheckGrowth(Call::kFallocate, fd, offset_bytes + length_bytes);
    if (!s.ok()) return s;
  }
  if (FallocateInPieces(fd, mode, offset_bytes, length_bytes)) {
    return absl::OkStatus();
  }
  return Failure(
      Call::kFallocate,
      absl::StrCat(fd, ", 0x", absl::Hex(mode), ", ", offset_bytes, ", ",
                   length_bytes),
      CallErrno() == ENOSPC || CallErrno() == ENOMEM
          ? "no pages left: raise vm.nr_hugepages (hugetlb) or the memory "
            "limit"
          : "");
}

absl::StatusOr<int> Fcntl(int fd, int command, int argument) {
  const int result =
      Invoke(Call::kFcntl, [&] { return fcntl(fd, command, argument); });
  if (result >= 0) return result;
  return Failure(
      Call::kFcntl,
      absl::StrCat(fd, ", ", command, ", 0x", absl::Hex(argument)),
      CallErrno() == EBUSY    ? "a writable shared mapping stands in the way "
                                "of F_SEAL_WRITE: unmap it first"
      : CallErrno() == EPERM  ? "the file is sealed against more seals, or "
                                "open read-only"
      : CallErrno() == EINVAL ? "the file takes no seals, or the kernel "
                                "does not know this one"
                              : "");
}

absl::StatusOr<struct stat> Fstat(int fd) {
  struct stat result = {};
  if (Invoke(Call::kFstat, [&] { return fstat(fd, &result); }) == 0) {
    return result;
  }
  return Failure(Call::kFstat, absl::StrCat(fd));
}

absl::StatusOr<bool> IsHugetlbfs(int fd) {
  struct statfs result = {};
  if (Invoke(Call::kFstatfs, [&] { return fstatfs(fd, &result); }) == 0) {
    return result.f_type == HUGETLBFS_MAGIC;
  }
  return Failure(Call::kFstatfs, absl::StrCat(fd));
}

absl::StatusOr<size_t> Pread(int fd, std::span<std::byte> into,
                             uint64_t offset_bytes) {
  const ssize_t bytes = Invoke(Call::kPread, [&] {
    return pread(fd, into.data(), into.size(),
                 static_cast<off_t>(offset_bytes));
  });
  if (bytes >= 0) return static_cast<size_t>(bytes);
  return Failure(Call::kPread,
                 absl::StrCat(fd, ", ", into.size(), ", ", offset_bytes));
}

absl::StatusOr<size_t> Pwrite(int fd, std::span<const std::byte> from,
                              uint64_t offset_bytes) {
  if (from.size() > UINT64_MAX - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat(
        "pwrite of ", from.size(), " bytes at ", offset_bytes, " overflows"));
  }
  // A write past RLIMIT_FSIZE raises SIGXFSZ as well.
  if (absl::Status s = CheckFileSize(Call::kPwrite, offset_bytes + from.size());
      !s.ok()) {
    return s;
  }
  const ssize_t bytes = Invoke(Call::kPwrite, [&] {
    return pwrite(fd, from.data(), from.size(),
                  static_cast<off_t>(offset_bytes));
  });
  if (bytes >= 0) return static_cast<size_t>(bytes);
  return Failure(Call::kPwrite,
                 absl::StrCat(fd, ", ", from.size(), ", ", offset_bytes),
                 CallErrno() == EPERM ? "F_SEAL_WRITE or F_SEAL_GROW forbids it"
                 : CallErrno() == EINVAL
                     ? "hugetlb files are written through mappings only"
                     : "");
}

absl::Status SendDescriptors(int socket, std::span<const int> fds,
                             const PassedWords& words, Blocking blocking) {
  ABSL_HARDENING_ASSERT(fds.size() <= kMaxPassed);
  PassedWords copy = words;
  iovec data = {copy.data(), sizeof(copy)};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPassed * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  if (Invoke(Call::kSendmsg, [&] {
        return sendmsg(socket, &message, MSG_NOSIGNAL | FlagOf(blocking));
      }) == sizeof(copy)) {
    return absl::OkStatus();
  }
  return Failure(Call::kSendmsg,
                 absl::StrCat(socket, ", ", fds.size(), " descriptors"),
                 "descriptors pass over Unix sockets only, to a peer that "
                 "still reads");
}

namespace {

// Whether the process may have `count` descriptors more: copies `fd` as often.
absl::Status CheckRoomForDescriptors(int fd, size_t count) {
  ABSL_HARDENING_ASSERT(count <= kMaxPassed);
  std::array<int, kMaxPassed> fds;
  absl::Status room;
  size_t made = 0;
  for (; made < count && room.ok(); ++made) {
    const absl::StatusOr<int> copy = Dup(fd);
    room = copy.status();
    fds[made] = copy.value_or(-1);
  }
  for (size_t i = 0; i < made; ++i) {
    if (fds[i] >= 0) Close(fds[i]);
  }
  return room;
}

}  // namespace

absl::StatusOr<PassedDescriptors> ReceiveDescriptors(int socket, size_t count,
                                                     Blocking blocking) {
  // What comes and finds no room is lost.
  if (absl::Status room = CheckRoomForDescriptors(socket, count); !room.ok()) {
    return room;
  }
  PassedDescriptors passed;
  iovec data = {passed.words.data(), sizeof(passed.words)};
  // Room for one more: a peer that sends too many is refused, not truncated.
  constexpr size_t kMost = kMaxPassed + 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))] = {};
  // CMSG_SPACE rounds up, and the kernel fills all that there is.
  constexpr size_t kRoom = (sizeof(control) - CMSG_LEN(0)) / sizeof(int);
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t bytes = Invoke(Call::kRecvmsg, [&] {
    return recvmsg(socket, &message, MSG_CMSG_CLOEXEC | FlagOf(blocking));
  });
  if (bytes < 0) return Failure(Call::kRecvmsg, absl::StrCat(socket));
  std::array<int, kRoom> received = {};
  size_t received_count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    received_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::memcpy(received.data(), CMSG_DATA(header),
                received_count * sizeof(int));
  }
  passed.has_words = bytes == static_cast<ssize_t>(sizeof(passed.words));
  if (!passed.has_words) passed.words = {};
  const bool truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  if (received_count == count && !truncated) {
    std::copy_n(received.begin(), count, passed.fds.begin());
    return passed;
  }
  for (size_t i = 0; i < received_count; ++i) Close(received[i]);
  if (bytes == 0) {
    return absl::UnavailableError(absl::StrCat(
        "recvmsg(", socket, "): the peer closed the socket and sent nothing"));
  }
  if (truncated && received_count < count) {
    return absl::DataLossError(absl::StrCat(
        "recvmsg(", socket,
        "): RLIMIT_NOFILE left no room for the descriptors that came, and they "
        "are lost; raise it, and have them sent again"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "recvmsg(", socket, "): the message carries ",
      truncated
          ? "more descriptors than one takes"
          : absl::StrCat(received_count, " descriptors in place of ", count)));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  absl::StatusOr<int> fd = Open(path, O_RDONLY);
  if (!fd.ok()) return fd.status();
  const absl::Cleanup closer = [&] { Close(*fd); };
  std::string text;
  // The kernel builds these files anew for each read from the start, so the size
  // is not known before.
  for (size_t used = 0;;) {
    text.resize(used + 16384);
    const ssize_t bytes = Invoke(Call::kRead, [&] {
      return read(*fd, text.data() + used, text.size() - used);
    });
    if (bytes < 0) return Failure(Call::kRead, path);
    used += static_cast<size_t>(bytes);
    if (bytes == 0) {
      text.resize(used);
      return text;
    }
  }
}

absl::StatusOr<int> Ioctl(int fd, unsigned long request, void* argument) {
  const int result =
      Invoke(Call::kIoctl, [&] { return ioctl(fd, request, argument); });
  if (result >= 0) return result;
  return Failure(Call::kIoctl, absl::StrCat(fd, ", 0x", absl::Hex(request)));
}

int ProcessId() { return getpid(); }

uint64_t MemoryBytes() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::Status CheckMemory(uint64_t bytes) {
  if (bytes <= MemoryBytes()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(bytes, " bytes of pages wanted, and the machine has ",
                   MemoryBytes(), " bytes of memory; ask for less"));
}

absl::StatusOr<uint64_t> SoftLimit(int resource) {
  rlimit limit = {};
  if (Invoke(Call::kGetrlimit, [&] {
        return getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
      }) == 0) {
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  }
  return Failure(Call::kGetrlimit, absl::StrCat(resource));
}

}  // namespace doppel::internal::sys
