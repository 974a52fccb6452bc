// SPDX-License-Identifier: Apache-2.0
//
// The rings and channels that are compared, each behind the same few functions.
//
//   subject(bytes) ─┬─ writer() ─ Push, Fill, Send, Stream    (benchmark's thread)
//                   └─ reader() ─ Pop, Drain, Receive, Take   (partner)
//
//   Push / Pop          one item of 8 bytes
//   Fill / Drain        up to kBatch items of 8 bytes: produced and summed
//   Send / Receive      one message with its length before it
//   Stream / Take       some of a stream of bytes
//
// Invariants:
//   1. Each subject is used as its documentation shows it at its best: a ring with
//      spans is written and read in place, others through the copies they ask for.
//   2. A receiver of messages touches each cache line of each (Digest).
//   3. Push and Pop are no calls, for any subject: what is compared is the rings.
//   4. Functions return 0 or false for "not now"; they never wait, but for those of
//      descriptors, which block (kBlocks).
//
// Thread safety: one thread a side.
// Errors: a subject that cannot be made throws std::runtime_error.
//
// Example:
//   DoppelItems ring(4096);
//   auto writer = ring.writer();
//   while (!writer.Push(7)) Pause();

#ifndef DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_
#define DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "boost/lockfree/spsc_queue.hpp"
#include "doppel/bench/containers/index_ring.h"
#include "doppel/bench/containers/ring_harness.h"
#include "doppel/containers/message.h"
#include "doppel/containers/spsc_ring.h"

namespace doppel::bench {

inline constexpr size_t kBatch = 64;
inline constexpr size_t kMaxMessageBytes = 4096;
inline constexpr size_t kStreamBytes = 64 << 10;  // Taken at a time, at most.

using Length = uint64_t;  // What stands before a message.

// A word of each cache line.
inline uint64_t Digest(const std::byte* data, size_t bytes) {
  uint64_t sum = bytes;
  for (size_t i = 0; i + sizeof(uint64_t) <= bytes; i += 64) {
    uint64_t word = 0;
    std::memcpy(&word, data + i, sizeof(word));
    sum += word;
  }
  return sum;
}

inline uint64_t Sum(std::span<const uint64_t> items) {
  return std::accumulate(items.begin(), items.end(), uint64_t{0});
}

// What the readers of messages that copy share: a buffer.
class MessageBuffer {
 protected:
  std::span<std::byte> Room(size_t bytes) {
    return std::span(buffer_).first(bytes);
  }

 private:
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kStreamBytes);
};

// --- doppel ---

template <class T>
SpscRing<T> MakeDoppelRing(size_t bytes) {
  absl::StatusOr<SpscRing<T>> ring = SpscRing<T>::Create(bytes / sizeof(T));
  if (!ring.ok()) throw std::runtime_error(ring.status().ToString());
  return *std::move(ring);
}

class DoppelItems {
 public:
  static constexpr char kName[] = "doppel_ring";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return ring.try_push(item);
    }
    size_t Fill(uint64_t first) {
      const std::span<uint64_t> slots = ring.reserve(kBatch);
      if (slots.empty()) return 0;
      std::iota(slots.begin(), slots.end(), first);
      ring.commit(kBatch);
      return kBatch;
    }
  };
  struct Reader {
    Ring::Reader ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return ring.try_pop(item);
    }
    size_t Drain(uint64_t& sum) {
      auto items = ring.peek();
      items = items.first(std::min(items.size(), kBatch));
      sum += Sum(items);
      if (!items.empty()) ring.consume(items.size());
      return items.size();
    }
  };

  explicit DoppelItems(size_t bytes) : ring_(MakeDoppelRing<uint64_t>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  Ring ring_;
};

// The same with a copy on each side, as the others are used.
class DoppelItemsCopied {
 public:
  static constexpr char kName[] = "doppel_ring_copied";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<uint64_t>;

