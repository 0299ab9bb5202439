// mpirun, srun or the one agent: what a launcher starts, and the last it said.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tools/launch/commands.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/process.h"

namespace strata::launch {

class Starter {
 public:
  // Its output goes to `log_path`, too.
  Starter(EventLoop& loop, std::string log_path);
  ~Starter();
  Starter(const Starter&) = delete;

  Status Start(const Command& command);
  // After a SIGCHLD. True when it has just ended.
  bool Reap();
  // SIGTERM, and SIGKILL soon after.
  void End();

  bool is_running() const { return pid_ > 0; }
  const Ending& ending() const { return ending_; }
  // The last lines of its output and errors.
  const std::string& said() const { return said_; }

 private:
  void Hear(std::string_view lines);

  EventLoop& loop_;
  const std::string log_path_;
  Descriptor log_;
  pid_t pid_ = -1;
  Ending ending_;
  std::string said_;
  std::unique_ptr<LineReader> out_;
  std::unique_ptr<LineReader> err_;
  std::optional<EventLoop::TimerId> timer_;
};

}  // namespace strata::launch
