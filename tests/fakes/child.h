// A process of its own for a part of a test, which may end any way it likes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>

#include "aio/base/check.h"

namespace strata::fakes {

// Reports numbers until it ends, or is killed. To be started while this process has one thread.
class Child {
 public:
  using Report = std::function<void(uint64_t)>;

  explicit Child(const std::function<void(const Report&)>& body) {
    STRATA_CHECK(pipe(pipe_.data()) == 0);
    pid_ = fork();
    STRATA_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      body([this](uint64_t number) {
        if (write(pipe_[1], &number, sizeof(number)) != sizeof(number)) _exit(1);
      });
      _exit(0);
    }
    close(pipe_[1]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    Kill();
    close(pipe_[0]);
  }

  pid_t pid() const { return pid_; }

  // Empty once the child is dead and all it said has been read.
  std::optional<uint64_t> Next() {
    uint64_t number = 0;
    if (read(pipe_[0], &number, sizeof(number)) != sizeof(number)) return std::nullopt;
    return number;
  }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  // Waits for its end, once Next() is empty. True: it ended by itself and well; false: by SIGKILL.
  // Any other end is CHECKed.
  bool EndedWell() {
    int status = 0;
    STRATA_CHECK(waitpid(pid_, &status, 0) == pid_);
    pid_ = 0;
    if (WIFSIGNALED(status)) {
      STRATA_CHECK(WTERMSIG(status) == SIGKILL);
      return false;
    }
    STRATA_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
  }

 private:
  std::array<int, 2> pipe_ = {};
  pid_t pid_ = 0;
};

}  // namespace strata::fakes