  struct Writer {
    Ring::Writer ring;
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return ring.push(items);
    }
  };
  struct Reader {
    Ring::Reader ring;
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = ring.pop(items);
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit DoppelItemsCopied(size_t bytes)
      : ring_(MakeDoppelRing<uint64_t>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  Ring ring_;
};

class DoppelBytes {
 public:
  static constexpr char kName[] = "doppel_ring";
  static constexpr bool kBlocks = false;
  using Ring = SpscRing<std::byte>;

  struct Writer {
    Ring::Writer ring;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      const std::span<std::byte> frame = ring.reserve(FrameBytes(length));
      if (frame.empty()) return false;
      std::memcpy(frame.data(), &length, sizeof(length));
      std::memcpy(frame.data() + sizeof(length), message.data(), length);
      ring.commit(frame.size());
      return true;
    }
    size_t Stream(std::span<const std::byte> bytes) { return ring.push(bytes); }
  };
  struct Reader {
    Ring::Reader ring;
    size_t Receive(uint64_t& digest) {
      const std::span<const std::byte> known = ring.peek(sizeof(Length));
      if (known.empty()) return 0;
      Length length = 0;
      std::memcpy(&length, known.data(), sizeof(length));
      digest += Digest(known.data() + sizeof(length), length);
      ring.consume(FrameBytes(length));
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      std::span<const std::byte> bytes = ring.peek();
      if (bytes.empty()) return 0;
      bytes = bytes.first(std::min(bytes.size(), kStreamBytes));
      use(bytes);
      ring.consume(bytes.size());
      return bytes.size();
    }
  };

  explicit DoppelBytes(size_t bytes)
      : ring_(MakeDoppelRing<std::byte>(bytes)) {}
  Writer writer() { return {ring_.writer()}; }
  Reader reader() { return {ring_.reader()}; }

 private:
  // Lengths stay aligned.
  static size_t FrameBytes(size_t message_bytes) {
    return (sizeof(Length) + message_bytes + 7) / 8 * 8;
  }

  Ring ring_;
};

// Inlined whole, as code is that has the handle in a local variable.
class DoppelMessages {
 public:
  static constexpr char kName[] = "doppel_messages";
  static constexpr bool kBlocks = false;

  struct Writer {
    MessageWriter messages;
    ABSL_ATTRIBUTE_ALWAYS_INLINE ~Writer() = default;
    bool Send(std::span<const std::byte> message) {
      return messages.push(message) == RingRoom::kRoom;
    }
  };
  struct Reader {
    MessageReader messages;
    ABSL_ATTRIBUTE_ALWAYS_INLINE ~Reader() = default;
    ABSL_ATTRIBUTE_ALWAYS_INLINE size_t Receive(uint64_t& digest) {
      const auto message = messages.next();
      if (!message) return 0;
      digest += Digest(message->data(), message->size());
      messages.release();
      return message->size();
    }
  };

  explicit DoppelMessages(size_t bytes)
      : ring_(MakeDoppelRing<std::byte>(bytes)) {}
  Writer writer() { return {MessageWriter(ring_.writer())}; }
  Reader reader() { return {MessageReader(ring_.reader())}; }

 private:
  SpscRing<> ring_;
};

// --- boost::lockfree::spsc_queue ---

class BoostItems {
 public:
  static constexpr char kName[] = "boost_spsc";
  static constexpr bool kBlocks = false;
  using Queue = boost::lockfree::spsc_queue<uint64_t>;

  struct Writer {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return queue->push(item);
    }
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return queue->push(items.data(), items.size());
    }
  };
  struct Reader {
    Queue* queue;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return queue->pop(item);
    }
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = queue->pop(items.data(), items.size());
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit BoostItems(size_t bytes) : queue_(bytes / sizeof(uint64_t)) {}
  Writer writer() { return {&queue_}; }
  Reader reader() { return {&queue_}; }

 private:
  Queue queue_;
};

class BoostBytes {
 public:
  static constexpr char kName[] = "boost_spsc";
  static constexpr bool kBlocks = false;
  using Queue = boost::lockfree::spsc_queue<std::byte>;

