#include "tools/plan_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "aio/base/units.h"
#include "engine/comm/communicator.h"
#include "engine/train/checkpoint_cost.h"
#include "engine/train/device_updates.h"
#include "engine/train/recompute.h"
#include "tiering/block_store.h"
#include "tiering/cuda_device.h"
#include "tools/human.h"
#include "tools/lane_text.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using engine::PlannedRun;
using engine::StepKind;
using prefetch::Lane;
using tiering::Tier;

// Beside the budgets: the program, its libraries, threads' stacks and plan (DESIGN.md §10).
constexpr uint64_t kProgramAllowanceBytes = 256ULL << 20;

std::string Duration(double seconds) {
  return FormatDuration(std::chrono::duration<double>(seconds));
}

std::string Percent(double fraction) { return fmt::format("{:.0f} %", fraction * 100); }

// What a GPU must have free beside the budget.
uint64_t BesideBudgetBytes(const PlannedRun& run) {
  return tiering::kCudaReserveBytes +
         (run.config.train.world_size > 1 ? engine::kGpuStagingBytes : 0);
}

std::string DescribeGpuMemory(const PlannedRun& run) {
  const bool has_ranks = run.config.train.world_size > 1;
  return fmt::format("{} of its memory, and {} beside: for CUDA{}",
                     FormatBytes(run.config.memory.device_bytes),
                     FormatBytes(BesideBudgetBytes(run)),
                     has_ranks ? " and collectives; NCCL takes its own, some hundred MiB" : "");
}

std::string DescribeModel(const PlannedRun& run) {
  const engine::LlamaConfig& llama = run.config.model.llama;
  const engine::TrainConfig& train = run.config.train;
  std::string ranks = train.world_size > 1 ? fmt::format(" x {} ranks", train.world_size) : "";
  std::string text = fmt::format("model   {} parameters: {} layers, hidden {}, vocabulary {}; {}\n",
                                 FormatCount(static_cast<double>(engine::NumParameters(llama))),
                                 llama.num_hidden_layers, llama.hidden_size, llama.vocab_size,
                                 DTypeName(run.layout.options.precision));
  text +=
      fmt::format("batch   {} sequences of {} tokens = {} micro x {} accumulation{}\n",
                  train.train_batch_size, run.config.data.seq_len,
                  train.train_micro_batch_size_per_gpu, train.gradient_accumulation_steps, ranks);
  uint64_t state = TrainingStateBytes(run);
  uint64_t budgets =
      (run.plan.budgets.device_bytes + run.plan.budgets.host_bytes + run.staging_bytes) *
      train.world_size;
  text +=
      fmt::format("state   {} of weights, gradients and optimizer: {:.1f} x device + host\n",
                  FormatBytes(state), static_cast<double>(state) / static_cast<double>(budgets));
  text +=
      fmt::format("homes   weights: {}, optimizer: {}\n", TierName(run.layout.options.weights_home),
                  TierName(run.layout.options.optimizer_home));
  if (train.device.kind == engine::DeviceChoice::Kind::kCuda)
    text += fmt::format("device  {}: {}\n", ToText(train.device), DescribeGpuMemory(run));
  if (run.host_cache_bytes > 0) {
    text += fmt::format(
        "cache   {} of that state stays in host memory ({}), on nvme at checkpoints only\n",
        FormatBytes(run.host_cache_bytes),
        Percent(static_cast<double>(run.host_cache_bytes) /
                static_cast<double>(run.layout.size_bytes())));
  }
  if (run.num_device_updates > 0 && run.layout.options.optimizer_home != tiering::Tier::kDevice) {
    text += fmt::format(
        "shared  the device updates {} of that optimizer state, the cpu the rest (ratio)\n",
        Percent(1 - engine::CpuShare(run.layout, run.num_device_updates)));
  }
  return text;
}

// Said once where all that follows is one rank's.
std::string PerRank(const PlannedRun& run) {
  return run.config.train.world_size > 1 ? "; this and all below: per rank" : "";
}

