// Everything that one run is told, read from TOML.
//
// Keys carry DeepSpeed's names where it has them; docs/config.md lists every key. A RunConfig that
// Load or Parse returns is resolved: paths are absolute, the batch sizes agree, the model's shape
// is read from its config.json, and what was left out has its default. So ToToml() of it describes
// the run completely, from any directory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/config/device_choice.h"
#include "engine/config/lr_schedule.h"
#include "engine/model/llama_config.h"
#include "engine/optimizer/loss_scaler.h"
#include "engine/optimizer/state_format.h"
#include "prefetch/hardware.h"
#include "tiering/block_store.h"

namespace strata::engine {

enum class Precision : uint8_t { kBf16, kFp32, kFp16 };
constexpr DType DTypeOf(Precision precision) {
  return precision == Precision::kBf16   ? DType::kBf16
         : precision == Precision::kFp32 ? DType::kF32
                                         : DType::kF16;
}
enum class MicroBatchSchedule : uint8_t { kVertical, kHorizontal };
enum class Recompute : uint8_t { kAuto, kAll, kNone };
// With gradient_clipping: when updates happen that need the global norm (docs/step-plan.md).
enum class ClipMode : uint8_t { kAuto, kSpeculative, kDeferred, kNormFirst };
enum class OptimizerType : uint8_t { kAdamW, kAdam };
enum class OffloadDevice : uint8_t { kNone, kCpu, kNvme };
enum class TokenizerType : uint8_t { kBytes };

// [model]
struct ModelConfig {
  LlamaConfig llama;       // from config, from weights/config.json, or from the keys here
  std::string weights;     // a Hugging Face directory to start from; empty: random weights
  uint64_t init_seed = 0;  // of random weights; default: [train] seed
  // Embedding, mlp and head with more weights than that are cut into parts of at most about it.
  uint64_t part_bytes = 512ULL << 20;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// [data]
struct DataConfig {
  std::string path;
  std::string cache_dir;  // default: RUN_DIR/cache
  uint64_t seq_len = 0;
  uint64_t seed = 0;  // of the order of samples; default: [train] seed
  TokenizerType tokenizer = TokenizerType::kBytes;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

// [train]. After loading train_batch_size = train_micro_batch_size_per_gpu *
// gradient_accumulation_steps * world_size.
struct TrainConfig {
  std::string run_dir;
  uint64_t steps = 0;
  DeviceChoice device;
  uint64_t train_batch_size = 0;
  uint64_t train_micro_batch_size_per_gpu = 0;
  uint64_t gradient_accumulation_steps = 0;
  uint64_t world_size = 1;
  // Vertical: all micro-batches pass through a unit before the next unit is fetched.
  MicroBatchSchedule schedule = MicroBatchSchedule::kVertical;
  Recompute recompute = Recompute::kAuto;  // what backward computes again, instead of keeping it
  // Parts of a cut sublayer that one op takes at once; none ("auto"): by their cost.
  std::optional<uint64_t> tile;
  double gradient_clipping = 1;  // of the global norm; 0: off
  ClipMode clip_mode = ClipMode::kAuto;
  // Steps in a row without a clip until updates are speculative again; none ("auto"): by their
  // cost.
  std::optional<uint64_t> clip_calm_steps;
  Precision precision = Precision::kBf16;
  // What gradients travel in between ranks. Never none after loading: "auto" is the precision.
  std::optional<Precision> communication_data_type;
  uint64_t seed = 0;
  uint64_t threads = 0;  // 0: as many as there are cores
  uint64_t log_every_steps = 1;
  uint64_t trace_steps = 0;  // how many steps go to trace.json; 0: none
  // A rank of which nothing gets on for so long ends the job; 0: none does.
  uint64_t stall_timeout_s = 300;

  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

// [optimizer]
struct OptimizerConfig {
  OptimizerType type = OptimizerType::kAdamW;
  double lr = 0.001;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool no_decay_norms = true;  // norms and biases are not decayed
  // Never none after loading: "auto" is split with precision bf16, fp32 with precision fp32.
  std::optional<StateFormat> state;

  friend bool operator==(const OptimizerConfig&, const OptimizerConfig&) = default;
};

// [zero_optimization.offload_optimizer] and [zero_optimization.offload_param]
struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::vector<std::string> nvme_paths;  // one or more if device is nvme

