// SPDX-License-Identifier: Apache-2.0
//
// A log shipper: a program writes its log as messages into a ring that another process
// ships. The program may be killed at any time: every line that it had published is
// shipped, none twice, and the program that is started in its place goes on.

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/containers/message.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"

namespace {

using Ring = doppel::SharedRing<>;

constexpr int kLives = 3;
constexpr int kLinesALife = 1000;

// The program: logs for ever. Here it is killed once it has logged enough.
int Work(Ring ring, int life) {
  absl::StatusOr<doppel::RingWriter<>> bytes = ring.writer();
  if (!bytes.ok()) return 1;
  doppel::MessageWriter log(*std::move(bytes));
  std::array<char, 64> line;
  for (int i = 0;; ++i) {
    const int length =
        std::snprintf(line.data(), line.size(), "life %d, line %d", life, i);
    const auto text =
        std::as_bytes(std::span(line).first(static_cast<size_t>(length)));
    while (log.push(text) == doppel::RingRoom::kFull) {
      // Without a shipper there will be no room.
      if (log.wait(text.size()) != doppel::RingWait::kReady) return 1;
    }
    if (i == kLinesALife) std::raise(SIGKILL);
  }
}

// The shipper: takes lines until the program is gone and nothing is left.
int Ship(doppel::MessageReader& log) {
  int lines = 0;
  while (log.wait() == doppel::RingWait::kReady) {
    while (auto line = log.next()) {
      // Shipping is printing here, and of the first lines only.
      if (lines++ < 2) {
        std::printf("shipped: %.*s\n", static_cast<int>(line->size()),
                    reinterpret_cast<const char*>(line->data()));
      }
    }
    log.release();
  }
  return lines;
}

absl::Status Run() {
  absl::StatusOr<Ring> ring = Ring::Create(64 << 10);
  if (!ring.ok()) return ring.status();
  absl::StatusOr<doppel::RingReader<>> bytes = ring->reader();
  if (!bytes.ok()) return bytes.status();
  doppel::MessageReader log(*std::move(bytes));
  for (int life = 0; life < kLives; ++life) {
    absl::StatusOr<doppel::RingInvitation> invitation = ring->Invite();
    if (!invitation.ok()) return invitation.status();
    std::fflush(stdout);
    const pid_t program = fork();
    if (program == 0) {
      auto mine = Ring::Attach(*std::move(invitation));
      _exit(mine.ok() ? Work(*std::move(mine), life) : 1);
    }
    // The program alone has its end of the link now: it hangs up when that ends.
    invitation->Reset();
    const int lines = Ship(log);
    waitpid(program, nullptr, 0);
    std::printf("the program was killed; %d of its lines are shipped\n", lines);
  }
  return log.status();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
}
