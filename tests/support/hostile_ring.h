// SPDX-License-Identifier: Apache-2.0
//
// A peer of a guarded ring that can store whatever it likes: its file made by hand, with
// a mapping of its own that stays writable behind the seals.
//
// Invariants:
//   1. Made with no changes, the file is what an honest peer would have made.
//
// Thread safety: none; the words are atomic.
// Errors: what the system refuses ends the test.
//
// Example:
//   HostileFile file({.sides = kWriterHere, .capacity_bytes = 4096});
//   file.Seal();
//   auto consumer = GuardedConsumer<>::Attach(file.Invite());
//   file.header().writer.position = UINT64_MAX;

#ifndef DOPPEL_TESTS_SUPPORT_HOSTILE_RING_H_
#define DOPPEL_TESTS_SUPPORT_HOSTILE_RING_H_

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <new>
#include <utility>

#include "doppel/alloc/internal/sys.h"
#include "doppel/alloc/memfd.h"
#include "doppel/alloc/page_size.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/ring_layout.h"
#include "gtest/gtest.h"

namespace doppel::testing {

inline constexpr Seal kGuardedSeals =
    Seal::kShrink | Seal::kGrow | Seal::kFutureWrite | Seal::kSeal;

class HostileFile {
 public:
  struct Shape {
    uint32_t sides = kWriterHere;
    uint64_t capacity_bytes = 0;  // The consumer's file has none.
    uint64_t item_bytes = 8;
  };

  explicit HostileFile(const Shape& shape)
      : memfd_(*Memfd::Create({.name = "hostile"})),
        bytes_(BasePageBytes() + shape.capacity_bytes) {
    EXPECT_TRUE(memfd_.Resize(bytes_).ok());
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED,
                        memfd_.fd(), 0);
    EXPECT_NE(memory, MAP_FAILED);
    header_ = new (memory) RingHeader<>();
    header_->identity.page_bytes = static_cast<uint32_t>(BasePageBytes());
    header_->identity.items_offset_bytes = BasePageBytes();
    header_->identity.capacity_bytes = shape.capacity_bytes;
    header_->identity.item_bytes = shape.item_bytes;
    header_->identity.sides = shape.sides;
  }
  ~HostileFile() {
    munmap(header_, bytes_);
    for (const int fd : link_) {
      if (fd >= 0) close(fd);
    }
  }
  HostileFile(const HostileFile&) = delete;
  HostileFile& operator=(const HostileFile&) = delete;

  Memfd& memfd() { return memfd_; }
  RingHeader<>& header() { return *header_; }
  std::byte* items() {
    return reinterpret_cast<std::byte*>(header_) + BasePageBytes();
  }

  void Seal(doppel::Seal seals = kGuardedSeals) {
    EXPECT_TRUE(memfd_.AddSeals(seals).ok());
  }

  // To a ring of which this file is the producer's. The link's other end is kept.
  RingInvitation Invite() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, link_.data()), 0);
    return RingInvitation(dup(memfd_.fd()),
                          {.fd = std::exchange(link_[1], -1), .id = 1}, 0);
  }

  // Sends this file, a consumer's, as the answer to an invitation.
  void Answer(RingInvitation invitation) {
    close(invitation.ReleaseRing());
    link_[0] = invitation.ReleaseLink().fd;
    EXPECT_TRUE(
        internal::sys::SendDescriptors(link_[0], std::array{memfd_.fd()}, {})
            .ok());
  }

  int link() const { return link_[0]; }

 private:
  Memfd memfd_;
  uint64_t bytes_;
  RingHeader<>* header_ = nullptr;
  std::array<int, 2> link_ = {-1, -1};
};

}  // namespace doppel::testing

#endif  // DOPPEL_TESTS_SUPPORT_HOSTILE_RING_H_