  friend bool operator==(const OffloadConfig&, const OffloadConfig&) = default;
};

// [zero_optimization]
struct ZeroConfig {
  uint64_t stage = 0;
  OffloadConfig offload_optimizer;  // needs stage >= 1
  OffloadConfig offload_param;      // needs stage 3
  // [zero_optimization.offload_optimizer] host_cache, with device nvme: host memory for state that
  // then goes to nvme at checkpoints only. None ("auto"): the planner chooses.
  std::optional<uint64_t> host_cache_bytes = 0;
  // [zero_optimization.offload_optimizer] ratio: the part of the state that the cpu updates; the
  // device updates the rest. None ("auto"): the planner chooses.
  std::optional<double> cpu_update_ratio = 1.0;
  std::optional<uint64_t> prefetch_ops;  // none ("auto"): the planner chooses

  friend bool operator==(const ZeroConfig&, const ZeroConfig&) = default;
};

// [aio]. The fields mean what they mean in aio::IoEngineOptions.
struct AioConfig {
  std::optional<aio::IoBackend> backend;  // none ("auto"): the best that the machine has
  uint64_t block_size_bytes = aio::IoEngineOptions{}.block_size_bytes;
  uint32_t queue_depth = aio::IoEngineOptions{}.queue_depth;
  uint32_t thread_count = aio::IoEngineOptions{}.thread_count;
  bool single_submit = aio::IoEngineOptions{}.single_submit;
  bool overlap_events = aio::IoEngineOptions{}.overlap_events;
  bool sqpoll = aio::IoEngineOptions{}.sqpoll;
  bool iopoll = aio::IoEngineOptions{}.iopoll;
  bool registered_files = aio::IoEngineOptions{}.registered_files;
  tiering::Verify verify = tiering::Verify::kAlways;

  friend bool operator==(const AioConfig&, const AioConfig&) = default;
};

// [memory]: hard budgets of one rank.
struct MemoryConfig {
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;

  friend bool operator==(const MemoryConfig&, const MemoryConfig&) = default;
};

// [checkpoint]
struct CheckpointConfig {
  uint64_t every_steps = 0;  // 0: only at the end
  // How many of the newest checkpoints are pinned, each up to one more state in the store. 0: none;
  // the newest committed state is there all the same.
  uint64_t keep_last = 1;

  friend bool operator==(const CheckpointConfig&, const CheckpointConfig&) = default;
};

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  LossScaleOptions fp16;  // [fp16], of precision "fp16"
  SchedulerConfig scheduler;
  ZeroConfig zero;
  AioConfig aio;
  MemoryConfig memory;
  CheckpointConfig checkpoint;
  // Rates to plan with: given keys replace prefetch::Hardware's defaults. None: those defaults, on
  // this machine's cores; train --measure replaces all of it by what it measures.
  std::optional<prefetch::Hardware> hardware;
  // Keys of DeepSpeed's that were given and do nothing here, "[section] key: what there is
  // instead". Not written and not compared.
  std::vector<std::string> without_effect;
};
bool operator==(const RunConfig& a, const RunConfig& b);

// Relative paths in the file are relative to the file, but run_dir and nvme_path, where a run
// writes, to the working directory. `overrides` are "section.key=value" with a TOML value, or any
// other text, which is then a string; relative paths in them are relative to the working directory.
//
// kNotFound when the file is not there. kInvalidArgument lists everything that is wrong, one line
// each, as "file:line:column: what, and what to do" or "--set a.b=c: ...", or, where values of both
// do not fit together, "file with --set a.b=c: ...". The model's config.json is read: its errors
// appear here, too. An override of [model] config or weights replaces the file's shape keys.
Result<RunConfig> LoadRunConfig(const std::string& path,
                                const std::vector<std::string>& overrides = {});

// The same for text that stands, or could stand, in the file `source_name`.
Result<RunConfig> ParseRunConfig(std::string_view text, const std::string& source_name,
                                 const std::vector<std::string>& overrides = {});

// Every key of a resolved config with its value. Parsing it gives an equal RunConfig.
std::string ToToml(const RunConfig& config);

}  // namespace strata::engine
