#include "engine/train/run_record.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/model/units.h"
#include "engine/train/planning.h"

namespace strata::engine {
namespace {

std::string PrecisionName(Precision precision) {
  return std::string(DTypeName(DTypeOf(precision)));
}

// How the model is cut: what its sums, and so its bits, hang on.
std::string PartsOf(const RunConfig& config) {
  auto parts = [&](UnitKind kind) {
    return CutOf(config.model.llama, kind, PartElementsOf(config)).num_parts();
  };
  return fmt::format("{} {} {}", parts(UnitKind::kEmbedding), parts(UnitKind::kMlp),
                     parts(UnitKind::kHead));
}

template <typename T>
Status MustAgree(std::string_view what, const T& saved, const T& now) {
  if (saved == now) return OkStatus();
  return FailedPrecondition(
      fmt::format("cannot resume: the checkpoint was made with {} = {}, this configuration says "
                  "{}; restore it, or start anew, with another [train] run_dir and without --from",
                  what, saved, now));
}

nlohmann::ordered_json ToJson(const LossScaleState& state) {
  nlohmann::ordered_json json;
  json["scale"] = state.scale;
  json["steps"] = state.steps;
  json["steps_since_change"] = state.steps_since_change;
  json["hysteresis_left"] = state.hysteresis_left;
  return json;
}

RunProgress ProgressOf(const nlohmann::json& json) {
  RunProgress progress;
  progress.steps = json.at("step").get<uint64_t>();
  progress.updates = json.value("updates", progress.steps);  // older records skipped nothing
  if (!json.contains("loss_scale")) return progress;
  const nlohmann::json& scale = json.at("loss_scale");
  progress.loss_scale = {.scale = scale.at("scale").get<double>(),
                         .steps = scale.at("steps").get<uint64_t>(),
                         .steps_since_change = scale.at("steps_since_change").get<uint64_t>(),
                         .hysteresis_left = scale.at("hysteresis_left").get<uint32_t>()};
  return progress;
}

}  // namespace

RunProgress FirstProgress(const RunConfig& config) {
  return {.loss_scale = LossScaler(config.fp16).state()};
}

RunRecord MakeRunRecord(const RunConfig& config, uint64_t data_fingerprint,
                        const RunProgress& progress) {
  return {.step = progress.steps,
          .progress = progress,
          .model_config = ToConfigJson(config.model.llama, DType::kF32),
          .precision = PrecisionName(config.train.precision),
          .state_format = std::string(StateFormatName(*config.optimizer.state)),
          .parts = PartsOf(config),
          .world_size = config.train.world_size,
          .stage = config.train.world_size > 1 ? config.zero.stage : 0,
          .data_fingerprint = data_fingerprint,
          .data_seed = config.data.seed,
          .seq_len = config.data.seq_len,
          .train_batch_size = config.train.train_batch_size};
}

std::string ToJson(const RunRecord& record) {
  nlohmann::ordered_json json;
  json["step"] = record.step;
  json["checkpoint"] = record.is_checkpoint;
  json["updates"] = record.progress.updates;
  if (record.precision == "fp16") json["loss_scale"] = ToJson(record.progress.loss_scale);
  json["precision"] = record.precision;
  json["state_format"] = record.state_format;
  json["parts"] = record.parts;
  json["world_size"] = record.world_size;
  if (record.world_size > 1) json["stage"] = record.stage;
  json["data_fingerprint"] = fmt::format("{:016x}", record.data_fingerprint);
  json["data_seed"] = record.data_seed;
  json["seq_len"] = record.seq_len;
  json["train_batch_size"] = record.train_batch_size;
  json["model_config"] = record.model_config;
  return json.dump();
}

Result<RunRecord> ParseRunRecord(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return DataLoss("the checkpoint's record is not JSON");
  try {
    return RunRecord{.step = json.at("step").get<uint64_t>(),
                     .is_checkpoint = json.value("checkpoint", true),  // older: whatever is pinned
                     .progress = ProgressOf(json),
                     .model_config = json.at("model_config").get<std::string>(),
                     .precision = json.at("precision").get<std::string>(),
                     .state_format = json.value("state_format", RunRecord{}.state_format),
                     .parts = json.value("parts", RunRecord{}.parts),
                     .world_size = json.at("world_size").get<uint64_t>(),
                     .stage = json.value("stage", RunRecord{}.stage),
                     .data_fingerprint =
                         std::stoull(json.at("data_fingerprint").get<std::string>(), nullptr, 16),
                     .data_seed = json.at("data_seed").get<uint64_t>(),
                     .seq_len = json.at("seq_len").get<uint64_t>(),
                     .train_batch_size = json.at("train_batch_size").get<uint64_t>()};
  } catch (const std::exception& error) {
    return DataLoss(fmt::format("the checkpoint's record is damaged: {}", error.what()));
  }
}

Status CheckSameState(const RunRecord& saved, const RunRecord& now) {
  if (saved.model_config != now.model_config) {
    return FailedPrecondition(
        fmt::format("cannot resume: the checkpoint holds another model\n  checkpoint: {}\n  "
                    "configuration: {}\n  restore [model], or start anew, with another "
                    "[train] run_dir and without --from",
                    saved.model_config, now.model_config));
  }
  STRATA_RETURN_IF_ERROR(MustAgree("[train] precision", saved.precision, now.precision));
  STRATA_RETURN_IF_ERROR(MustAgree("[optimizer] state", saved.state_format, now.state_format));
  return MustAgree("parts of embedding, mlp and head (by [model] part_size)", saved.parts,
                   now.parts);
}

Status CheckResumable(const RunRecord& saved, const RunRecord& now) {
  STRATA_RETURN_IF_ERROR(CheckSameState(saved, now));
  if (saved.data_fingerprint != now.data_fingerprint) {
    return FailedPrecondition(
        "cannot resume: the dataset is not the one the checkpoint was made with (files were added, "
        "removed or changed); restore it, or start anew, with another [train] run_dir and without "
        "--from");
  }
  STRATA_RETURN_IF_ERROR(MustAgree("[data] seed", saved.data_seed, now.data_seed));
  STRATA_RETURN_IF_ERROR(MustAgree("[data] seq_len", saved.seq_len, now.seq_len));
  return MustAgree("[train] train_batch_size", saved.train_batch_size, now.train_batch_size);
}

}  // namespace strata::engine
