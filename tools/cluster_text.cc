#include "tools/cluster_text.h"

#include <fmt/format.h>

#include "aio/base/units.h"
#include "tools/human.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using engine::OffloadDevice;
using engine::PlanOutcome;

constexpr double kGb = 1e9;

std::string Duration(double seconds) {
  return FormatDuration(std::chrono::duration<double>(seconds));
}

std::string_view PlaceOf(OffloadDevice device) {
  return device == OffloadDevice::kNone ? "gpu" : device == OffloadDevice::kCpu ? "cpu" : "nvme";
}

std::string BytesOrDash(uint64_t bytes) { return bytes == 0 ? "-" : FormatBytes(bytes); }

uint64_t AllDeviceBytes(const engine::RunConfig& config) {
  return config.memory.device_bytes * config.train.world_size;
}

}  // namespace

std::string DescribeCluster(const engine::Cluster& cluster) {
  const engine::Drives& drives = cluster.drives;
  std::string text = fmt::format("machine {} node{} of {} x {}, {} of host memory", cluster.nodes,
                                 cluster.nodes == 1 ? "" : "s", cluster.gpus_per_node,
                                 cluster.gpu.name, FormatBytes(cluster.host_bytes));
  if (drives.count > 0) {
    text += fmt::format(", {} drive{} of {:.1f} read, {:.1f} write, {:.1f} mixed GB/s",
                        drives.count, drives.count == 1 ? "" : "s", drives.read_bytes_per_s / kGb,
                        drives.write_bytes_per_s / kGb, drives.mixed_or_default() / kGb);
  }
  return text + fmt::format(
                    "\n        a GPU gets {:.0f} TFLOP/s, {:.0f} GB/s to the host, {:.0f} GB/s to "
                    "its neighbours\n        ({})\n",
                    cluster.gpu.flops_per_s / 1e12, cluster.gpu.host_bytes_per_s / kGb,
                    cluster.gpu.link_bytes_per_s / kGb, cluster.gpu.source);
}

std::string FitsText(const PlanOutcome& outcome) {
  if (outcome.fits()) return "yes";
  std::string missing;
  auto add = [&](std::string_view what, uint64_t bytes) {
    if (bytes == 0) return;
    missing += fmt::format("{} {} +{}", missing.empty() ? "" : ",", what, FormatBytes(bytes));
  };
  add("gpu", outcome.device_short_bytes);
  add("host", outcome.host_short_bytes);
  add("nvme", outcome.nvme_short_bytes);
  return "no:" + missing;
}

std::string ComparisonTable(const std::vector<PlanOutcome>& outcomes) {
  Table table({{"stage", Align::kRight},
               {"optimizer", Align::kLeft},
               {"weights", Align::kLeft},
               {"gpu", Align::kRight},
               {"host", Align::kRight},
               {"nvme", Align::kRight},
               {"fits", Align::kLeft},
               {"step", Align::kRight},
               {"tokens/s", Align::kRight},
               {"bound by", Align::kLeft}});
  for (const PlanOutcome& outcome : outcomes) {
    bool planned = outcome.fits_memory();
    table.AddRow({fmt::format("{}", outcome.choice.stage),
                  std::string(PlaceOf(outcome.choice.optimizer)),
                  std::string(PlaceOf(outcome.choice.weights)), FormatBytes(outcome.device_bytes),
                  BytesOrDash(outcome.host_bytes), BytesOrDash(outcome.nvme_bytes),
                  FitsText(outcome), planned ? Duration(outcome.step_s) : "-",
                  planned ? FormatCount(outcome.tokens_per_s) : "-",
                  planned ? outcome.bound_resource : "-"});
  }
  return table.ToString() +
         "memory of one rank: what is planned with, or the least that would do\n";
}

std::string AdviceText(const std::vector<engine::Advice>& advice) {
  if (advice.empty()) {
    return "no change of stage, offload, micro-batch or sequence length makes it fit; a smaller "
           "model or more memory would\n";
  }
  Table table({{"what to change", Align::kLeft},
               {"step", Align::kRight},
               {"tokens/s", Align::kRight},
               {"gpu", Align::kRight},
               {"host", Align::kRight},
               {"bound by", Align::kLeft}});
  for (const engine::Advice& one : advice) {
    table.AddRow({one.change, Duration(one.outcome.step_s), FormatCount(one.outcome.tokens_per_s),
                  FormatBytes(one.outcome.device_bytes), BytesOrDash(one.outcome.host_bytes),
                  one.outcome.bound_resource});
  }
  return "it fits with one of these changes (each was planned):\n" + table.ToString();
}

