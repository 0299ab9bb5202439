// A machine small enough to be planned for in a blink.
#pragma once

#include <string>
#include <vector>

#include "aio/base/units.h"
#include "engine/cluster/cluster.h"
#include "engine/cluster/comparison.h"
#include "tests/or_die.h"

namespace strata::engine {

inline LlamaConfig SmallModel() {
  return {.vocab_size = 1024,
          .hidden_size = 512,
          .intermediate_size = 1408,
          .num_hidden_layers = 8,
          .num_attention_heads = 8,
          .num_key_value_heads = 8,
          .head_dim = 64,
          .rope_scaling = {}};
}

inline Cluster SmallCluster(uint64_t gpu_bytes, uint64_t host_bytes, uint32_t num_drives,
                            uint32_t num_gpus = 4) {
  Cluster cluster;
  cluster.gpu = FindGpuPreset("a100-80").value();
  cluster.gpu.memory_bytes = gpu_bytes;
  cluster.gpu_reserve_bytes = 0;
  cluster.host_reserve = 0;
  cluster.host_bytes = host_bytes;
  cluster.gpus_per_node = num_gpus;
  cluster.drives.count = num_drives;
  return cluster;
}

inline RunConfig SmallRun(const Cluster& cluster, const ZeroChoice& choice,
                          uint64_t micro_batch = 2, uint64_t seq_len = 512) {
  Workload workload{.model = "", .seq_len = seq_len, .micro_batch = micro_batch};
  return OrDie(MakeRunConfig(cluster, SmallModel(), workload, choice));
}

inline Limits LimitsOf(const Cluster& cluster) {
  return {.nvme_paths = PathsOf(cluster.drives), .nvme_capacity_bytes = 1ULL << 40};
}

}  // namespace strata::engine
