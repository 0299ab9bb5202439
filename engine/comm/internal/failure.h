// The first failure of a communicator: every later collective returns it.
#pragma once

#include <atomic>
#include <mutex>

#include "aio/base/status.h"

namespace strata::engine {

// Thread-safe.
class Failure {
 public:
  // Whether this one is the first.
  bool Set(const Status& why) {
    STRATA_CHECK(!why.ok());
    std::lock_guard lock(mutex_);
    if (failed()) return false;
    status_ = why;
    failed_.store(true, std::memory_order_release);
    return true;
  }
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Status status() const {
    std::lock_guard lock(mutex_);
    return status_;
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> failed_ = false;
  Status status_;
};

}  // namespace strata::engine
