// SPDX-License-Identifier: Apache-2.0
//
// One owned descriptor of memory: create, size, seal, pass on, adopt.
//
//   creator                          peer
//   Create, Resize, map, fill        Receive / OpenOf / fork: Adopt checks that it
//   AddSeals  ──── descriptor ────▶  is memory, its seals and its size, before
//                                    anything is mapped
//
// Invariants:
//   1. A Memfd owns one close-on-exec descriptor of a file that lives in memory
//      (tmpfs or hugetlbfs), or none (moved from).
//   2. Adopt takes the descriptor over only if it returns OK.
//   3. Where the kernel has MFD_NOEXEC_SEAL (6.3) a file can never be executed, unless
//      Options::executable; older kernels lack the flag.
//   4. No operation raises a signal: a size above RLIMIT_FSIZE is an error.
//
// Thread safety: const members may be called from any thread, as may all that only
//   call the kernel; moving and destruction need exclusive access.
// Errors: the status of the system call with its arguments and advice (sys.h).
//
// Example:
//   absl::StatusOr<Memfd> file = Memfd::Create({.name = "table"});
//   if (!file.ok() || !file->Resize(1 << 20).ok()) return;
//   // map, fill, then:
//   absl::Status sealed = file->AddSeals(Seal::kShrink | Seal::kGrow);
//   absl::Status sent = file->Send(unix_socket);

#ifndef DOPPEL_ALLOC_MEMFD_H_
#define DOPPEL_ALLOC_MEMFD_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/alloc/page_size.h"

