// SPDX-License-Identifier: Apache-2.0
//
// Interruptions by signals that no fault plan can make: a call that waits in the kernel,
// and close(2), which must not be repeated. The campaigns interrupt all others.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doppel/alloc/memfd.h"
#include "doppel/tests/support/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

std::atomic<bool> interrupt_close{false};
std::atomic<int> interrupted_closes{0};

}  // namespace

// The C library's for the whole program: Linux frees the descriptor and may still say
// that a signal came.
extern "C" int close(int fd) {
  const auto result = static_cast<int>(syscall(SYS_close, fd));
  if (!interrupt_close) return result;
  ++interrupted_closes;
  errno = EINTR;
  return -1;
}

namespace doppel {
namespace {

using ::doppel::testing::IsOk;

// Its number may be another thread's by then.
TEST(InterruptionTest, CloseIsNotRepeated) {
  std::optional<Memfd> file = *Memfd::Create({});
  const int fd = file->fd();
  interrupt_close = true;
  file.reset();
  interrupt_close = false;
  EXPECT_EQ(interrupted_closes, 1);
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

std::atomic<int> signals{0};
void CountSignal(int) { ++signals; }

// Whether the thread waits in the kernel (proc(5), the state S of stat). False also
// where it has ended.
bool Sleeps(pid_t thread) {
  std::ifstream stat(absl::StrCat("/proc/self/task/", thread, "/stat"));
  std::string id;
  std::string name;
  std::string state;
  stat >> id >> name >> state;
  return state == "S";
}

template <class Condition>
bool Within10Seconds(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

TEST(InterruptionTest, AReceiveThatWaitsGoesOnWaiting) {
  struct sigaction action = {};
  action.sa_handler = CountSignal;  // Without SA_RESTART: calls say EINTR.
  struct sigaction before = {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);

  std::atomic<pid_t> thread{0};
  absl::StatusOr<Memfd> received;
  std::thread receiver([&] {
    thread = static_cast<pid_t>(syscall(SYS_gettid));
    received = Memfd::Receive(ends[1], {});
  });
  for (int nth = 1; nth <= 5; ++nth) {
    EXPECT_TRUE(Within10Seconds([&] { return thread != 0 && Sleeps(thread); }));
    pthread_kill(receiver.native_handle(), SIGUSR1);
    EXPECT_TRUE(Within10Seconds([&] { return signals >= nth; }));
    if (HasFailure()) break;
  }
  EXPECT_THAT(Memfd::Create({})->Send(ends[0]), IsOk());
  receiver.join();
  EXPECT_THAT(received, IsOk());

  sigaction(SIGUSR1, &before, nullptr);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace doppel
