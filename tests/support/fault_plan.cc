// SPDX-License-Identifier: Apache-2.0

#include "doppel/tests/support/fault_plan.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace doppel::testing {
namespace {

using internal::sys::CallName;
using internal::sys::kCalls;
using internal::sys::SetFaultHook;

}  // namespace

// One list a call, in the order of its manual page.
std::span<const int> ErrnosOf(Call call) {
  static constexpr int kMemfdCreate[] = {EINVAL, EMFILE, ENFILE, ENOMEM, EPERM};
  static constexpr int kShmOpen[] = {EACCES,       EEXIST, EINVAL, EMFILE,
                                     ENAMETOOLONG, ENFILE, ENOENT};
  static constexpr int kShmUnlink[] = {EACCES, ENOENT, ENAMETOOLONG};
  static constexpr int kOpen[] = {EACCES, EMFILE, ENFILE, ENOENT,
                                  ENOMEM, ENXIO,  EPERM};
  static constexpr int kDup[] = {EINVAL, EMFILE};
  static constexpr int kFtruncate[] = {EINVAL, EFBIG, EPERM, ENOSPC};
  static constexpr int kFallocate[] = {EFBIG,  EINVAL,     EIO,   ENODEV,
                                       ENOSPC, EOPNOTSUPP, EPERM, ENOMEM};
  static constexpr int kFcntl[] = {EACCES, EBUSY, EINVAL, EMFILE, EPERM};
  static constexpr int kFstat[] = {ENOMEM, EOVERFLOW};
  static constexpr int kFstatfs[] = {EIO, ENOMEM, ENOSYS, EOVERFLOW};
  static constexpr int kPread[] = {EINVAL, EIO, EISDIR, ESPIPE};
  static constexpr int kPwrite[] = {EFBIG, EINVAL, EIO, ENOSPC, EPERM, ESPIPE};
  static constexpr int kRead[] = {EINVAL, EIO, EISDIR};
  static constexpr int kSendmsg[] = {EAGAIN,   ECONNRESET, EINVAL,
                                     EMSGSIZE, ENOBUFS,    ENOMEM,
                                     EPIPE,    ENOTSOCK,   ENOTCONN};
  static constexpr int kRecvmsg[] = {EAGAIN, ECONNREFUSED, EINVAL,
                                     ENOMEM, ENOTCONN,     ENOTSOCK};
  static constexpr int kMmap[] = {EACCES, EAGAIN, EEXIST, EINVAL,   ENFILE,
                                  ENODEV, ENOMEM, EPERM,  EOVERFLOW};
  static constexpr int kMunmap[] = {EINVAL, ENOMEM};
  static constexpr int kMprotect[] = {EACCES, EINVAL, ENOMEM};
  static constexpr int kMremap[] = {EAGAIN, EINVAL, ENOMEM};
  static constexpr int kMadvise[] = {EACCES, EAGAIN, EBUSY, EFAULT,   EINVAL,
                                     EIO,    ENOMEM, EPERM, EHWPOISON};
  static constexpr int kMlock[] = {EAGAIN, EINVAL, ENOMEM, EPERM};
  static constexpr int kMunlock[] = {EAGAIN, EINVAL, ENOMEM};
  static constexpr int kMsync[] = {EBUSY, EINVAL, ENOMEM};
  static constexpr int kIoctl[] = {EINVAL, ENOTTY, ENOMEM};
  static constexpr int kGetrlimit[] = {EINVAL, EPERM};
  static constexpr int kMembarrier[] = {EINVAL, ENOSYS, EPERM};
  static constexpr int kEventfd[] = {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM};
  static constexpr int kSocketpair[] = {EAFNOSUPPORT, EMFILE, ENFILE, ENOMEM};
  switch (call) {
    case Call::kMemfdCreate:
      return kMemfdCreate;
    case Call::kShmOpen:
      return kShmOpen;
    case Call::kShmUnlink:
      return kShmUnlink;
    case Call::kOpen:
      return kOpen;
    case Call::kDup:
      return kDup;
    case Call::kFtruncate:
      return kFtruncate;
    case Call::kFallocate:
      return kFallocate;
    case Call::kFcntl:
      return kFcntl;
    case Call::kFstat:
      return kFstat;
    case Call::kFstatfs:
      return kFstatfs;
    case Call::kPread:
      return kPread;
    case Call::kPwrite:
      return kPwrite;
    case Call::kRead:
      return kRead;
    case Call::kSendmsg:
      return kSendmsg;
    case Call::kRecvmsg:
      return kRecvmsg;
    case Call::kMmap:
      return kMmap;
    case Call::kMunmap:
      return kMunmap;
    case Call::kMprotect:
      return kMprotect;
    case Call::kMremap:
      return kMremap;
    case Call::kMadvise:
      return kMadvise;
    case Call::kMlock:
    case Call::kMlockall:
      return kMlock;
    case Call::kMunlock:
    case Call::kMunlockall:
      return kMunlock;
    case Call::kMsync:
      return kMsync;
    case Call::kIoctl:
      return kIoctl;
    case Call::kGetrlimit:
      return kGetrlimit;
    case Call::kMembarrier:
      return kMembarrier;
    case Call::kEventfd:
      return kEventfd;
    case Call::kSocketpair:
      return kSocketpair;
    default:
      return {};
  }
}

std::string Fault::ToString() const {
  return absl::StrCat(CallName(call), " call ", nth,
                      sticky ? " and later ones fail with " : " fails with ",
                      strerrorname_np(error));
}

FaultPlan::FaultPlan(const Fault& fault)
    : fault_(fault), before_(SetFaultHook(this)) {}

FaultPlan::~FaultPlan() { SetFaultHook(before_); }

int FaultPlan::ErrnoFor(Call call) {
  if (fired_) {
    int none = kNone;
    next_.compare_exchange_strong(none, static_cast<int>(call));
  }
  if (call != fault_.call) return 0;
  const int nth = ++calls_;
  if (nth != fault_.nth && !(fault_.sticky && nth > fault_.nth)) return 0;
  fired_ = true;
  return fault_.error;
}

CallCounter::CallCounter() : before_(SetFaultHook(this)) {}

CallCounter::~CallCounter() { SetFaultHook(before_); }

int CallCounter::ErrnoFor(Call call) {
  ++counts_[static_cast<size_t>(call)];
  return 0;
}

int CallCounter::total() const {
  int total = 0;
  for (const std::atomic<int>& count : counts_) total += count;
  return total;
}

std::vector<Fault> FaultsOf(Call call, int nth) {
  // Never for ever: a call that is always interrupted is always repeated.
  std::vector<Fault> faults = {{call, nth, EINTR, /*sticky=*/false}};
  for (const int error : ErrnosOf(call)) {
    faults.push_back({call, nth, error, /*sticky=*/false});
    faults.push_back({call, nth, error, /*sticky=*/true});
  }
  return faults;
}

std::vector<Fault> FaultsFor(const CallCounter& counter, int calls_each) {
  std::vector<Fault> faults;
  for (int i = 0; i < kCalls; ++i) {
    const Call call = static_cast<Call>(i);
    const int count = counter.count(call);
    for (int nth = 1; nth <= count; ++nth) {
      // How often a file of /proc is read depends on how long it is just then.
      const bool is_last = nth == count && call != Call::kRead;
      if (nth >= calls_each && !is_last) continue;
      const std::vector<Fault> more = FaultsOf(call, nth);
      faults.insert(faults.end(), more.begin(), more.end());
    }
  }
  return faults;
}

}  // namespace doppel::testing
