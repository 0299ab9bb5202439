#include "engine/config/internal/resolve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::engine::config_internal {
namespace {

std::string BatchArithmetic(const TrainConfig& train) {
  return fmt::format(
      "train_batch_size {} = train_micro_batch_size_per_gpu {} * gradient_accumulation_steps {} * "
      "world_size {}",
      train.train_batch_size, train.train_micro_batch_size_per_gpu,
      train.gradient_accumulation_steps, train.world_size);
}

// DeepSpeed's rule: two give the third by integer division, one alone leaves accumulation at 1.
// The product is checked afterwards.
void DeriveBatch(TrainConfig& train) {
  uint64_t& total = train.train_batch_size;
  uint64_t& micro = train.train_micro_batch_size_per_gpu;
  uint64_t& accumulation = train.gradient_accumulation_steps;
  uint64_t world = train.world_size;
  if (accumulation == 0) accumulation = total != 0 && micro != 0 ? total / micro / world : 1;
  if (micro == 0) micro = total / accumulation / world;
  if (total == 0) total = micro * accumulation * world;
}

Status ResolveBatch(TrainConfig& train) {
  if (train.train_batch_size == 0 && train.train_micro_batch_size_per_gpu == 0)
    return InvalidArgument("[train] needs train_batch_size or train_micro_batch_size_per_gpu");
  TrainConfig given = train;
  DeriveBatch(train);
  uint64_t product =
      train.train_micro_batch_size_per_gpu * train.gradient_accumulation_steps * train.world_size;
  if (product == train.train_batch_size && product != 0) return OkStatus();
  return InvalidArgument(fmt::format(
      "[train] the batch sizes do not agree: {} gives {} (given: {}, {}, {}; 0 is derived)",
      BatchArithmetic(train), product, given.train_batch_size, given.train_micro_batch_size_per_gpu,
      given.gradient_accumulation_steps));
}

std::vector<std::string> MissingShapeKeys(const LlamaConfig& llama) {
  std::vector<std::string> missing;
  if (llama.vocab_size == 0) missing.push_back("vocab_size");
  if (llama.hidden_size == 0) missing.push_back("hidden_size");
  if (llama.intermediate_size == 0) missing.push_back("intermediate_size");
  if (llama.num_hidden_layers == 0) missing.push_back("num_hidden_layers");
  if (llama.num_attention_heads == 0) missing.push_back("num_attention_heads");
  return missing;
}

// The rules of config.json hold here, too: so its parser is asked.
Result<LlamaConfig> CheckedShape(LlamaConfig llama) {
  std::vector<std::string> missing = MissingShapeKeys(llama);
  if (!missing.empty())
    return InvalidArgument(fmt::format(
        "[model] misses {} (or name a config.json: config = \"path\")", fmt::join(missing, ", ")));
  if (llama.num_key_value_heads == 0) llama.num_key_value_heads = llama.num_attention_heads;
  if (llama.head_dim == 0) llama.head_dim = llama.hidden_size / llama.num_attention_heads;
  return ParseLlamaConfig(ToConfigJson(llama, DType::kBf16), "[model]");
}

Result<LlamaConfig> ReadShape(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(std::string json, aio::ReadSmallFile(path, 16_MiB).With("[model]"));
  return ParseLlamaConfig(json, path);
}

Status ResolveModel(const std::string& config_path, ModelConfig& model) {
  bool has_shape = !(model.llama == LlamaConfig{});
  if (!config_path.empty() && (has_shape || !model.weights.empty()))
    return InvalidArgument(
        fmt::format("[model] has config and also {}: the shape comes from one place only",
                    has_shape ? "keys of the shape" : "weights, which have their own config.json"));
  std::string json_path = config_path;
  if (!model.weights.empty() && !has_shape)
    json_path = (std::filesystem::path(model.weights) / "config.json").string();
  Result<LlamaConfig> llama = json_path.empty() ? CheckedShape(model.llama) : ReadShape(json_path);
  if (!llama.ok()) return llama.status();
  model.llama = *llama;
  return OkStatus();
}

Status CheckSequence(const RunConfig& config) {
  uint64_t longest = config.model.llama.max_position_embeddings;
  if (config.data.seq_len <= longest) return OkStatus();
  return InvalidArgument(fmt::format(
      "[data] seq_len {} exceeds the model's max_position_embeddings {}: shorten it, or raise that",
      config.data.seq_len, longest));
}

Status CheckOffloadParam(const ZeroConfig& zero) {
  if (zero.offload_param.device == OffloadDevice::kNone || zero.stage == 3) return OkStatus();
  return InvalidArgument(fmt::format(
      "[zero_optimization.offload_param] device needs stage = 3, is stage = {}: only stage 3 "
      "partitions parameters; set stage = 3 or device = \"none\"",
      zero.stage));
}

Status CheckOffloadOptimizer(const ZeroConfig& zero) {
  if (zero.offload_optimizer.device == OffloadDevice::kNone || zero.stage >= 1) return OkStatus();
  return InvalidArgument(
      "[zero_optimization.offload_optimizer] device needs stage >= 1, is stage = 0; set stage or "
      "device = \"none\"");
}

Status CheckNvmePaths(const ZeroConfig& zero) {
  bool both = zero.offload_param.device == OffloadDevice::kNvme &&
              zero.offload_optimizer.device == OffloadDevice::kNvme;
  if (!both || zero.offload_param.nvme_paths == zero.offload_optimizer.nvme_paths)
    return OkStatus();
  return InvalidArgument(
      "[zero_optimization] nvme_path of offload_param and of offload_optimizer differ: one store "
      "holds both, so give both the same list of directories");
}

Status ResolveStateFormat(Precision precision, std::optional<StateFormat>& state) {
  bool is_bf16 = precision == Precision::kBf16;
  if (!state) state = is_bf16 ? StateFormat::kSplit : StateFormat::kFp32;
  if (is_bf16 || *state == StateFormat::kFp32) return OkStatus();
  return InvalidArgument(fmt::format(
      "[optimizer] state = \"{}\" keeps the 16 bits of the master weights that bf16 weights lack, "
      "and [train] precision = \"{}\" has none of those; set state = \"auto\" or precision = "
      "\"bf16\"",
      StateFormatName(*state), DTypeName(DTypeOf(precision))));
}

Status ResolveCommunication(TrainConfig& train) {
  std::optional<Precision>& type = train.communication_data_type;
  if (!type) type = train.precision;
  if (*type == train.precision || *type == Precision::kFp32) return OkStatus();
  const std::string_view precision = DTypeName(DTypeOf(train.precision));
  return InvalidArgument(fmt::format(
      "[train] communication_data_type = \"{}\" with precision = \"{}\": gradients travel as what "
      "the optimizer reads or as fp32; set it to \"auto\" (that is {}) or \"fp32\"",
      DTypeName(DTypeOf(*type)), precision, precision));
}

Status CheckClipMode(const TrainConfig& train) {
  // In fp16 a step may overflow, which is taken back as a clip is.
  bool may_take_back = train.gradient_clipping > 0 || train.precision == Precision::kFp16;
  if (train.clip_mode == ClipMode::kAuto || may_take_back) return OkStatus();
  return InvalidArgument(
      "[train] clip_mode says how gradients are clipped, and gradient_clipping = 0 clips none: "
      "leave clip_mode out, or set gradient_clipping");
}

Status CheckBlockSize(const AioConfig& aio) {
  if (aio.block_size_bytes % 4096 == 0) return OkStatus();
  return InvalidArgument(fmt::format("[aio] block_size must be a multiple of 4096 bytes, is {}",
                                     aio.block_size_bytes));
}

}  // namespace

