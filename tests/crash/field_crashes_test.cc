// SPDX-License-Identifier: Apache-2.0
//
// What other systems made of the death of a process: who comes in its place comes alone,
// nothing stays locked, and whoever has handed both sides to others goes on.

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"
#include "doppel/tests/crash/numbered_item.h"
#include "doppel/tests/crash/single_step.h"
#include "doppel/tests/support/campaign.h"
#include "doppel/tests/support/child.h"
#include "gtest/gtest.h"

namespace doppel {
namespace {

using ::doppel::testing::Child;
using ::doppel::testing::Exited;
using ::doppel::testing::ExpectItem;
using ::doppel::testing::Item;
using ::doppel::testing::KillAtEachInstruction;
using ::doppel::testing::Numbered;
using ::doppel::testing::Scaled;

using Ring = SharedRing<Item>;

// Where processes meet: each has come when all have.
class Barrier {
 public:
  Barrier()
      : arrived_(new (mmap(nullptr, sizeof(std::atomic<int>),
                           PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0)) std::atomic<int>(0)) {}
  ~Barrier() { munmap(arrived_, sizeof(*arrived_)); }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  void Arrive(int of) {
    arrived_->fetch_add(1);
    while (arrived_->load() < of) sched_yield();
  }

 private:
  std::atomic<int>* arrived_;
};

Ring AttachTo(const Ring& ring) {
  return *Ring::Attach(*RingInvitation::WithoutLink(ring.memfd().fd()));
}

// Two that took a peer for dead after some time repaired the queue at once, and one
// undid what the other did (ramen #398). Here time decides nothing: who only stands
// still keeps its side, and of two that come after its death one is refused.
TEST(FieldCrashes, SuccessorsDoNotCollide) {
  constexpr int kRefused = 1;
  Ring ring = *Ring::Create(1, {.line_ownership = LineOwnership::kOff});
  auto reader = *ring.reader();
  uint64_t read = 0;
  for (int64_t round = 0; round < Scaled(30, 3'000); ++round) {
    Child former([&] {
      Ring its = AttachTo(ring);
      auto writer = *its.writer();
      writer.try_push(Numbered(ring.statistics().pushed));
      kill(getpid(), SIGSTOP);
      return 0;
    });
    int status = 0;
    ASSERT_EQ(waitpid(former.pid(), &status, WUNTRACED), former.pid());
    ASSERT_TRUE(WIFSTOPPED(status));
    {
      Ring early = AttachTo(ring);
      EXPECT_TRUE(absl::IsFailedPrecondition(early.writer().status()));
    }
    former.Kill();

    Barrier start;
    Barrier end;
    const auto succeed = [&] {
      Ring its = AttachTo(ring);
      start.Arrive(2);
      absl::StatusOr<RingWriter<Item>> writer = its.writer();
      const bool taken =
          writer.ok() && writer->try_push(Numbered(ring.statistics().pushed));
      end.Arrive(2);
      return taken ? 0 : kRefused;
    };
    Child one(succeed);
    Child other(succeed);
    const std::array<int, 2> ended = {one.Wait(), other.Wait()};
    EXPECT_TRUE(Exited(ended[0], 0) != Exited(ended[1], 0)) << round;
    EXPECT_TRUE(Exited(ended[0], kRefused) != Exited(ended[1], kRefused));
    for (const uint64_t all = read + 2; read < all; ++read) {
      const std::optional<Item> item = reader.try_pop();
      ASSERT_TRUE(item.has_value()) << round;
      ExpectItem(*item, read);
    }
    EXPECT_TRUE(reader.empty());
    if (HasFailure()) return;
  }
}

// A process that was killed while it published took the daemon down that had made the
// queue, or the daemon could not be started again (iceoryx #2193, #2260, #2304); a queue
// of which one was killed stayed locked for ever (Boost.Interprocess #163). Here a
// broker gives both sides away, and at whatever instruction one of the two is killed, it
// makes the next pair, which goes on.
TEST(FieldCrashes, TheBrokerGoesOn) {
  Ring ring = *Ring::Create(1, {.line_ownership = LineOwnership::kOff});
  std::optional<std::array<RingInvitation, 2>> pair = *ring.InvitePair();
  const auto take = [&](size_t which) {
    return *Ring::Attach(std::move((*pair)[which]),
                         {.line_ownership = LineOwnership::kOff});
  };
  std::optional<Ring> its;
  std::optional<RingWriter<Item>> writer;
  uint64_t read = 0;
  uint64_t next = 0;
  const int instructions = KillAtEachInstruction(
      [&] {
        its.emplace(take(0));
        writer.emplace(*its->writer());
        next = ring.statistics().pushed;
      },
      [&] {
        const std::array<Item, 2> items = {Numbered(next), Numbered(next + 1)};
        writer->push(items);
      },
      [&](int n) {
        SCOPED_TRACE(n);
        pair.reset();
        pair = *ring.InvitePair();
        {
          Ring writers = take(0);
          Ring readers = take(1);
          auto its_writer = writers.writer();
          auto its_reader = readers.reader();
          ASSERT_TRUE(its_writer.ok()) << its_writer.status();
          ASSERT_TRUE(its_reader.ok()) << its_reader.status();
          ASSERT_TRUE(its_writer->try_push(Numbered(ring.statistics().pushed)));
          const uint64_t before = read;
          while (const std::optional<Item> item = its_reader->try_pop()) {
            ExpectItem(*item, read++);
          }
          EXPECT_EQ(read, ring.statistics().pushed);
          EXPECT_TRUE(read - before == 1 || read - before == 3)
              << "all of the dead one's or none, and one: " << read - before;
        }
        pair = *ring.InvitePair();
      });
  EXPECT_GT(instructions, 20);
}

}  // namespace
}  // namespace doppel
