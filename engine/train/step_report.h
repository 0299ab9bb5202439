// What one step was like: a line on the screen and a line of metrics.jsonl.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/zero/step_program.h"
#include "prefetch/timeline.h"

namespace strata::engine {

struct StepReport {
  uint64_t step = 0;  // counts from 1: steps done
  uint64_t total_steps = 0;
  double loss = 0;
  double learning_rate = 0;
  double gradient_norm = 0;
  bool clipped = false;
  StepKind kind = StepKind::kAfterNorm;
  bool skipped = false;                   // fp16: its gradients overflowed, and nothing was updated
  std::optional<double> loss_scale = {};  // fp16: of this step
  bool rolled_back = false;  // its updates were; they are made again, clipped, with the next step
  uint64_t tokens = 0;
  double step_s = 0;    // first node's start to last node's end
  double commit_s = 0;  // of the generation commit before it, if there was one
  // Of the checkpoint that was written beside it: how long ops waited for it, and its bytes.
  double checkpoint_wait_s = 0;
  uint64_t checkpoint_bytes_written = 0;
  double change_s = 0;          // before the step: applying kept gradients, changing plans
  double predicted_step_s = 0;  // of a step of this kind
  double bound_s = 0;
  std::array<prefetch::LaneUse, prefetch::kNumLanes> lanes;
  // As the store counted them since the report before: with that step's checkpoint.
  uint64_t nvme_bytes_read = 0;
  uint64_t nvme_bytes_written = 0;
  // Payload of collectives that left this rank for others and that came from them, since the report
  // before.
  uint64_t comm_bytes_sent = 0;
  uint64_t comm_bytes_received = 0;

  double seconds() const { return step_s + commit_s + change_s; }
  double tokens_per_s() const { return static_cast<double>(tokens) / seconds(); }
  // The share of the step in which the compute lane had a next op and waited for it.
  double stall_fraction() const;
  // Of one lane, over the step and its commit.
  double bytes_per_s(prefetch::Lane lane) const;
};

// One line of metrics.jsonl; begins with "step".
std::string ToJson(const StepReport& report);

}  // namespace strata::engine
