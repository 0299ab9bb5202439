// The log, read as it is written.
#pragma once

#include <unistd.h>

#include <array>
#include <string>

#include "aio/base/check.h"

namespace strata {

// What is written to stderr while this lives.
class StderrPipe {
 public:
  StderrPipe() {
    std::array<int, 2> ends;
    STRATA_CHECK(pipe(ends.data()) == 0);
    STRATA_CHECK((before_ = dup(STDERR_FILENO)) >= 0);
    STRATA_CHECK(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO && close(ends[1]) == 0);
    read_end_ = ends[0];
  }
  ~StderrPipe() {
    STRATA_CHECK(dup2(before_, STDERR_FILENO) == STDERR_FILENO);
    STRATA_CHECK(close(before_) == 0 && close(read_end_) == 0);
  }
  // Blocks until something is there; a line of the log is written in one go.
  std::string Read() const {
    std::array<char, 4096> text;
    ssize_t length = read(read_end_, text.data(), text.size());
    STRATA_CHECK(length > 0);
    return std::string(text.data(), static_cast<size_t>(length));
  }

 private:
  int before_ = -1, read_end_ = -1;
};

}  // namespace strata
