// The same run on more and more of a cluster, each GPU with as much to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/cluster/cluster.h"
#include "engine/cluster/plan_outcome.h"

namespace strata::engine {

// The cluster in powers of two up to all of it: some GPUs of one node, which have all of its host
// memory, cores and drives to share, then whole nodes.
std::vector<Cluster> GrowingParts(const Cluster& cluster);

struct ScalingPoint {
  uint32_t gpus_per_node = 1;
  uint32_t nodes = 1;
  uint64_t tokens = 0;  // of a step, over all GPUs
  // Of the step, as the papers count: 8 per parameter and token where backward recomputes.
  double flops_per_token = 0;
  PlanOutcome outcome = {};

  uint32_t num_gpus() const { return gpus_per_node * nodes; }
  double flops_per_s_and_gpu() const { return flops_per_token * outcome.tokens_per_s / num_gpus(); }
};

// Weak scaling: where the workload names a batch, it is the whole cluster's, and a part of the
// cluster has its part of it, rounded to whole micro-batches for each GPU. `overrides` as in
// LoadRunConfig. Parts of fewer than `least_gpus` are left out: a large model's plan for few GPUs
// takes long.
Result<std::vector<ScalingPoint>> Scale(const Cluster& cluster, const LlamaConfig& model,
                                        const Workload& workload, const ZeroChoice& choice,
                                        const std::vector<std::string>& overrides,
                                        uint32_t least_gpus = 1);

}  // namespace strata::engine
