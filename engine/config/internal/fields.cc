#include "engine/config/internal/fields.h"

#include <filesystem>

#include "aio/base/units.h"
#include "engine/config/internal/keys_without_effect.h"

namespace strata::engine::config_internal {
namespace {

using namespace std::string_view_literals;

constexpr std::array kPrecisions = {"bf16"sv, "fp32"sv, "fp16"sv};
constexpr std::array kCommunicationTypes = {"auto"sv, "bf16"sv, "fp32"sv, "fp16"sv};
constexpr std::array kRecomputes = {"auto"sv, "all"sv, "none"sv};
constexpr std::array kSchedules = {"vertical"sv, "horizontal"sv};
constexpr std::array kClipModes = {"auto"sv, "speculative"sv, "deferred"sv, "norm_first"sv};
constexpr std::array kOptimizerTypes = {"AdamW"sv, "Adam"sv};
constexpr std::array kStateFormats = {"auto"sv, "fp32"sv, "split"sv, "int8"sv};
constexpr std::array kOffloadDevices = {"none"sv, "cpu"sv, "nvme"sv};
constexpr std::array kTokenizers = {"bytes"sv};
constexpr std::array kSchedulerTypes = {"constant"sv, "WarmupLR"sv, "WarmupDecayLR"sv,
                                        "WarmupCosineLR"sv};
constexpr std::array kWarmupTypes = {"log"sv, "linear"sv};
constexpr std::array kIoBackends = {"auto"sv, "io_uring"sv, "libaio"sv, "posix"sv};
constexpr std::array kVerify = {"always"sv, "sampled"sv, "off"sv};

// TOML's integers are signed.
constexpr IntegerRange kAnySeed = {0, std::numeric_limits<int64_t>::max()};
constexpr IntegerRange kSteps = {0, 1'000'000'000};
constexpr NumberRange kLearningRate = {.min = 0, .max = 10};
constexpr NumberRange kRatio = {.min = 0, .max = 1};
constexpr NumberRange kPositive = {.min = 0, .max = 1e18, .without_min = true};

void VisitTrain(FieldVisitor& v, TrainConfig& train) {
  constexpr IntegerRange kBatch = {0, 1 << 20};
  v.Section("train");
  v.Path("run_dir", train.run_dir, PathBase::kWorkingDirectory);
  v.Require("run_dir");
  v.Integer("steps", train.steps, {1, kSteps.max});
  v.Require("steps");
  v.Device("device", train.device);
  v.Integer("train_batch_size", train.train_batch_size, kBatch);
  v.Integer("train_micro_batch_size_per_gpu", train.train_micro_batch_size_per_gpu, kBatch);
  v.Integer("gradient_accumulation_steps", train.gradient_accumulation_steps, kBatch);
  v.Integer("world_size", train.world_size, {1, 65536});
  v.Choice("schedule", train.schedule, kSchedules);
  v.Choice("recompute", train.recompute, kRecomputes);
  v.OptionalInteger("tile", train.tile, {1, 1 << 20}, "auto");
  v.Number("gradient_clipping", train.gradient_clipping, {.min = 0, .max = 1e6});
  v.Choice("clip_mode", train.clip_mode, kClipModes);
  v.OptionalInteger("clip_calm_steps", train.clip_calm_steps, {1, kSteps.max}, "auto");
  v.Choice("precision", train.precision, kPrecisions);
  v.OptionalChoice("communication_data_type", train.communication_data_type, kCommunicationTypes);
  v.Integer("seed", train.seed, kAnySeed);
  v.Integer("threads", train.threads, {0, 4096});
  v.Integer("log_every_steps", train.log_every_steps, {1, kSteps.max});
  v.Integer("trace_steps", train.trace_steps, {0, 1000});
  v.Integer("stall_timeout_s", train.stall_timeout_s, {0, 1'000'000});
}

void VisitRopeScaling(FieldVisitor& v, std::optional<Llama3RopeScaling>& scaling) {
  if (!v.OptionalSection("model.rope_scaling", scaling.has_value())) return;
  if (!scaling) scaling.emplace();
  v.Number("factor", scaling->factor, {.min = 1, .max = 1024});
  v.Number("low_freq_factor", scaling->low_freq_factor, kPositive);
  v.Number("high_freq_factor", scaling->high_freq_factor, kPositive);
  v.Integer("original_max_position_embeddings", scaling->original_max_position_embeddings,
            {1, 1 << 28});
}

void VisitShape(FieldVisitor& v, LlamaConfig& llama) {
  v.Integer("vocab_size", llama.vocab_size, {1, 1 << 24});
  v.Integer("hidden_size", llama.hidden_size, {1, 1 << 20});
  v.Integer("intermediate_size", llama.intermediate_size, {1, 1 << 22});
  v.Integer("num_hidden_layers", llama.num_hidden_layers, {1, 16384});
  v.Integer("num_attention_heads", llama.num_attention_heads, {1, 4096});
  v.Integer("num_key_value_heads", llama.num_key_value_heads, {1, 4096});
  v.Integer("head_dim", llama.head_dim, {1, 4096});
  v.Integer("max_position_embeddings", llama.max_position_embeddings, {1, 1 << 28});
  v.Number("rms_norm_eps", llama.rms_norm_eps, {.min = 0, .max = 1, .without_min = true});
  v.Number("rope_theta", llama.rope_theta, {.min = 1, .max = 1e12});
  v.Flag("tie_word_embeddings", llama.tie_word_embeddings);
  v.Number("initializer_range", llama.initializer_range, kRatio);
  VisitRopeScaling(v, llama.rope_scaling);
}

void VisitModel(FieldVisitor& v, ModelConfig& model, std::string& config_path, uint64_t seed) {
  v.Section("model");
  v.BeginReplaceable({"weights"});
  v.Path("config", config_path, PathBase::kConfigFile);
  v.EndReplaceable();
  v.Path("weights", model.weights, PathBase::kConfigFile);
  v.Default(model.init_seed, seed);
  v.Integer("init_seed", model.init_seed, kAnySeed);
  v.Size("part_size", model.part_bytes, {4096, 1ULL << 50});
  // The file's shape stays out of the way of a model named on the command line.
  v.BeginReplaceable({"config", "weights"});
  VisitShape(v, model.llama);
  v.EndReplaceable();
}

void VisitData(FieldVisitor& v, DataConfig& data, const TrainConfig& train) {
  v.Section("data");
  v.Path("path", data.path, PathBase::kConfigFile);
  v.Require("path");
  if (!train.run_dir.empty())
    v.Default(data.cache_dir, (std::filesystem::path(train.run_dir) / "cache").string());
  v.Path("cache_dir", data.cache_dir, PathBase::kWorkingDirectory);
  v.Integer("seq_len", data.seq_len, {1, 1 << 24});
  v.Require("seq_len");
  v.Default(data.seed, train.seed);
  v.Integer("seed", data.seed, kAnySeed);
  v.Choice("tokenizer", data.tokenizer, kTokenizers);
}

void VisitOptimizer(FieldVisitor& v, OptimizerConfig& optimizer) {
  v.Section("optimizer");
  v.Choice("type", optimizer.type, kOptimizerTypes);
  v.Number("lr", optimizer.lr, kLearningRate);
  v.NumberPair("betas", optimizer.betas, {.min = 0, .max = 1, .without_max = true});
  v.Number("eps", optimizer.eps, {.min = 0, .max = 1, .without_min = true});
  v.Number("weight_decay", optimizer.weight_decay, kRatio);
  v.Flag("no_decay_norms", optimizer.no_decay_norms);
  v.OptionalChoice("state", optimizer.state, kStateFormats);
}

// DeepSpeed's keys and defaults.
void VisitFp16(FieldVisitor& v, LossScaleOptions& fp16, Precision precision) {
  if (!v.OptionalSection("fp16", precision == Precision::kFp16)) return;
  if (precision != Precision::kFp16) {
    for (std::string_view key : {"loss_scale", "initial_scale_power", "loss_scale_window",
                                 "hysteresis", "consecutive_hysteresis", "min_loss_scale"})
      v.Inapplicable(key, "it is for [train] precision = \"fp16\"");
    return;
  }
  v.Number("loss_scale", fp16.fixed_scale, {.min = 0, .max = 0x1p60});
  v.Integer("initial_scale_power", fp16.initial_power, {0, 32});
  v.Integer("loss_scale_window", fp16.window, {1, 1'000'000'000});
  v.Integer("hysteresis", fp16.hysteresis, {1, 1'000'000});
  v.Flag("consecutive_hysteresis", fp16.consecutive_hysteresis);
  v.Number("min_loss_scale", fp16.min_scale, {.min = 0, .max = 0x1p60, .without_min = true});
}

// The schedule's keys. Those that its type does not have are refused, not ignored.
class SchedulerFields {
 public:
  SchedulerFields(FieldVisitor& visitor, SchedulerConfig& scheduler)
      : v_(visitor), scheduler_(scheduler) {}

  void Visit(double optimizer_lr, uint64_t train_steps) {
    v_.Section("scheduler");
    v_.Choice("type", scheduler_.type, kSchedulerTypes);
    bool to_rate = Is(SchedulerType::kWarmupLr) || Is(SchedulerType::kWarmupDecayLr);
    bool to_ratio = Is(SchedulerType::kWarmupCosineLr);
    Warmup(to_rate || to_ratio);
    // DeepSpeed's defaults: WarmupLR rises to the optimizer's rate, WarmupDecayLR to 0.001.
    if (Is(SchedulerType::kWarmupLr)) v_.Default(scheduler_.warmup_max_lr, optimizer_lr);
    Number(to_rate, "warmup_min_lr", scheduler_.warmup_min_lr, kLearningRate);
    Number(to_rate, "warmup_max_lr", scheduler_.warmup_max_lr, kLearningRate);
    Number(to_ratio, "warmup_min_ratio", scheduler_.warmup_min_ratio, kRatio);
    Number(to_ratio, "cos_min_ratio", scheduler_.cos_min_ratio, kRatio);
    TotalSteps(to_ratio || Is(SchedulerType::kWarmupDecayLr), train_steps);
  }

 private:
  bool Is(SchedulerType type) const { return scheduler_.type == type; }

  bool Applies(bool applies, std::string_view key) {
    std::string_view type = kSchedulerTypes[static_cast<size_t>(scheduler_.type)];
    if (!applies)
      v_.Inapplicable(key, "[scheduler] type \"" + std::string(type) + "\" does not have it");
    return applies;
  }

  void Number(bool applies, std::string_view key, double& value, NumberRange range) {
    if (Applies(applies, key)) v_.Number(key, value, range);
  }

  void Warmup(bool applies) {
    if (Applies(applies, "warmup_num_steps"))
      v_.Integer("warmup_num_steps", scheduler_.warmup_num_steps, {1, kSteps.max});
    if (Applies(applies, "warmup_type"))
      v_.Choice("warmup_type", scheduler_.warmup_type, kWarmupTypes);
  }

  void TotalSteps(bool applies, uint64_t train_steps) {
    if (!Applies(applies, "total_num_steps")) return;
    v_.Default(scheduler_.total_num_steps, train_steps);
    v_.Integer("total_num_steps", scheduler_.total_num_steps, {1, kSteps.max});
  }

  FieldVisitor& v_;
  SchedulerConfig& scheduler_;
};

void VisitWithoutEffect(FieldVisitor& v, std::span<const KeyWithoutEffect> keys,
                        std::vector<std::string>& given) {
  for (const KeyWithoutEffect& key : keys)
    v.WithoutEffect(key.key, key.kind == ValueKind::kFlag, key.why, given);
}

void VisitOffload(FieldVisitor& v, std::string_view section, OffloadConfig& offload,
                  std::vector<std::string>& without_effect) {
  v.Section(section);
  v.Choice("device", offload.device, kOffloadDevices);
  v.PathList("nvme_path", offload.nvme_paths, PathBase::kWorkingDirectory);
  if (offload.device == OffloadDevice::kNvme) v.Require("nvme_path");
  VisitWithoutEffect(v, OffloadKeysWithoutEffect(), without_effect);
}

void VisitHostCache(FieldVisitor& v, const OffloadConfig& optimizer,
                    std::optional<uint64_t>& host_cache_bytes) {
  if (optimizer.device == OffloadDevice::kNvme) {
    v.OptionalSize("host_cache", host_cache_bytes, {0, 1ULL << 50}, "auto");
  } else {
    v.Inapplicable("host_cache", "it is for state at home on nvme: set device = \"nvme\"");
  }
}

// Without offloading the device updates all there is.
void VisitRatio(FieldVisitor& v, const OffloadConfig& optimizer, std::optional<double>& ratio) {
  if (optimizer.device != OffloadDevice::kNone) {
    v.OptionalNumber("ratio", ratio, {0, 1}, "auto");
  } else {
    v.Inapplicable("ratio", "it is for state that is offloaded: set device = \"cpu\" or \"nvme\"");
  }
}

void VisitZero(FieldVisitor& v, ZeroConfig& zero, std::vector<std::string>& without_effect) {
  v.Section("zero_optimization");
  v.Integer("stage", zero.stage, {0, 3});
  v.OptionalInteger("prefetch_ops", zero.prefetch_ops, {0, 4096}, "auto");
  VisitWithoutEffect(v, ZeroKeysWithoutEffect(), without_effect);
  VisitOffload(v, "zero_optimization.offload_optimizer", zero.offload_optimizer, without_effect);
  VisitHostCache(v, zero.offload_optimizer, zero.host_cache_bytes);
  VisitRatio(v, zero.offload_optimizer, zero.cpu_update_ratio);
  VisitOffload(v, "zero_optimization.offload_param", zero.offload_param, without_effect);
}

void VisitAio(FieldVisitor& v, AioConfig& aio) {
  v.Section("aio");
  v.OptionalChoice("backend", aio.backend, kIoBackends);
  v.Size("block_size", aio.block_size_bytes, {4_KiB, 1_GiB});
  v.Integer("queue_depth", aio.queue_depth, {1, 4096});
  v.Alias("intra_op_parallelism", "thread_count");
  v.Integer("thread_count", aio.thread_count, {1, 64});
  v.Flag("single_submit", aio.single_submit);
  v.Flag("overlap_events", aio.overlap_events);
  v.Flag("sqpoll", aio.sqpoll);
  v.Flag("iopoll", aio.iopoll);
  v.Flag("registered_files", aio.registered_files);
  v.Choice("verify", aio.verify, kVerify);
}

void VisitMemory(FieldVisitor& v, MemoryConfig& memory) {
  constexpr IntegerRange kBudget = {1_MiB, 1ULL << 50};
  v.Section("memory");
  v.Size("device", memory.device_bytes, kBudget);
  v.Require("device");
  v.Size("host", memory.host_bytes, kBudget);
  v.Require("host");
}

void VisitCheckpoint(FieldVisitor& v, CheckpointConfig& checkpoint) {
  v.Section("checkpoint");
  v.Integer("every_steps", checkpoint.every_steps, kSteps);
  v.Integer("keep_last", checkpoint.keep_last, {0, 1000});
}

void VisitHardware(FieldVisitor& v, std::optional<prefetch::Hardware>& hardware) {
  if (!v.OptionalSection("hardware", hardware.has_value())) return;
  if (!hardware) hardware.emplace();
  v.Number("nvme_read_bytes_per_s", hardware->nvme_read_bytes_per_s, kPositive);
  v.Number("nvme_write_bytes_per_s", hardware->nvme_write_bytes_per_s, kPositive);
  v.Number("nvme_mixed_bytes_per_s", hardware->nvme_mixed_bytes_per_s, kPositive);
  v.Number("h2d_bytes_per_s", hardware->h2d_bytes_per_s, kPositive);
  v.Number("d2h_bytes_per_s", hardware->d2h_bytes_per_s, kPositive);
  v.Number("checksum_bytes_per_s", hardware->checksum_bytes_per_s, {.min = 0, .max = 1e18});
  v.Number("nvme_bytes_per_core_s", hardware->nvme_bytes_per_core_s, {.min = 0, .max = 1e18});
  v.Integer("cores", hardware->cores, {1, 65536});
  v.Integer("op_threads", hardware->op_threads, {1, 65536});
  v.Flag("device_shares_cores", hardware->device_shares_cores);
  v.Number("compute_default_per_s", hardware->compute_default_per_s, kPositive);
  v.Number("device_memory_bytes_per_s", hardware->device_memory_bytes_per_s, kPositive);
  v.Number("comm_default_per_s", hardware->comm_default_per_s, kPositive);
  v.Number("cpu_default_per_s", hardware->cpu_default_per_s, kPositive);
  v.Number("node_latency_s", hardware->node_latency_s, {.min = 0, .max = 60});
  v.NumberMap("hardware.rates", hardware->rates, kPositive);
}

}  // namespace

void VisitFields(FieldVisitor& v, RunConfig& config, std::string& model_config_path) {
  // [train] first: it has what others take their defaults from.
  VisitTrain(v, config.train);
  VisitModel(v, config.model, model_config_path, config.train.seed);
  VisitData(v, config.data, config.train);
  VisitOptimizer(v, config.optimizer);
  VisitFp16(v, config.fp16, config.train.precision);
  SchedulerFields(v, config.scheduler).Visit(config.optimizer.lr, config.train.steps);
  VisitZero(v, config.zero, config.without_effect);
  VisitAio(v, config.aio);
  VisitMemory(v, config.memory);
  VisitCheckpoint(v, config.checkpoint);
  VisitHardware(v, config.hardware);
}

}  // namespace strata::engine::config_internal
