// The same run under every way of spreading its state, and what would make one fit that does not.
#pragma once

#include <string>
#include <vector>

#include "engine/cluster/plan_outcome.h"

namespace strata::engine {

// What a comparison may use.
struct Limits {
  std::vector<std::string> nvme_paths;  // empty: no drives
  uint64_t nvme_capacity_bytes = 0;     // of one rank, see TryPlan()
};

// Stages 0 to 3 with every offload that they have and the drives allow, least offloaded first.
std::vector<ZeroChoice> AllChoices(bool has_drives);

// One outcome per choice that there is for such a run (CheckSupported), in their order.
Result<std::vector<PlanOutcome>> Compare(const RunConfig& config,
                                         const prefetch::Hardware& hardware, const Limits& limits);

// A change to a run that does not fit, with which it does.
struct Advice {
  std::string change;  // "stage 3", "train_micro_batch_size_per_gpu = 2 (4 micro-batches)"
  RunConfig config;
  PlanOutcome outcome;
};

// Every advice was planned. First what one change does; where none does, several together. Changes:
// a higher stage, offloading, recomputing activations (unless the run does so where it must),
// smaller micro-batches of the same batch, shorter sequences.
Result<std::vector<Advice>> AdviseOn(const RunConfig& config, const prefetch::Hardware& hardware,
                                     const Limits& limits);

}  // namespace strata::engine
