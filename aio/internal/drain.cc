#include "aio/internal/drain.h"

#include "aio/base/log.h"

namespace strata::aio {
namespace {

void Report(const std::vector<std::string>& outstanding, double waited_s) {
  if (outstanding.empty()) return;
  Log(Severity::kWarning, "aio",
      "closing: after {:.0f} s {} transfers are still with the kernel, one of {}; look at the "
      "drive and the kernel's log",
      waited_s, outstanding.size(), outstanding.front());
}

}  // namespace

void Drain::ThreadEnds() {
  std::lock_guard lock(mutex_);
  ++num_ended_;
  thread_ended_.notify_all();
}

void Drain::Wait(size_t num_threads, const std::function<std::vector<std::string>()>& outstanding) {
  auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  while (!thread_ended_.wait_for(lock, report_every_, [&] { return num_ended_ >= num_threads; })) {
    lock.unlock();
    std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    Report(outstanding(), waited.count());
    lock.lock();
  }
}

}  // namespace strata::aio
