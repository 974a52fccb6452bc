// SPDX-License-Identifier: Apache-2.0
//
// Every system call that the library makes, and the one seam where tests inject
// faults.
//
//   caller ──▶ sys::Mmap(...) ──▶ hook installed? ──no──▶ mmap(2) ──▶ StatusOr
//                                     │yes: an errno, or 0 to go through
//
// Invariants:
//   1. No other file of the library makes a system call or reads /proc or /sys.
//   2. An error is absl::ErrnoToStatus(errno) whose message names the call, its
//      arguments, what the kernel said, and what the user can do about it.
//   3. A call that a signal interrupts (EINTR) is repeated.
//   4. Nothing here raises a signal: a size above RLIMIT_FSIZE is an error before
//      the kernel sends SIGXFSZ (setrlimit(2)); sending on a closed socket does
//      not raise SIGPIPE.
//
// Thread safety: all functions; the hook is called by whichever thread calls.
// Errors: as each call's manual page says. Without a hook a call costs one relaxed
//   load more than the kernel's.
//
// Example:
//   absl::StatusOr<int> fd = sys::MemfdCreate("doppel", MFD_CLOEXEC);
//   if (!fd.ok()) return fd.status();

#ifndef DOPPEL_ALLOC_INTERNAL_SYS_H_
#define DOPPEL_ALLOC_INTERNAL_SYS_H_

#include <pthread.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace doppel::internal::sys {

enum class Call : uint8_t {
  kMemfdCreate,
  kShmOpen,
  kShmUnlink,
  kOpen,
  kDup,
  kFtruncate,
  kFallocate,
  kFcntl,
  kFstat,
  kFstatfs,
  kPread,
  kPwrite,
  kRead,
  kSendmsg,
  kRecvmsg,
  kMmap,
  kMunmap,
  kMprotect,
  kMremap,
  kMadvise,
  kMlock,
  kMunlock,
  kMlockall,
  kMunlockall,
  kMsync,
  kIoctl,
  kGetrlimit,
  kFutex,
  kMembarrier,
  kEventfd,
  kPoll,
  kWrite,
  kSocketpair,
  kGetsockopt,
  kSchedGetaffinity,
  kSchedSetaffinity,
};
inline constexpr int kCalls = static_cast<int>(Call::kSchedSetaffinity) + 1;

// The name that the manual gives it.
const char* CallName(Call call);

// What a test installs: asked before each call.
class FaultHook {
 public:
  virtual ~FaultHook() = default;
  // The errno that `call` shall fail with; 0 lets it through.
  virtual int ErrnoFor(Call call) = 0;
};

// Installs `hook` (nullptr: none) and returns the one it replaces. The hook must
// outlive its installation and every call that began in it.
FaultHook* SetFaultHook(FaultHook* hook);

// --- Descriptors. Sizes and offsets are bytes. ---

absl::StatusOr<int> MemfdCreate(const std::string& name, unsigned flags);
absl::StatusOr<int> ShmOpen(const std::string& name, int flags);
absl::Status ShmUnlink(const std::string& name);
absl::StatusOr<int> Open(const std::string& path, int flags);
absl::StatusOr<int> Dup(int fd);  // F_DUPFD_CLOEXEC
// Closes `fd` and makes its number mean what `by` does, which is closed (dup3(2)): at no
// time is the number free. Both stay on error.
absl::Status Replace(int fd, int by);
// An open file of its own, for reading and writing, by way of /proc/self/fd.
absl::StatusOr<int> Reopen(int fd);
// close(2) frees the descriptor whatever it returns.
void Close(int fd);
absl::Status Ftruncate(int fd, uint64_t size_bytes);
absl::Status Fallocate(int fd, int mode, uint64_t offset_bytes,
                       uint64_t length_bytes);
absl::StatusOr<int> Fcntl(int fd, int command, int argument);
absl::StatusOr<struct stat> Fstat(int fd);
// Whether the file is one of hugetlbfs (fstatfs(2)).
absl::StatusOr<bool> IsHugetlbfs(int fd);
// How many bytes the kernel took: it may be fewer than the span has.
absl::StatusOr<size_t> Pread(int fd, std::span<std::byte> into,
                             uint64_t offset_bytes);
absl::StatusOr<size_t> Pwrite(int fd, std::span<const std::byte> from,
                              uint64_t offset_bytes);
// Descriptors over a Unix socket (SCM_RIGHTS, unix(7)), with three words of data. kNever:
// what would block is an error (Unavailable).
inline constexpr size_t kMaxPassed = 2;
using PassedWords = std::array<uint64_t, 3>;
enum class Blocking : uint8_t { kAsTheSocket, kNever };
absl::Status SendDescriptors(int socket, std::span<const int> fds,
                             const PassedWords& words,
                             Blocking blocking = Blocking::kAsTheSocket);
struct PassedDescriptors {
  std::array<int, kMaxPassed> fds = {-1, -1};  // Close-on-exec.
  PassedWords words = {};                      // 0 if fewer bytes came.
  bool has_words = false;
};
// InvalidArgument when the message carries not just `count`, Unavailable at the end of
// the stream, ResourceExhausted if there is no room for so many: they may be received
// later. DataLoss if other threads took the room meanwhile: they are not there any more.
absl::StatusOr<PassedDescriptors> ReceiveDescriptors(
    int socket, size_t count, Blocking blocking = Blocking::kAsTheSocket);