namespace doppel {

// The seals of fcntl(2), a set of bits.
enum class Seal : unsigned {
  kNone = 0,
  kSeal = 0x01,    // No further seals.
  kShrink = 0x02,  // The size cannot fall. Holes can still be punched.
  kGrow = 0x04,    // The size cannot rise.
  kWrite = 0x08,   // No writing at all; needs that no writable map exists.
  kFutureWrite =
      0x10,      // No new writing and writable maps; old ones go on (5.1).
  kExec = 0x20,  // The execute bits cannot change (6.3).
};

constexpr Seal operator|(Seal a, Seal b) {
  return static_cast<Seal>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr Seal operator&(Seal a, Seal b) {
  return static_cast<Seal>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}

// "SHRINK|GROW", "none".
std::string ToString(Seal seals);

class Memfd {
 public:
  struct Options {
    // Shown as /memfd:NAME in /proc/PID/maps and /proc/PID/fd; 249 bytes at most.
    std::string name = "doppel";
    // What GrantPageSize granted: not kBestAvailable. Transparent is a matter of
    // the mapping; its file has base pages.
    PageSize page_size = PageSize::Base();
    bool allow_sealing = true;  // false: born with Seal::kSeal.
    bool executable = false;
  };

  // What an adopted descriptor must be, beside being memory.
  struct Expectation {
    std::optional<Seal> exact_seals = {};     // All of these and no others.
    std::optional<uint64_t> size_bytes = {};  // Exactly.
    uint64_t min_size_bytes = 0;
    std::optional<uint64_t> page_bytes = {};  // Of the file: base or hugetlb.
  };

  // memfd_create(2). InvalidArgument for kBestAvailable or a name that is too
  // long or contains a zero byte.
  static absl::StatusOr<Memfd> Create(const Options& options);

  // The named fallback: a POSIX shared memory object (shm_open(3)). The name is a
  // slash and up to 254 other characters. CreateNamed fails with AlreadyExists if
  // there is one; the object lives until UnlinkNamed. It takes no seals.
  static absl::StatusOr<Memfd> CreateNamed(const std::string& name);
  static absl::StatusOr<Memfd> OpenNamed(const std::string& name);
  static absl::Status UnlinkNamed(const std::string& name);

  // Takes a descriptor from elsewhere and makes it close-on-exec. InvalidArgument
  // if it is no file in memory that takes seals; FailedPrecondition if it is not as
  // expected. The caller keeps the descriptor, as it was, on error.
  static absl::StatusOr<Memfd> Adopt(int fd, const Expectation& expectation);

  // Opens /proc/PID/fd/FD of another process, which must be ours to trace
  // (ptrace(2), PTRACE_MODE_READ_FSCREDS). The expectation as in Adopt.
  static absl::StatusOr<Memfd> OpenOf(pid_t pid, int fd,
                                      const Expectation& expectation);

  // One descriptor from a Unix socket (unix(7), SCM_RIGHTS), adopted; closed if it
  // is refused. Blocks as the socket does. Fails with ResourceExhausted if this process
  // may have no more descriptors: try again.
  static absl::StatusOr<Memfd> Receive(int unix_socket,
                                       const Expectation& expectation);

  // Holds nothing, as after a move.
  Memfd() : Memfd(-1, PageSize::Base(), 0) {}
  Memfd(Memfd&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        page_size_(other.page_size_),
        page_bytes_(other.page_bytes_) {}
  Memfd& operator=(Memfd&& other) noexcept;
  ~Memfd();

  // -1 after a move.
  int fd() const { return fd_; }
  // Gives the descriptor away; the caller closes it.
  int Release() { return std::exchange(fd_, -1); }

  // The unit of size, offset and mapping: a hugetlb page, else a base page.
  uint64_t page_bytes() const { return page_bytes_; }
  PageSize page_size() const { return page_size_; }

  // ftruncate(2): growth reads as zeros; what a smaller size cuts off is gone, and
  // touching it through a mapping is SIGBUS. A multiple of page_bytes() for
  // hugetlb. OutOfRange above RLIMIT_FSIZE.
  absl::Status Resize(uint64_t size_bytes);

  // fallocate(2): pages for the range now, so that touching it cannot raise SIGBUS
  // later; grows the file if the range ends beyond it. ResourceExhausted where no
  // memory or no hugetlb page is left; the contents are as before, but a hugetlb
  // file keeps the pages that it got until then. Not for transparent pages: pages
  // that stand already keep the kernel from giving a huge one.
  absl::Status Reserve(uint64_t offset_bytes, uint64_t length_bytes);

  // Gives the pages of the range back; it reads as zeros. In a hugetlb file the
  // pages return to the pool, where others may take them.
  absl::Status PunchHole(uint64_t offset_bytes, uint64_t length_bytes);

  // fcntl(2) F_ADD_SEALS: one-way. FailedPrecondition (EBUSY) for kWrite while a
  // writable shared mapping exists.
  absl::Status AddSeals(Seal seals);
  absl::StatusOr<Seal> Seals() const;
  // FailedPrecondition, naming both sets, unless the seals are exactly these.
  absl::Status RequireSeals(Seal exactly) const;

  // pread(2), pwrite(2): how many bytes were read (fewer at the end of the file),
  // or written. hugetlb files cannot be written so.
  absl::StatusOr<size_t> ReadAt(uint64_t offset_bytes,
                                std::span<std::byte> into) const;
  absl::StatusOr<size_t> WriteAt(uint64_t offset_bytes,
                                 std::span<const std::byte> from);

  // A second descriptor of the same file.
  absl::StatusOr<Memfd> Duplicate() const;

  // Passes a copy of the descriptor to the process at the socket's other end.
  absl::Status Send(int unix_socket) const;

  struct Stat {
    uint64_t size_bytes = 0;
    uint64_t allocated_bytes = 0;  // Pages that exist, however often mapped.
    uint64_t inode = 0;            // The same for two descriptors of one file.
    bool executable = false;       // Some execute bit is set.
  };
  absl::StatusOr<Stat> Query() const;

 private:
  Memfd(int fd, PageSize page_size, uint64_t page_bytes)
      : fd_(fd), page_size_(page_size), page_bytes_(page_bytes) {}

  int fd_;               // Owned; -1 when moved from.
  PageSize page_size_;   // What the file was made with: its unit follows.
  uint64_t page_bytes_;  // Kept: asked for at each call's argument check.
};

}  // namespace doppel

#endif  // DOPPEL_ALLOC_MEMFD_H_
