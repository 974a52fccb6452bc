// SPDX-License-Identifier: Apache-2.0
//
// What a connection costs: inviting, passing the invitation over a socket, attaching
// and giving it all back. The argument is the ring's size in bytes.

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <utility>

#include "absl/status/statusor.h"
#include "benchmark/benchmark.h"
#include "doppel/containers/ring_invitation.h"
#include "doppel/containers/shared_ring.h"

namespace doppel::bench {
namespace {

template <class T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

void Connect(benchmark::State& state) {
  std::array<int, 2> sockets = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()) != 0) {
    throw std::runtime_error("socketpair");
  }
  auto ring = Value(SharedRing<>::Create(static_cast<size_t>(state.range(0))));
  for (auto _ : state) {
    if (!Value(ring.Invite()).Send(sockets[0]).ok()) {
      state.SkipWithError("the invitation was not sent");
    }
    benchmark::DoNotOptimize(Value(
        SharedRing<>::Attach(Value(RingInvitation::Receive(sockets[1])))));
  }
  for (const int fd : sockets) close(fd);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(Connect)
    ->Name("ring_invitation/connect")
    ->Arg(64 << 10)
    ->Arg(4 << 20);

}  // namespace
}  // namespace doppel::bench
