// SPDX-License-Identifier: Apache-2.0

#include "doppel/alloc/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "doppel/alloc/internal/linux_abi.h"
#include "doppel/alloc/internal/sys.h"

namespace doppel {
namespace {

namespace sys = internal::sys;

constexpr size_t kMaxNameBytes = 249;  // memfd_create(2)

absl::Status CheckOptions(const Memfd::Options& options) {
  if (options.page_size.kind() == PageSize::Kind::kBestAvailable) {
    return absl::InvalidArgumentError(
        "a file has one page size: pass what GrantPageSize granted");
  }
  if (options.name.size() > kMaxNameBytes ||
      options.name.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a memfd's name has at most ", kMaxNameBytes,
        " bytes, none of them zero; this one has ", options.name.size()));
  }
  return absl::OkStatus();
}

// With MFD_NOEXEC_SEAL or MFD_EXEC first; kernels older than 6.3 know neither.
absl::StatusOr<int> CreateWithExecFlag(const Memfd::Options& options) {
  const unsigned flags = MFD_CLOEXEC | options.page_size.MemfdFlags() |
                         (options.allow_sealing ? MFD_ALLOW_SEALING : 0U);
  const unsigned exec_flag =
      options.executable ? internal::kMfdExec : internal::kMfdNoexecSeal;
  absl::StatusOr<int> fd = sys::MemfdCreate(options.name, flags | exec_flag);
  if (!absl::IsInvalidArgument(fd.status())) return fd;
  return sys::MemfdCreate(options.name, flags);
}

absl::Status CheckExpectation(const Memfd& memfd,
                              const Memfd::Expectation& expectation) {
  if (expectation.exact_seals) {
    if (absl::Status s = memfd.RequireSeals(*expectation.exact_seals);
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<Memfd::Stat> stat = memfd.Query();
  if (!stat.ok()) return stat.status();
  if (expectation.size_bytes && stat->size_bytes != *expectation.size_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("the file has ", stat->size_bytes, " bytes, expected ",
                     *expectation.size_bytes));
  }
  if (stat->size_bytes < expectation.min_size_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("the file has ", stat->size_bytes, " bytes, expected ",
                     expectation.min_size_bytes, " at least"));
  }
  if (expectation.page_bytes && memfd.page_bytes() != *expectation.page_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("the file has pages of ", FormatBytes(memfd.page_bytes()),
                     ", expected ", FormatBytes(*expectation.page_bytes)));
  }
  return absl::OkStatus();
}

absl::Status NoMemfd(int fd) {
  return absl::InvalidArgumentError(
      absl::StrCat("descriptor ", fd,
                   " is no memfd: it must be a regular file that takes seals"));
}

}  // namespace

std::string ToString(Seal seals) {
  static constexpr struct {
    Seal seal;
    const char* name;
  } kNames[] = {{Seal::kSeal, "SEAL"},
                {Seal::kShrink, "SHRINK"},
                {Seal::kGrow, "GROW"},
                {Seal::kWrite, "WRITE"},
                {Seal::kFutureWrite, "FUTURE_WRITE"},
                {Seal::kExec, "EXEC"}};
  std::vector<const char*> names;
  for (const auto& [seal, name] : kNames) {
    if ((seals & seal) != Seal::kNone) names.push_back(name);
  }
  return names.empty() ? "none" : absl::StrJoin(names, "|");
}

absl::StatusOr<Memfd> Memfd::Create(const Options& options) {
  if (absl::Status s = CheckOptions(options); !s.ok()) return s;
  absl::StatusOr<int> fd = CreateWithExecFlag(options);
  if (!fd.ok()) return fd.status();
  const PageSize size = options.page_size;
  Memfd memfd(*fd, size,
              size.is_hugetlb() ? size.hugetlb_bytes() : BasePageBytes());
  if (!options.allow_sealing) {
    // MFD_NOEXEC_SEAL made it sealable; without that flag it is sealed already.
    absl::StatusOr<Seal> seals = memfd.Seals();
    if (!seals.ok()) return seals.status();
    if ((*seals & Seal::kSeal) == Seal::kNone) {
      if (absl::Status s = memfd.AddSeals(Seal::kSeal); !s.ok()) return s;
    }
  }
  return memfd;
}

absl::StatusOr<Memfd> Memfd::CreateNamed(const std::string& name) {
  absl::StatusOr<int> fd = sys::ShmOpen(name, O_RDWR | O_CREAT | O_EXCL);
  if (!fd.ok()) return fd.status();
  return Memfd(*fd, PageSize::Base(), BasePageBytes());
}

absl::StatusOr<Memfd> Memfd::OpenNamed(const std::string& name) {
  absl::StatusOr<int> fd = sys::ShmOpen(name, O_RDWR);
  if (!fd.ok()) return fd.status();
  return Memfd(*fd, PageSize::Base(), BasePageBytes());
}

absl::Status Memfd::UnlinkNamed(const std::string& name) {
  return sys::ShmUnlink(name);
}