  struct Writer {
    Queue* queue;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      if (queue->write_available() < sizeof(length) + length) return false;
      queue->push(reinterpret_cast<const std::byte*>(&length), sizeof(length));
      queue->push(message.data(), length);
      return true;
    }
    size_t Stream(std::span<const std::byte> bytes) {
      return queue->push(bytes.data(), bytes.size());
    }
  };
  struct Reader : private MessageBuffer {
    explicit Reader(Queue* of) : queue(of) {}
    size_t Receive(uint64_t& digest) {
      if (queue->read_available() < sizeof(Length)) return 0;
      Length length = 0;
      queue->pop(reinterpret_cast<std::byte*>(&length), sizeof(length));
      const std::span<std::byte> message = Room(length);
      while (queue->read_available() < length) Pause();
      queue->pop(message.data(), length);
      digest += Digest(message.data(), length);
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      const std::span<std::byte> room = Room(kStreamBytes);
      const size_t n = queue->pop(room.data(), room.size());
      use(std::span<const std::byte>(room.first(n)));
      return n;
    }
    Queue* queue;
  };

  explicit BoostBytes(size_t bytes) : queue_(bytes) {}
  Writer writer() { return {&queue_}; }
  Reader reader() { return Reader(&queue_); }

 private:
  Queue queue_;
};

// --- A ring of indices ---

class IndexItems {
 public:
  static constexpr char kName[] = "index_ring";
  static constexpr bool kBlocks = false;
  using Ring = IndexRing<uint64_t>;

  struct Writer {
    Ring* ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Push(uint64_t item) {
      return ring->Push(item);
    }
    size_t Fill(uint64_t first) {
      std::array<uint64_t, kBatch> items;
      std::iota(items.begin(), items.end(), first);
      return ring->PushSome(items);
    }
  };
  struct Reader {
    Ring* ring;
    ABSL_ATTRIBUTE_ALWAYS_INLINE bool Pop(uint64_t& item) {
      return ring->Pop(item);
    }
    size_t Drain(uint64_t& sum) {
      std::array<uint64_t, kBatch> items;
      const size_t n = ring->PopSome(items);
      sum += Sum(std::span(items).first(n));
      return n;
    }
  };

  explicit IndexItems(size_t bytes) : ring_(bytes / sizeof(uint64_t)) {}
  Writer writer() { return {&ring_}; }
  Reader reader() { return {&ring_}; }

 private:
  Ring ring_;
};

class IndexBytes {
 public:
  static constexpr char kName[] = "index_ring";
  static constexpr bool kBlocks = false;
  using Ring = IndexRing<std::byte>;

  struct Writer {
    Ring* ring;
    bool Send(std::span<const std::byte> message) {
      const Length length = message.size();
      return ring->PushBoth(std::as_bytes(std::span(&length, 1)), message);
    }
    size_t Stream(std::span<const std::byte> bytes) {
      return ring->PushSome(bytes);
    }
  };
  struct Reader : private MessageBuffer {
    explicit Reader(Ring* of) : ring(of) {}
    // Length and message are published together, so both are there or neither.
    size_t Receive(uint64_t& digest) {
      Length length = 0;
      if (ring->PopSome(std::as_writable_bytes(std::span(&length, 1))) == 0) {
        return 0;
      }
      const std::span<std::byte> message = Room(length);
      ring->PopSome(message);
      digest += Digest(message.data(), length);
      return length;
    }
    template <class Use>
    size_t Take(Use use) {
      const std::span<std::byte> room = Room(kStreamBytes);
      const size_t n = ring->PopSome(room);
      use(std::span<const std::byte>(room.first(n)));
      return n;
    }
    Ring* ring;
  };

  explicit IndexBytes(size_t bytes) : ring_(bytes) {}
  Writer writer() { return {&ring_}; }
  Reader reader() { return Reader(&ring_); }

 private:
  Ring ring_;
};

// --- Descriptors: the kernel copies, and wakes who sleeps ---

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

#endif  // DOPPEL_BENCH_CONTAINERS_RING_SUBJECTS_H_