std::string DescribeStore(const PlannedRun& run) {
  std::string where;
  for (const std::string& directory : run.store_directories) {
    where += (where.empty() ? "" : ", ") + directory;
  }
  uint64_t more_bytes = engine::CheckpointCostOf(run).rewritten_bytes;
  std::string more =
      more_bytes == 0 ? "" : fmt::format(" and {} once more", FormatBytes(more_bytes));
  return fmt::format("nvme    {} in {} ({} versions of {} of state{}){}\n",
                     FormatBytes(StoreBytes(run)), where, run.num_generations,
                     FormatBytes(run.layout.size_bytes()), more, PerRank(run));
}

// Space and time of a checkpoint, and how far a crash goes back.
std::string DescribeCheckpoints(const PlannedRun& run) {
  engine::CheckpointCost cost = engine::CheckpointCostOf(run);
  std::string kept = fmt::format("{} kept, each up to {}", run.config.checkpoint.keep_last,
                                 FormatBytes(cost.kept_bytes));
  if (run.commits_every_step) {
    return fmt::format("commit  every step: a flush and a manifest, no copy; checkpoints: {}\n",
                       kept);
  }
  std::string hidden = cost.wait_s == 0 ? "all hidden" : Duration(cost.wait_s) + " not hidden";
  return fmt::format(
      "commit  at checkpoints, to which a crash goes back: {} written behind the next step in {},\n"
      "        {}; checkpoints: {}\n",
      FormatBytes(cost.bytes_behind), Duration(cost.drive_s), hidden, kept);
}

std::string PerParameter(uint64_t bytes, const PlannedRun& run) {
  double elements = static_cast<double>(run.layout.num_shard_elements());
  return fmt::format("{:.2f}", static_cast<double>(bytes) / elements);
}

uint64_t CommBytes(const PlannedRun& run) {
  const auto world = static_cast<uint32_t>(run.config.train.world_size);
  return static_cast<uint64_t>(engine::BytesSent(run.program, world));
}

std::string DescribeTraffic(const PlannedRun& run) {
  prefetch::Traffic traffic = prefetch::TrafficOf(run.plan);
  Table table(
      {{"bytes per step", Align::kLeft}, {"read", Align::kRight}, {"written", Align::kRight}});
  std::set<std::string> purposes;
  for (const auto& [purpose, bytes] : traffic.nvme_read_by_purpose) purposes.insert(purpose);
  for (const auto& [purpose, bytes] : traffic.nvme_written_by_purpose) purposes.insert(purpose);
  for (const std::string& purpose : purposes) {
    table.AddRow({"nvme " + purpose, FormatBytes(traffic.nvme_read_by_purpose[purpose]),
                  FormatBytes(traffic.nvme_written_by_purpose[purpose])});
  }
  auto lane = [&](Lane l) { return traffic.bytes_by_lane[static_cast<size_t>(l)]; };
  table.AddRow({"nvme", FormatBytes(lane(Lane::kNvmeRead)), FormatBytes(lane(Lane::kNvmeWrite))});
  table.AddRow({"nvme per parameter", PerParameter(lane(Lane::kNvmeRead), run),
                PerParameter(lane(Lane::kNvmeWrite), run)});
  table.AddRow({"device (in, out)", FormatBytes(lane(Lane::kH2d)), FormatBytes(lane(Lane::kD2h))});
  if (run.config.train.world_size > 1) {
    const std::string sent = FormatBytes(CommBytes(run));
    table.AddRow({"other ranks (from, to)", sent, sent});
  }
  return table.ToString();
}

std::string_view NameOf(engine::RatesSource source) {
  switch (source) {
    case engine::RatesSource::kDefaults:
      return "built-in rates, not this machine's: see train --measure";
    case engine::RatesSource::kConfig:
      return "the rates in [hardware]";
    case engine::RatesSource::kMeasured:
      return "this machine's rates, just measured";
  }
  return "?";
}

std::string DescribeRecomputing(const PlannedRun& run) {
  uint32_t layers = engine::NumLayerUnits(run.layout);
  if (run.num_keeping_units == 0) return "        backward recomputes the intermediates\n";
  if (run.num_keeping_units == layers)
    return "        intermediates are kept for backward, which recomputes none\n";
  return fmt::format(
      "        intermediates are kept by the last {} of {} layer units, others recompute\n",
      run.num_keeping_units, layers);
}

