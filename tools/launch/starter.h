// What a launcher starts: mpirun, srun, the agents themselves; and the last that they said.
#pragma once

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/launch/commands.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/process.h"

namespace strata::launch {

class Starter {
 public:
  // Their output goes to `log_path`, too, unless that is empty.
  Starter(EventLoop& loop, std::string log_path);
  ~Starter();
  Starter(const Starter&) = delete;

  // The children get `death_signal` should we be killed. On an error some may run.
  Status Start(const std::vector<Command>& commands, int death_signal);
  // After a SIGCHLD. True when the last has just ended.
  bool Reap();
  // SIGTERM to all, and SIGKILL soon after.
  void End();
  // SIGTERM to all; returns when they have ended, or when the time has passed.
  void EndAndWait(std::chrono::milliseconds time);

  bool is_running() const { return num_running_ > 0; }
  // One has ended and was to do more.
  bool has_failed() const { return !ending_.ok(); }
  // The first bad one, if there is one.
  const Ending& ending() const { return ending_; }
  // The last lines of their output and errors.
  const std::string& said() const { return said_; }

 private:
  struct Started {
    pid_t pid = -1;  // -1: it has ended
    std::unique_ptr<LineReader> out;
    std::unique_ptr<LineReader> err;
  };
  void Hear(std::string_view lines);
  void Signal(int number) const;

  EventLoop& loop_;
  const std::string log_path_;
  Descriptor log_;
  std::vector<Started> children_;
  size_t num_running_ = 0;
  Ending ending_;
  std::string said_;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace strata::launch