// The whole of a small file of /proc or /sys.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// --- Addresses. ---

absl::StatusOr<std::byte*> Mmap(void* at, size_t bytes, int protection,
                                int flags, int fd, uint64_t offset_bytes);
absl::Status Munmap(void* at, size_t bytes);
absl::Status Mprotect(void* at, size_t bytes, int protection);
absl::StatusOr<std::byte*> Mremap(void* from, size_t old_bytes,
                                  size_t new_bytes, int flags, void* to);
absl::Status Madvise(void* at, size_t bytes, int advice);
absl::Status Mlock(void* at, size_t bytes, unsigned flags);  // mlock2(2)
absl::Status Munlock(void* at, size_t bytes);
absl::Status Mlockall(int flags);
absl::Status Munlockall();
absl::Status Msync(void* at, size_t bytes, int flags);
// ioctl(2) on /proc/self/pagemap and its like; returns what the ioctl returns.
absl::StatusOr<int> Ioctl(int fd, unsigned long request, void* argument);

// --- Waiting. Deadlines are of CLOCK_REALTIME. ---

// Whether sleepers are of one process, or of all that map the word's page.
enum class FutexScope : uint8_t { kProcess, kMachine };

// Sleeps while `word` holds `expected`, until woken, the deadline or a signal, and for
// `at_most`, whatever is done to the deadline's clock (futex(2), FUTEX_WAIT_BITSET).
// Whoever slept looks again, so that no failure matters.
void FutexWait(const std::atomic<uint32_t>& word, uint32_t expected,
               absl::Time deadline, absl::Duration at_most, FutexScope scope);
// Wakes all who sleep on the word.
void FutexWake(const std::atomic<uint32_t>& word, FutexScope scope);

// membarrier(2): a fence in every thread of this process, or of all processes that
// have called RegisterForBarriers. About a microsecond.
absl::Status Barrier(FutexScope scope);
absl::Status RegisterForBarriers();

// A counter that polls as readable while it is not 0 (eventfd(2)); non-blocking.
absl::StatusOr<int> EventFd();
void SignalEvent(int fd);  // Adds 1.
void ClearEvent(int fd);   // Sets 0.

// Two connected sockets (socketpair(2), unix(7)).
absl::StatusOr<std::array<int, 2>> SocketPair();

// Whether it is a stream socket of AF_UNIX, as SocketPair makes them (getsockopt(2)).
// Asks no file system: one of a process that lies (fuse(4)) may never answer.
bool IsUnixStream(int fd);

// Sends a byte, and takes what was sent; neither waits, whatever the descriptor's flags
// are: they are those of the open file, which the peer may have too.
void SignalSocket(int fd);
void ClearSocket(int fd);

// Waits until something has happened to `fd`, the deadline or a signal (ppoll(2)).
struct Polled {
  bool readable = false;
  bool hung_up = false;  // The other end is closed, or it is no descriptor.
  bool told = false;     // PollWith: the event is readable.
};
Polled Poll(int fd, absl::Time deadline);
// The same, or until `event` is readable. -1: there is none.
Polled PollWith(int fd, int event, absl::Time deadline);
// The same, to any one of them.
absl::Status PollAny(std::span<const int> fds, absl::Time deadline);

// A lock on one byte of a file, which the kernel takes back when the last descriptor of
// the open file is closed, as by the end of the process (fcntl(2), F_OFD_SETLK). False
// if another open file has it.
absl::StatusOr<bool> TryLockByte(int fd, uint64_t offset_bytes);
void UnlockByte(int fd, uint64_t offset_bytes);
// Whether another open file has it (F_OFD_GETLK).
absl::StatusOr<bool> IsLockedElsewhere(int fd, uint64_t offset_bytes);

// --- The machine and the process. ---

// By number, those that the calling thread may run on (sched_getaffinity(2)). Empty if
// the kernel does not say, or the machine has more.
using ProcessorSet = std::bitset<1024>;
ProcessorSet AllowedProcessors();
// Keeps a thread on these, and moves it there at once (sched_setaffinity(2)); false if it
// may run on none of them.
bool KeepOn(pthread_t thread, const ProcessorSet& processors);
// Where the calling thread runs (sched_getcpu(3)); -1: unknown.
int CurrentProcessor();
// The processors that are threads of the same core as this one, as the kernel writes them
// (/sys/devices/system/cpu): the same text for all of them. Empty: unknown.
std::string ThreadsOfCore(int processor);

// getpid(2): cannot fail.
int ProcessId();

// The machine's memory (sysconf(3), _SC_PHYS_PAGES).
uint64_t MemoryBytes();

// ResourceExhausted for more than that. To be asked before pages are populated:
// MADV_POPULATE_WRITE reports what a limit forbids, but where memory lacks the kernel
// ends some process.
absl::Status CheckMemory(uint64_t bytes);

// The soft limit of a resource (getrlimit(2)); RLIM_INFINITY is UINT64_MAX.
absl::StatusOr<uint64_t> SoftLimit(int resource);

}  // namespace doppel::internal::sys

#endif  // DOPPEL_ALLOC_INTERNAL_SYS_H_