// Of sublayers that are cut.
std::string DescribeTiles(const PlannedRun& run) {
  std::string text;
  for (engine::UnitKind kind :
       {engine::UnitKind::kEmbedding, engine::UnitKind::kMlp, engine::UnitKind::kHead}) {
    const uint32_t parts = run.model->NumParts(kind);
    if (parts == 1) continue;
    constexpr std::array<std::string_view, 4> kNames = {"embedding", "attention", "mlp", "head"};
    text += fmt::format("{}{} in {}", text.empty() ? "" : ", ", kNames[static_cast<size_t>(kind)],
                        parts);
  }
  if (text.empty()) return text;
  return fmt::format("        parts: {}; an op takes {} at once\n", text,
                     run.parts_per_op == 1 ? "one" : fmt::format("up to {}", run.parts_per_op));
}

std::string DescribeWay(const PlannedRun& run) {
  switch (run.program.kind) {
    case StepKind::kInBackward:
      return "in backward (nothing is clipped)";
    case StepKind::kAfterNorm:
      return "after the norm, all at the end of the step";
    case StepKind::kSpeculative:
      return fmt::format(
          "speculative, in backward; deferred after a clip until {} steps were not clipped",
          run.calm_steps);
    default:
      return "deferred: each unit's just before its next forward pass";
  }
}

std::string DescribePending(const PlannedRun& run) {
  if (!KeepsGradients(run.program.kind)) return "";
  std::string where;
  for (const auto& [tier, bytes] : PendingBytesByTier(run.pending_homes, run.layout))
    where +=
        fmt::format("{}{} on {}", where.empty() ? "" : ", ", FormatBytes(bytes), TierName(tier));
  return fmt::format("        gradients are kept until the norm is known: {}\n", where);
}

// What else there was to choose from.
std::string DescribeAlternatives(const PlannedRun& run) {
  std::string text;
  for (const engine::ClipAlternative& way : run.clip_alternatives) {
    std::string name(StepKindName(way.kind));
    if (KeepsGradients(way.kind))
      name += fmt::format(", gradients on {}", TierName(way.pending_home));
    text += fmt::format("        {:36} {}\n", name,
                        way.step_s ? Duration(*way.step_s) : "does not fit");
  }
  if (text.empty()) return text;
  return "        first estimates of a step:\n" + text;
}

std::string DescribeUpdates(const PlannedRun& run) {
  return fmt::format("updates {}\n", DescribeWay(run)) + DescribePending(run) +
         DescribeAlternatives(run);
}

std::string DescribeTime(const PlannedRun& run) {
  const engine::TrainConfig& train = run.config.train;
  double tokens = static_cast<double>(train.train_batch_size * run.config.data.seq_len);
  std::string text =
      fmt::format("step    {} predicted ({} tokens/s); bound {} by {}; prefetch {} ops ahead\n",
                  Duration(run.predicted.step_s), FormatCount(tokens / run.predicted.step_s),
                  Duration(run.bound.seconds), run.bound.resource, run.plan.prefetch_ops);
  text += fmt::format("        by {}\n", NameOf(run.rates_source));
  text += DescribeRecomputing(run);
  text += DescribeTiles(run);
  for (const auto& [resource, seconds] : run.bound.seconds_by_resource) {
    if (seconds <= 0) continue;
    text += fmt::format("        {:8} {:>10} {:>6} of the step\n", resource, Duration(seconds),
                        Percent(seconds / run.predicted.step_s));
  }
  return text;
}

}  // namespace

uint64_t TrainingStateBytes(const PlannedRun& run) {
  uint64_t gradient = SizeOf(run.layout.options.precision);
  return (run.layout.size_bytes() + run.layout.num_shard_elements() * gradient) *
         run.config.train.world_size;
}

uint64_t StoreBytes(const PlannedRun& run) {
  return tiering::StoreCapacityBytes(run.store_blocks, run.num_generations);
}

