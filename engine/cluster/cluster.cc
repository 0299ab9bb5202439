#include "engine/cluster/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/model/model_presets.h"

namespace strata::engine {
namespace {

constexpr double kMixedShare = 2.0 / 3;
constexpr double kDeviceMemoryShare = 0.8;
constexpr uint32_t kCoresPerGpu = 16;
constexpr uint64_t kMaxFileBytes = 16_MiB;

// Between nodes every byte that a node gathers comes in by its network once, for all its GPUs.
double CollectiveRate(const Cluster& cluster) {
  if (cluster.nodes == 1) return cluster.gpu.link_bytes_per_s;
  return std::min(cluster.gpu.link_bytes_per_s, cluster.network_bytes_per_s);
}

// Sums of gradients in 16 bits: the payload crosses the network as it is from every GPU to those of
// other nodes, or as fp32 from node to node, whichever is less (docs/decisions/0027, 0041).
double SumRate(const Cluster& cluster) {
  const double direct = static_cast<double>(cluster.gpus_per_node) * (cluster.nodes - 1) /
                        static_cast<double>(cluster.nodes);
  const double node_by_node = sizeof(float) / 2.0;
  return std::min(cluster.gpu.link_bytes_per_s,
                  cluster.network_bytes_per_s / std::min(direct, node_by_node));
}

std::string_view NameOf(OffloadDevice device) {
  constexpr std::array<std::string_view, 3> kNames = {"none", "cpu", "nvme"};
  return kNames[static_cast<size_t>(device)];
}

std::string_view PlaceOf(OffloadDevice device) {
  constexpr std::array<std::string_view, 3> kPlaces = {"gpu", "cpu", "nvme"};
  return kPlaces[static_cast<size_t>(device)];
}

// A shape as text, without a model of its own to look up.
std::string ShapeToml(const LlamaConfig& model, uint64_t seq_len) {
  std::string toml = fmt::format(
      "[model]\nvocab_size = {}\nhidden_size = {}\nintermediate_size = {}\nnum_hidden_layers = "
      "{}\nnum_attention_heads = {}\nnum_key_value_heads = {}\nhead_dim = {}\n"
      "max_position_embeddings = {}\nrms_norm_eps = {}\nrope_theta = {:.1f}\n"
      "tie_word_embeddings = {}\n",
      model.vocab_size, model.hidden_size, model.intermediate_size, model.num_hidden_layers,
      model.num_attention_heads, model.num_key_value_heads, model.head_dim,
      std::max(model.max_position_embeddings, seq_len), model.rms_norm_eps, model.rope_theta,
      model.tie_word_embeddings);
  if (const auto& scaling = model.rope_scaling) {
    toml += fmt::format(
        "[model.rope_scaling]\nfactor = {:.6f}\nlow_freq_factor = {:.6f}\nhigh_freq_factor = "
        "{:.6f}\noriginal_max_position_embeddings = {}\n",
        scaling->factor, scaling->low_freq_factor, scaling->high_freq_factor,
        scaling->original_max_position_embeddings);
  }
  return toml;
}

std::string RunToml(const Cluster& cluster, const Workload& workload, const MemoryConfig& memory) {
  uint64_t batch = workload.train_batch_size > 0 ? workload.train_batch_size
                                                 : workload.micro_batch * cluster.num_ranks();
  return fmt::format(
      "[data]\npath = \".\"\nseq_len = {}\n[train]\nrun_dir = \"runs/plan\"\nsteps = 1000\n"
      "device = \"cuda\"\ntrain_batch_size = {}\ntrain_micro_batch_size_per_gpu = {}\nworld_size = "
      "{}\n"
      "[memory]\ndevice = {}\nhost = {}\n",
      workload.seq_len, batch, workload.micro_batch, cluster.num_ranks(), memory.device_bytes,
      memory.host_bytes);
}

std::string OffloadToml(std::string_view section, OffloadDevice device,
                        const std::vector<std::string>& paths) {
  std::string toml =
      fmt::format("[zero_optimization.{}]\ndevice = \"{}\"\n", section, NameOf(device));
  if (device != OffloadDevice::kNvme) return toml;
  toml += "nvme_path = [";
  for (const std::string& path : paths) toml += fmt::format("'{}', ", path);
  return toml + "]\n";
}

std::string ZeroToml(const ZeroChoice& choice, const std::vector<std::string>& paths) {
  return fmt::format("[zero_optimization]\nstage = {}\n", choice.stage) +
         OffloadToml("offload_optimizer", choice.optimizer, paths) +
         OffloadToml("offload_param", choice.weights, paths);
}

void SetOffload(OffloadDevice device, const std::vector<std::string>& paths,
                OffloadConfig& offload) {
  offload.device = device;
  offload.nvme_paths = device == OffloadDevice::kNvme ? paths : std::vector<std::string>();
}

}  // namespace

double Drives::mixed_or_default() const {
  return mixed_bytes_per_s > 0 ? mixed_bytes_per_s
                               : kMixedShare * (read_bytes_per_s + write_bytes_per_s);
}

std::vector<std::string> PathsOf(const Drives& drives) {
  if (!drives.paths.empty()) return drives.paths;
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < drives.count; ++i) paths.push_back(fmt::format("/nvme{}", i));
  return paths;
}

uint32_t CoresOfNode(const Cluster& cluster) {
  return cluster.cores > 0 ? cluster.cores : kCoresPerGpu * cluster.gpus_per_node;
}

