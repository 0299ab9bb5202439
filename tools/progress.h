// Live progress of a training run.
//
// On a terminal one line is rewritten at every step; anywhere else (a file, a pipe, a batch
// system's log) each step is a line of its own, without control characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/step_line.h"
#include "tools/terminal.h"

namespace strata::tools {

// One thread at a time.
class Progress {
 public:
  // Writes to `fd`, which it does not own. Off a terminal only the first step, every `log_every`-th
  // and the last are written.
  Progress(int fd, Terminal terminal, uint64_t log_every);
  // Leaves the last line standing.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Long work that is not steps: "initialising /nvme  43 %". Off a terminal one line when it
  // begins.
  void Work(const std::string& what, uint64_t done, uint64_t total);
  // Measuring: "read, run 2 of 3", "3.71 GB/s, 4 s left". Off a terminal one line for each `what`.
  void Now(const std::string& what, std::string_view figures);
  void Step(const StepReport& report);
  // A line that stays: "saved checkpoint ...". No newline in it.
  void Say(std::string_view line);

 private:
  void Write(std::string_view text);

  int fd_;
  Terminal terminal_;
  uint64_t log_every_;
  bool line_is_open_ = false;
  std::string work_;  // what Work() last told of
};

}  // namespace strata::tools
