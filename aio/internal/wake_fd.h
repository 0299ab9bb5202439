// What wakes a thread that sleeps in the kernel.
#pragma once

#include <memory>
#include <string_view>

#include "aio/base/status.h"

namespace strata::aio {

// An eventfd. It counts, so that a signal before the sleep is not lost.
class WakeFd {
 public:
  static Result<std::unique_ptr<WakeFd>> Create();
  ~WakeFd();
  WakeFd(const WakeFd&) = delete;

  int fd() const { return fd_; }
  void Signal();  // any thread
  bool IsSignalled() const;
  void Clear();  // takes what was signalled; waits for a signal when there was none

 private:
  explicit WakeFd(int fd) : fd_(fd) {}
  const int fd_;
};

// What the kernel said to a call that makes a descriptor, with what helps when there are none left.
Status DescriptorRefused(int error_number, std::string_view call);

}  // namespace strata::aio
