#include "engine/cluster/scaling.h"

#include <algorithm>

namespace strata::engine {
namespace {

constexpr double kFlopsPerParameterAndToken = 8;  // forward 2, again in backward 2, backward 4

std::vector<uint32_t> PowersUpTo(uint32_t all) {
  std::vector<uint32_t> sizes;
  for (uint32_t size = 1; size < all; size *= 2) sizes.push_back(size);
  sizes.push_back(all);
  return sizes;
}

// The share of the batch that so many of the cluster's GPUs have.
uint64_t BatchOf(const Cluster& part, const Cluster& cluster, const Workload& workload) {
  if (workload.train_batch_size == 0) return 0;
  const uint64_t micros_per_gpu =
      workload.train_batch_size / workload.micro_batch / cluster.num_ranks();
  return std::max<uint64_t>(micros_per_gpu, 1) * workload.micro_batch * part.num_ranks();
}

}  // namespace

std::vector<Cluster> GrowingParts(const Cluster& cluster) {
  std::vector<Cluster> parts;
  Cluster part = cluster;
  part.nodes = 1;
  if (part.cores == 0) part.cores = CoresOfNode(cluster);
  for (uint32_t gpus : PowersUpTo(cluster.gpus_per_node)) {
    part.gpus_per_node = gpus;
    parts.push_back(part);
  }
  for (uint32_t nodes : PowersUpTo(cluster.nodes)) {
    if (nodes == 1) continue;
    part.nodes = nodes;
    parts.push_back(part);
  }
  return parts;
}

Result<std::vector<ScalingPoint>> Scale(const Cluster& cluster, const LlamaConfig& model,
                                        const Workload& workload, const ZeroChoice& choice,
                                        const std::vector<std::string>& overrides,
                                        uint32_t least_gpus) {
  std::vector<ScalingPoint> points;
  for (const Cluster& part : GrowingParts(cluster)) {
    if (part.num_ranks() < least_gpus) continue;
    Workload of_part = workload;
    of_part.train_batch_size = BatchOf(part, cluster, workload);
    STRATA_ASSIGN_OR_RETURN(RunConfig config,
                            MakeRunConfig(part, model, of_part, choice, overrides));
    ScalingPoint point{.gpus_per_node = part.gpus_per_node,
                       .nodes = part.nodes,
                       .tokens = config.train.train_batch_size * config.data.seq_len};
    point.flops_per_token =
        kFlopsPerParameterAndToken * static_cast<double>(NumParameters(config.model.llama));
    const uint64_t capacity = part.drives.count * part.drives.capacity_bytes / part.gpus_per_node;
    STRATA_ASSIGN_OR_RETURN(point.outcome, TryPlan(config, *config.hardware, capacity));
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace strata::engine
