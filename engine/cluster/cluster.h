// A machine that one does not have, and a run on it: for planning before buying.
//
// A cluster is described by what its data sheets say; from that come the budgets and the rates of
// one rank (one GPU), and with a model and a batch a RunConfig like any other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/cluster/gpu_presets.h"
#include "engine/config/run_config.h"
#include "prefetch/hardware.h"

namespace strata::engine {

// The drives of a node, all alike.
struct Drives {
  uint32_t count = 0;
  // Of one drive; a PCIe 4.0 x4 data-centre drive by its data sheet.
  double read_bytes_per_s = 6.5e9;
  double write_bytes_per_s = 4e9;
  // Both directions together while both are busy; 0: two thirds of the sum of the two, as arrays
  // under a mixture have been measured.
  double mixed_bytes_per_s = 0;
  uint64_t capacity_bytes = 3'840'000'000'000;
  std::vector<std::string> paths;  // where they are mounted; empty: /nvme0, /nvme1...

  double mixed_or_default() const;
};
std::vector<std::string> PathsOf(const Drives& drives);

struct Cluster {
  GpuPreset gpu;
  uint32_t gpus_per_node = 1;
  uint32_t nodes = 1;
  uint64_t host_bytes = 0;  // of a node
  uint32_t cores = 0;       // of a node; 0: 16 per GPU
  // What the CPU's Adam gets of the memory of a node: 8 channels of DDR4-3200 at four fifths.
  double host_memory_bytes_per_s = 1.6e11;
  double network_bytes_per_s = 2.5e10;  // of a node, each direction: 200 Gbit/s
  Drives drives;
  // What is not the plan's to use: the CUDA context and the libraries' buffers on each GPU; the
  // system and the programs' own memory, of a node's.
  uint64_t gpu_reserve_bytes = 5ULL << 30;
  double host_reserve = 0.1;

  uint32_t num_ranks() const { return gpus_per_node * nodes; }
};

// Those given, or the default for its GPUs.
uint32_t CoresOfNode(const Cluster& cluster);

// One rank's rates: an even share of its node's drives, cores and host memory.
prefetch::Hardware HardwareOf(const Cluster& cluster);

// One rank's memory. kInvalidArgument when the reserves leave none.
Result<MemoryConfig> BudgetsOf(const Cluster& cluster);

// How training state is spread and where it is at home: a row of the comparison.
struct ZeroChoice {
  uint64_t stage = 3;
  OffloadDevice optimizer = OffloadDevice::kNone;  // needs stage >= 1
  OffloadDevice weights = OffloadDevice::kNone;    // needs stage 3

  friend bool operator==(const ZeroChoice&, const ZeroChoice&) = default;
};

// "stage 3, optimizer on nvme, weights on cpu".
std::string Describe(const ZeroChoice& choice);

struct Workload {
  // A preset's name, a Hugging Face directory, or a config.json.
  std::string model;
  uint64_t seq_len = 2048;
  uint64_t micro_batch = 1;       // per GPU
  uint64_t train_batch_size = 0;  // samples per step, over all GPUs; 0: one micro-batch each
};

// The shape that `model` names. kNotFound when it is neither a preset nor a path.
Result<LlamaConfig> ModelShape(const std::string& model);

// The run as a configuration. `overrides` as in LoadRunConfig. A model whose positions end before
// seq_len is planned with as many as it takes.
Result<RunConfig> MakeRunConfig(const Cluster& cluster, const LlamaConfig& model,
                                const Workload& workload, const ZeroChoice& choice,
                                const std::vector<std::string>& overrides = {});

// The same run, spread otherwise. `paths` are the drives, for what is offloaded to them.
RunConfig WithChoice(RunConfig config, const ZeroChoice& choice,
                     const std::vector<std::string>& paths);
ZeroChoice ChoiceOf(const RunConfig& config);

// The rates of a file with nothing but a [hardware] section, as strata doctor writes it.
Result<prefetch::Hardware> LoadHardware(const std::string& path);

}  // namespace strata::engine
