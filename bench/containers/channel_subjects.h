// SPDX-License-Identifier: Apache-2.0
//
// The kernel's channels as subjects (ring_subjects.h): it copies, and wakes who sleeps.
//
// Invariants:
//   1. A side closes its descriptor when it ends, which wakes the other.
//   2. The buffer is as large as the argument says, as far as the kernel lets it be.
//
// Thread safety: one thread a side.
// Errors: a channel that cannot be made throws std::runtime_error.
//
// Example:
//   Pipe pipe(64 << 10);
//   auto writer = pipe.writer();
//   writer.Push(7);

#ifndef DOPPEL_BENCH_CONTAINERS_CHANNEL_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_CHANNEL_SUBJECTS_H_

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <stdexcept>
#include <utility>

#include "absl/base/attributes.h"
#include "doppel/bench/containers/ring_load.h"

namespace doppel::bench {

// A pair of descriptors, of which `Open` makes one to write to and one to read from.
template <class Open>
class Channel {
 public:
  static constexpr const char* kName = Open::kName;
  static constexpr bool kBlocks = true;

  class Writer {
   public:
    explicit Writer(int fd) : fd_(fd) {}
    Writer(Writer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    // The reader's end of stream.
    ~Writer() {
      if (fd_ >= 0) close(fd_);
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return write(fd_, &item, sizeof(item)) > 0;
    }
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      WriteAll(std::as_bytes(std::span(items)));
      return kBatch;
    }
    bool Send(std::span<const std::byte> message) {
      Length length = message.size();
      std::array<iovec, 2> parts = {
          iovec{&length, sizeof(length)},
          iovec{const_cast<std::byte*>(message.data()), message.size()}};
      const ssize_t written = writev(fd_, parts.data(), 2);
      if (written < static_cast<ssize_t>(sizeof(length))) return false;
      WriteAll(message.subspan(static_cast<size_t>(written) - sizeof(length)));
      return true;
    }
    size_t Stream(std::span<const std::byte> bytes) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      return written > 0 ? static_cast<size_t>(written) : 0;
    }

   private:
    void WriteAll(std::span<const std::byte> bytes) {
      while (!bytes.empty()) bytes = bytes.subspan(Stream(bytes));
    }
    int fd_;
  };

  class Reader : private MessageBuffer {
   public:
    explicit Reader(int fd) : fd_(fd) {}
    Reader(Reader&& other) noexcept
        : MessageBuffer(std::move(other)), fd_(std::exchange(other.fd_, -1)) {}
    ~Reader() {
      if (fd_ >= 0) close(fd_);
    }
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return ReadAll(std::as_writable_bytes(std::span(&item, 1)));
    }
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      if (!ReadAll(std::as_writable_bytes(std::span(items)))) return 0;
      sum += Sum(items);
      return kBatch;
    }
    size_t Receive(uint64_t& digest) {
      Length length = 0;
      if (!ReadAll(std::as_writable_bytes(std::span(&length, 1)))) return 0;
      const std::span<std::byte> message = this->Room(length);
      if (!ReadAll(message)) return 0;
      digest += Digest(message.data(), length);
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      const std::span<std::byte> room = this->Room(kStreamBytes);
      const ssize_t n = read(fd_, room.data(), room.size());
      if (n <= 0) return 0;
      use(std::span<const std::byte>(room.first(static_cast<size_t>(n))));
      return static_cast<size_t>(n);
    }

   private:
    bool ReadAll(std::span<std::byte> bytes) {
      while (!bytes.empty()) {
        const ssize_t n = read(fd_, bytes.data(), bytes.size());
        if (n <= 0) return false;
        bytes = bytes.subspan(static_cast<size_t>(n));
      }
      return true;
    }
    int fd_;
  };

  explicit Channel(size_t bytes) {
    if (!Open::Make(bytes, fds_)) throw std::runtime_error(Open::kName);
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    for (const int fd : fds_) {
      if (fd >= 0) close(fd);
    }
  }
  Writer writer() { return Writer(std::exchange(fds_[1], -1)); }
  Reader reader() { return Reader(std::exchange(fds_[0], -1)); }

 private:
  std::array<int, 2> fds_ = {-1, -1};  // To read from, to write to.
};

struct OpenPipe {
  static constexpr char kName[] = "pipe";
  static bool Make(size_t bytes, std::array<int, 2>& fds) {
    if (pipe2(fds.data(), O_CLOEXEC) != 0) return false;
    // Above fs.pipe-max-size it stays at its default, 64 KiB.
    (void)fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(bytes));
    return true;
  }
};

struct OpenSocketPair {
  static constexpr char kName[] = "socketpair";
  static bool Make(size_t bytes, std::array<int, 2>& fds) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
      return false;
    }
    // At most net.core.wmem_max.
    const int buffer_bytes = static_cast<int>(bytes);
    (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &buffer_bytes,
                     sizeof(buffer_bytes));
    return true;
  }
};

using Pipe = Channel<OpenPipe>;
using SocketPair = Channel<OpenSocketPair>;

}  // namespace doppel::bench

#endif  // DOPPEL_BENCH_CONTAINERS_CHANNEL_SUBJECTS_H_