std::string LargestText(const engine::LlamaConfig& shape, const engine::LlamaConfig& largest) {
  return fmt::format(
      "largest {} parameters fit: {} layers, hidden {}, MLP {}, {} heads\n        (this model with "
      "layers and MLP in proportion to its width: {} layers at {})\n",
      FormatCount(static_cast<double>(engine::NumParameters(largest))), largest.num_hidden_layers,
      largest.hidden_size, largest.intermediate_size, largest.num_attention_heads,
      shape.num_hidden_layers, shape.hidden_size);
}

std::string InferenceText(const engine::RunConfig& config) {
  const engine::TrainConfig& train = config.train;
  engine::InferenceMemory memory = engine::InferenceMemoryOf(
      config.model.llama, train.precision, train.train_batch_size, config.data.seq_len);
  return fmt::format(
      "inference {} of weights + {} of keys and values for {} sequences of {} tokens ({} a token)\n"
      "        = {}; in the GPUs' {} there is room for {} such sequences\n",
      FormatBytes(memory.weights_bytes), FormatBytes(memory.kv_bytes), train.train_batch_size,
      config.data.seq_len, FormatBytes(memory.kv_bytes_per_token),
      FormatBytes(memory.total_bytes()), FormatBytes(AllDeviceBytes(config)),
      memory.SequencesIn(AllDeviceBytes(config), config.data.seq_len));
}

nlohmann::ordered_json ToJson(const PlanOutcome& outcome) {
  nlohmann::ordered_json json = {{"stage", outcome.choice.stage},
                                 {"optimizer", PlaceOf(outcome.choice.optimizer)},
                                 {"weights", PlaceOf(outcome.choice.weights)},
                                 {"fits", outcome.fits()},
                                 {"device_bytes", outcome.device_bytes},
                                 {"host_bytes", outcome.host_bytes},
                                 {"nvme_bytes", outcome.nvme_bytes},
                                 {"device_short_bytes", outcome.device_short_bytes},
                                 {"host_short_bytes", outcome.host_short_bytes},
                                 {"nvme_short_bytes", outcome.nvme_short_bytes}};
  if (!outcome.fits_memory()) return json;
  json["step_s"] = outcome.step_s;
  json["tokens_per_s"] = outcome.tokens_per_s;
  json["bound_s"] = outcome.bound_s;
  json["bound_resource"] = outcome.bound_resource;
  json["nvme_bytes_read"] = outcome.nvme_bytes_read;
  json["nvme_bytes_written"] = outcome.nvme_bytes_written;
  json["comm_bytes_sent"] = outcome.comm_bytes_sent;
  return json;
}

nlohmann::ordered_json ToJson(const std::vector<engine::Advice>& advice) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const engine::Advice& one : advice) {
    nlohmann::ordered_json entry = {{"change", one.change}};
    entry.update(ToJson(one.outcome));
    entry["micro_batch"] = one.config.train.train_micro_batch_size_per_gpu;
    entry["seq_len"] = one.config.data.seq_len;
    json.push_back(std::move(entry));
  }
  return json;
}

nlohmann::ordered_json ShapeJson(const engine::LlamaConfig& shape) {
  return {{"parameters", engine::NumParameters(shape)},
          {"num_hidden_layers", shape.num_hidden_layers},
          {"hidden_size", shape.hidden_size},
          {"intermediate_size", shape.intermediate_size},
          {"num_attention_heads", shape.num_attention_heads},
          {"num_key_value_heads", shape.num_key_value_heads}};
}

nlohmann::ordered_json InferenceJson(const engine::RunConfig& config) {
  engine::InferenceMemory memory =
      engine::InferenceMemoryOf(config.model.llama, config.train.precision,
                                config.train.train_batch_size, config.data.seq_len);
  return {{"weights_bytes", memory.weights_bytes},
          {"kv_bytes_per_token", memory.kv_bytes_per_token},
          {"kv_bytes", memory.kv_bytes},
          {"total_bytes", memory.total_bytes()},
          {"sequences_that_fit", memory.SequencesIn(AllDeviceBytes(config), config.data.seq_len)}};
}

}  // namespace strata::tools