absl::StatusOr<Memfd> Memfd::Adopt(int fd, const Expectation& expectation) {
  // Only files of tmpfs and hugetlbfs take seals (fcntl(2)): the one test that
  // tells memory from everything else. Before fstat(2), which a file system of the
  // descriptor's sender could leave waiting (FUSE).
  if (!sys::Fcntl(fd, F_GET_SEALS, 0).ok()) return NoMemfd(fd);
  const absl::StatusOr<struct stat> stat = sys::Fstat(fd);
  if (!stat.ok()) return stat.status();
  if (!S_ISREG(stat->st_mode)) return NoMemfd(fd);
  absl::StatusOr<bool> hugetlb = sys::IsHugetlbfs(fd);
  if (!hugetlb.ok()) return hugetlb.status();
  PageSize page_size = PageSize::Base();
  if (*hugetlb) {
    // A file of hugetlbfs has blocks of its page size.
    absl::StatusOr<PageSize> huge =
        PageSize::Huge(static_cast<uint64_t>(stat->st_blksize));
    if (!huge.ok()) return huge.status();
    page_size = *huge;
  }
  Memfd memfd(fd, page_size,
              *hugetlb ? page_size.hugetlb_bytes() : BasePageBytes());
  absl::Status accepted = CheckExpectation(memfd, expectation);
  // Last: a descriptor that is refused stays as its owner made it.
  if (accepted.ok()) accepted = sys::Fcntl(fd, F_SETFD, FD_CLOEXEC).status();
  if (!accepted.ok()) {
    memfd.Release();
    return accepted;
  }
  return memfd;
}

absl::StatusOr<Memfd> Memfd::OpenOf(pid_t pid, int fd,
                                    const Expectation& expectation) {
  absl::StatusOr<int> opened =
      sys::Open(absl::StrCat("/proc/", pid, "/fd/", fd), O_RDWR);
  // A file that is sealed against writing opens for reading only.
  if (absl::IsPermissionDenied(opened.status())) {
    opened = sys::Open(absl::StrCat("/proc/", pid, "/fd/", fd), O_RDONLY);
  }
  if (!opened.ok()) return opened.status();
  absl::StatusOr<Memfd> memfd = Adopt(*opened, expectation);
  if (!memfd.ok()) sys::Close(*opened);
  return memfd;
}

absl::StatusOr<Memfd> Memfd::Receive(int unix_socket,
                                     const Expectation& expectation) {
  const absl::StatusOr<sys::PassedDescriptors> passed =
      sys::ReceiveDescriptors(unix_socket, 1);
  if (!passed.ok()) return passed.status();
  const int fd = passed->fds[0];
  absl::StatusOr<Memfd> memfd = Adopt(fd, expectation);
  if (!memfd.ok()) sys::Close(fd);
  return memfd;
}

Memfd& Memfd::operator=(Memfd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) sys::Close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    page_size_ = other.page_size_;
    page_bytes_ = other.page_bytes_;
  }
  return *this;
}

Memfd::~Memfd() {
  if (fd_ >= 0) sys::Close(fd_);
}

absl::Status Memfd::Resize(uint64_t size_bytes) {
  return sys::Ftruncate(fd_, size_bytes);
}

absl::Status Memfd::Reserve(uint64_t offset_bytes, uint64_t length_bytes) {
  return sys::Fallocate(fd_, 0, offset_bytes, length_bytes);
}

absl::Status Memfd::PunchHole(uint64_t offset_bytes, uint64_t length_bytes) {
  return sys::Fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        offset_bytes, length_bytes);
}

absl::Status Memfd::AddSeals(Seal seals) {
  return sys::Fcntl(fd_, F_ADD_SEALS, static_cast<int>(seals)).status();
}

absl::StatusOr<Seal> Memfd::Seals() const {
  absl::StatusOr<int> seals = sys::Fcntl(fd_, F_GET_SEALS, 0);
  if (!seals.ok()) return seals.status();
  return static_cast<Seal>(*seals);
}

absl::Status Memfd::RequireSeals(Seal exactly) const {
  absl::StatusOr<Seal> seals = Seals();
  if (!seals.ok()) return seals.status();
  if (*seals == exactly) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the file has the seals ", ToString(*seals),
                   ", required are exactly ", ToString(exactly)));
}

absl::StatusOr<size_t> Memfd::ReadAt(uint64_t offset_bytes,
                                     std::span<std::byte> into) const {
  return sys::Pread(fd_, into, offset_bytes);
}

absl::StatusOr<size_t> Memfd::WriteAt(uint64_t offset_bytes,
                                      std::span<const std::byte> from) {
  return sys::Pwrite(fd_, from, offset_bytes);
}

absl::StatusOr<Memfd> Memfd::Duplicate() const {
  absl::StatusOr<int> fd = sys::Dup(fd_);
  if (!fd.ok()) return fd.status();
  return Memfd(*fd, page_size_, page_bytes_);
}

absl::Status Memfd::Send(int unix_socket) const {
  return sys::SendDescriptors(unix_socket, std::array{fd_}, {});
}

absl::StatusOr<Memfd::Stat> Memfd::Query() const {
  absl::StatusOr<struct stat> stat = sys::Fstat(fd_);
  if (!stat.ok()) return stat.status();
  // st_blocks counts 512 bytes, whatever st_blksize says (stat(2)).
  return Stat{static_cast<uint64_t>(stat->st_size),
              static_cast<uint64_t>(stat->st_blocks) * 512, stat->st_ino,
              (stat->st_mode & 0111) != 0};
}

}  // namespace doppel