void Resolve(const Reader& reader, const std::string& model_config_path, RunConfig& config,
             std::vector<std::string>& errors) {
  // `involved`: the keys, or how they start, that the check looks at.
  auto note = [&](const Status& status, std::initializer_list<std::string_view> involved) {
    if (!status.ok()) errors.push_back(status.With(reader.SourceOf(involved)).message());
    return status.ok();
  };
  note(ResolveBatch(config.train),
       {"train.train_", "train.gradient_accumulation_steps", "train.world_size"});
  if (note(ResolveModel(model_config_path, config.model), {"model."}))
    note(CheckSequence(config), {"model.", "data.seq_len"});
  note(ResolveStateFormat(config.train.precision, config.optimizer.state),
       {"train.precision", "optimizer.state"});
  note(ResolveCommunication(config.train), {"train.precision", "train.communication_data_type"});
  note(CheckClipMode(config.train), {"train.clip_mode", "train.gradient_clipping"});
  constexpr std::string_view kStage = "zero_optimization.stage";
  note(CheckOffloadOptimizer(config.zero), {kStage, "zero_optimization.offload_optimizer."});
  note(CheckOffloadParam(config.zero), {kStage, "zero_optimization.offload_param."});
  note(CheckNvmePaths(config.zero), {"zero_optimization.offload_"});
  note(CheckBlockSize(config.aio), {"aio.block_size"});
}

}  // namespace strata::engine::config_internal
