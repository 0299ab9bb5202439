// One process at a time: a file whose lock the kernel drops when its holder dies.
#pragma once

#include <string>

#include "aio/base/status.h"

namespace strata::tiering {

// Move-only; unlocks when destroyed. The file stays: to remove it while others may be opening it
// would give two processes a lock each, on two files of one name.
class StoreLock {
 public:
  StoreLock() = default;  // locks nothing
  // Never waits: kFailedPrecondition, naming the holder's pid, when another has it.
  static Result<StoreLock> Acquire(const std::string& path);

  StoreLock(StoreLock&& other) noexcept;
  StoreLock& operator=(StoreLock&& other) noexcept;
  ~StoreLock();

 private:
  explicit StoreLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace strata::tiering
