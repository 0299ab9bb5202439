// A training step in one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "tools/terminal.h"

namespace strata::tools {

struct StepReport {
  uint64_t step = 0;  // the first is 1
  uint64_t total_steps = 0;
  double loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  std::optional<double> loss_scale = {};  // fp16
  bool skipped = false;                   // fp16: gradients overflowed, nothing was updated
  double tokens_per_s = 0;
  double seconds_left = 0;
  double read_gb_per_s = 0;  // NVMe
  double write_gb_per_s = 0;
  double h2d_gb_per_s = 0;
  double d2h_gb_per_s = 0;
  double stall_fraction = 0;  // of the step's time, in which nothing was computed
};

// Everything, for a file or a pipe. No newline.
std::string PlainStepLine(const StepReport& report);

// What fits into `width` columns, the most wanted first, and a bar if there is room for one.
// Colours count no columns.
std::string TerminalStepLine(const StepReport& report, size_t width, Colour colour);

}  // namespace strata::tools