prefetch::Hardware HardwareOf(const Cluster& cluster) {
  prefetch::Hardware hardware;
  double drives_per_rank = static_cast<double>(cluster.drives.count) / cluster.gpus_per_node;
  if (cluster.drives.count > 0) {
    hardware.nvme_read_bytes_per_s = cluster.drives.read_bytes_per_s * drives_per_rank;
    hardware.nvme_write_bytes_per_s = cluster.drives.write_bytes_per_s * drives_per_rank;
    hardware.nvme_mixed_bytes_per_s = cluster.drives.mixed_or_default() * drives_per_rank;
  }
  hardware.h2d_bytes_per_s = hardware.d2h_bytes_per_s = cluster.gpu.host_bytes_per_s;
  hardware.cores = hardware.op_threads = std::max(1u, CoresOfNode(cluster) / cluster.gpus_per_node);
  hardware.device_shares_cores = false;
  hardware.compute_default_per_s = cluster.gpu.flops_per_s;
  hardware.device_memory_bytes_per_s = kDeviceMemoryShare * cluster.gpu.memory_bytes_per_s;
  hardware.comm_default_per_s = CollectiveRate(cluster);
  if (cluster.nodes > 1) hardware.rates["reduce"] = SumRate(cluster);
  hardware.cpu_default_per_s = cluster.host_memory_bytes_per_s / cluster.gpus_per_node;
  return hardware;
}

Result<MemoryConfig> BudgetsOf(const Cluster& cluster) {
  if (cluster.gpu.memory_bytes <= cluster.gpu_reserve_bytes) {
    return InvalidArgument(fmt::format(
        "a GPU's memory of {} is less than what is reserved on it, {}: see --gpu-reserve",
        FormatBytes(cluster.gpu.memory_bytes), FormatBytes(cluster.gpu_reserve_bytes)));
  }
  double host = static_cast<double>(cluster.host_bytes) * (1 - cluster.host_reserve);
  uint64_t share = static_cast<uint64_t>(host / cluster.gpus_per_node);
  return MemoryConfig{
      .device_bytes = (cluster.gpu.memory_bytes - cluster.gpu_reserve_bytes) / 1_MiB * 1_MiB,
      .host_bytes = std::max<uint64_t>(share / 1_MiB * 1_MiB, 1_MiB)};
}

std::string Describe(const ZeroChoice& choice) {
  std::string text = fmt::format("stage {}", choice.stage);
  if (choice.stage >= 1) text += fmt::format(", optimizer on {}", PlaceOf(choice.optimizer));
  if (choice.stage == 3) text += fmt::format(", weights on {}", PlaceOf(choice.weights));
  return text;
}

Result<LlamaConfig> ModelShape(const std::string& model) {
  std::error_code ignored;
  if (Result<ModelPreset> preset = FindModelPreset(model); preset.ok()) return preset->config;
  std::filesystem::path path = model;
  if (std::filesystem::is_directory(path, ignored)) path /= "config.json";
  if (!std::filesystem::exists(path, ignored)) {
    return NotFound(fmt::format("{}; nor is it the path of a Hugging Face directory or config.json",
                                FindModelPreset(model).status().message()));
  }
  STRATA_ASSIGN_OR_RETURN(std::string json, aio::ReadSmallFile(path.string(), kMaxFileBytes));
  return ParseLlamaConfig(json, path.string());
}

Result<RunConfig> MakeRunConfig(const Cluster& cluster, const LlamaConfig& model,
                                const Workload& workload, const ZeroChoice& choice,
                                const std::vector<std::string>& overrides) {
  STRATA_ASSIGN_OR_RETURN(MemoryConfig memory, BudgetsOf(cluster));
  std::string toml = ShapeToml(model, workload.seq_len) + RunToml(cluster, workload, memory) +
                     ZeroToml(choice, PathsOf(cluster.drives));
  STRATA_ASSIGN_OR_RETURN(RunConfig config, ParseRunConfig(toml, "the command line", overrides));
  config.hardware = HardwareOf(cluster);
  return config;
}

RunConfig WithChoice(RunConfig config, const ZeroChoice& choice,
                     const std::vector<std::string>& paths) {
  config.zero.stage = choice.stage;
  SetOffload(choice.optimizer, paths, config.zero.offload_optimizer);
  SetOffload(choice.weights, paths, config.zero.offload_param);
  return config;
}

ZeroChoice ChoiceOf(const RunConfig& config) {
  return {.stage = config.zero.stage,
          .optimizer = config.zero.offload_optimizer.device,
          .weights = config.zero.offload_param.device};
}

Result<prefetch::Hardware> LoadHardware(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(std::string section, aio::ReadSmallFile(path, kMaxFileBytes));
  // The reader wants a whole configuration; its errors name the file, with lines as they are there.
  const std::string rest =
      "\n[model]\nvocab_size = 64\nhidden_size = 64\nintermediate_size = 64\n"
      "num_hidden_layers = 1\nnum_attention_heads = 1\n[data]\npath = \".\"\nseq_len = 1\n"
      "[train]\nrun_dir = \"runs/plan\"\nsteps = 1\ntrain_batch_size = 1\n"
      "[memory]\ndevice = \"1MiB\"\nhost = \"1MiB\"\n";
  STRATA_ASSIGN_OR_RETURN(RunConfig config, ParseRunConfig(section + rest, path));
  if (config.hardware) return *config.hardware;
  return InvalidArgument(fmt::format(
      "{} has no [hardware] section; 'strata doctor CONFIG.toml --write FILE' makes one", path));
}

}  // namespace strata::engine