std::string DescribeMemory(const PlannedRun& run, std::optional<uint64_t> peak_rss_bytes) {
  Table table({{"memory", Align::kLeft}, {"device", Align::kRight}, {"host", Align::kRight}});
  std::set<std::string> purposes;
  for (const auto& by_purpose : run.plan.peak_by_purpose) {
    for (const auto& [purpose, bytes] : by_purpose) purposes.insert(purpose);
  }
  const auto& device = run.plan.peak_by_purpose[static_cast<size_t>(Tier::kDevice)];
  const auto& host = run.plan.peak_by_purpose[static_cast<size_t>(Tier::kHost)];
  auto cell = [](const auto& by_purpose, const std::string& purpose) {
    auto it = by_purpose.find(purpose);
    return it == by_purpose.end() ? std::string("-") : FormatBytes(it->second);
  };
  for (const std::string& purpose : purposes) {
    table.AddRow({purpose, cell(device, purpose), cell(host, purpose)});
  }
  if (run.staging_bytes > 0) {
    table.AddRow({"checkpoint staging", "-", FormatBytes(run.staging_bytes)});
  }
  table.AddRow({"planned peak", FormatBytes(run.plan.peak_device_bytes),
                FormatBytes(run.plan.peak_host_bytes + run.staging_bytes)});
  table.SetTotals({"budget", FormatBytes(run.config.memory.device_bytes),
                   FormatBytes(run.config.memory.host_bytes)});
  std::string text = table.ToString();
  uint64_t limit =
      run.config.memory.device_bytes + run.config.memory.host_bytes + kProgramAllowanceBytes;
  if (peak_rss_bytes.has_value()) {
    text += fmt::format("measured peak of the process: {} (limit {}: budgets + {})\n",
                        FormatBytes(*peak_rss_bytes), FormatBytes(limit),
                        FormatBytes(kProgramAllowanceBytes));
  }
  return text;
}

std::string DescribePlan(const PlannedRun& run) {
  std::string lanes =
      LaneTable(prefetch::UseOf(run.plan, run.predicted), run.predicted.step_s) + "\n";
  return DescribeModel(run) + DescribeStore(run) + DescribeCheckpoints(run) + DescribeTime(run) +
         DescribeUpdates(run) + "\n" + DescribeMemory(run, {}) + "\n" + lanes +
         DescribeTraffic(run);
}

std::string PlanToJson(const PlannedRun& run) {
  prefetch::Traffic traffic = prefetch::TrafficOf(run.plan);
  nlohmann::ordered_json json;
  json["parameters"] = engine::NumParameters(run.config.model.llama);
  json["training_state_bytes"] = TrainingStateBytes(run);
  json["host_cache_bytes"] = run.host_cache_bytes;
  json["cpu_update_ratio"] = engine::CpuShare(run.layout, run.num_device_updates);
  if (KeepsGradients(run.program.kind)) {
    for (const auto& [tier, bytes] : PendingBytesByTier(run.pending_homes, run.layout))
      json["kept_gradient_bytes"][std::string(TierName(tier))] = bytes;
  }
  json["store_bytes"] = StoreBytes(run);
  engine::CheckpointCost checkpoint = engine::CheckpointCostOf(run);
  json["commits_every_step"] = run.commits_every_step;
  json["checkpoint_bytes"] = checkpoint.bytes_behind;
  json["checkpoint_drive_s"] = checkpoint.drive_s;
  json["checkpoint_wait_s"] = checkpoint.wait_s;
  json["num_nodes"] = run.plan.nodes.size();
  json["prefetch_ops"] = run.plan.prefetch_ops;
  json["keeping_units"] = run.num_keeping_units;
  json["parts_per_op"] = run.parts_per_op;
  json["predicted_step_s"] = run.predicted.step_s;
  json["bound_s"] = run.bound.seconds;
  json["bound_resource"] = run.bound.resource;
  json["bound_s_by_resource"] = run.bound.seconds_by_resource;
  json["peak_device_bytes"] = run.plan.peak_device_bytes;
  if (run.config.train.device.kind == engine::DeviceChoice::Kind::kCuda)
    json["gpu_bytes_beside_budget"] = BesideBudgetBytes(run);
  json["peak_host_bytes"] = run.plan.peak_host_bytes + run.staging_bytes;
  json["peak_device_bytes_by_purpose"] =
      run.plan.peak_by_purpose[static_cast<size_t>(Tier::kDevice)];
  json["peak_host_bytes_by_purpose"] = run.plan.peak_by_purpose[static_cast<size_t>(Tier::kHost)];
  json["lanes"] = LaneJson(prefetch::UseOf(run.plan, run.predicted));
  for (size_t lane = 0; lane < prefetch::kNumLanes; ++lane) {
    json["bytes_by_lane"][std::string(LaneName(Lane(lane)))] = traffic.bytes_by_lane[lane];
  }
  json["comm_bytes_sent"] = CommBytes(run);
  return json.dump();
}

}  // namespace strata::tools
