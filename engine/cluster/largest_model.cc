#include "engine/cluster/largest_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"
#include "engine/cluster/plan_outcome.h"

namespace strata::engine {
namespace {

constexpr uint64_t kWidest = 1 << 17;
constexpr uint64_t kMultiple = 64;  // of MLP widths

bool IsGrouped(const LlamaConfig& shape) {
  return shape.num_key_value_heads != shape.num_attention_heads;
}

// value * to / from, to the nearest.
uint64_t InProportion(uint64_t value, uint64_t to, uint64_t from) {
  return (value * to + from / 2) / from;
}

Result<bool> FitsAt(const RunConfig& config, uint64_t hidden_size, uint64_t nvme_capacity_bytes) {
  RunConfig scaled = config;
  STRATA_ASSIGN_OR_RETURN(scaled.model.llama, ScaledTo(config.model.llama, hidden_size));
  return Fits(scaled, nvme_capacity_bytes);
}

}  // namespace

uint64_t HiddenStep(const LlamaConfig& shape) {
  return shape.head_dim * (IsGrouped(shape) ? shape.num_key_value_heads : 1);
}

Result<LlamaConfig> ScaledTo(const LlamaConfig& shape, uint64_t hidden_size) {
  uint64_t step = HiddenStep(shape);
  if (hidden_size == 0 || hidden_size % step != 0) {
    return InvalidArgument(
        fmt::format("a hidden size of {} is not a multiple of {}", hidden_size, step));
  }
  LlamaConfig scaled = shape;
  scaled.hidden_size = hidden_size;
  scaled.num_attention_heads = hidden_size / shape.head_dim;
  if (!IsGrouped(shape)) scaled.num_key_value_heads = scaled.num_attention_heads;
  scaled.num_hidden_layers =
      std::max<uint64_t>(1, InProportion(shape.num_hidden_layers, hidden_size, shape.hidden_size));
  scaled.intermediate_size =
      std::max(kMultiple, InProportion(shape.intermediate_size, hidden_size, shape.hidden_size) /
                              kMultiple * kMultiple);
  return scaled;
}

Result<LlamaConfig> LargestThatFits(const RunConfig& config, uint64_t nvme_capacity_bytes) {
  bool on_nvme = config.zero.offload_optimizer.device == OffloadDevice::kNvme ||
                 config.zero.offload_param.device == OffloadDevice::kNvme;
  if (on_nvme && nvme_capacity_bytes == kUnknownCapacity) {
    return InvalidArgument(
        "the largest model depends on the drives' space, which a configuration does not tell: "
        "describe the machine with flags, as in --model llama-7b --nvme 4x3.84TB");
  }
  const LlamaConfig& shape = config.model.llama;
  uint64_t step = HiddenStep(shape);
  uint64_t fits = 0, too_wide = kWidest / step + 1;
  for (uint64_t width = 1; width < too_wide; width *= 2) {
    STRATA_ASSIGN_OR_RETURN(bool does, FitsAt(config, width * step, nvme_capacity_bytes));
    (does ? fits : too_wide) = width;
  }
  if (fits == 0) return ResourceExhausted("not even the narrowest model of this family fits");
  while (too_wide - fits > 1) {
    uint64_t middle = fits + (too_wide - fits) / 2;
    STRATA_ASSIGN_OR_RETURN(bool does, FitsAt(config, middle * step, nvme_capacity_bytes));
    (does ? fits : too_wide) = middle;
  }
  return ScaledTo(shape, fits * step);
}

uint64_t InferenceMemory::SequencesIn(uint64_t bytes, uint64_t seq_len) const {
  if (bytes < weights_bytes || kv_bytes_per_token * seq_len == 0) return 0;
  return (bytes - weights_bytes) / (kv_bytes_per_token * seq_len);
}

InferenceMemory InferenceMemoryOf(const LlamaConfig& model, Precision precision, uint64_t batch,
                                  uint64_t seq_len) {
  uint64_t element = SizeOf(DTypeOf(precision));
  InferenceMemory memory;
  memory.weights_bytes = NumParameters(model) * element;
  memory.kv_bytes_per_token =
      2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * element;
  memory.kv_bytes = memory.kv_bytes_per_token * batch * seq_len;
  return memory;
}

}  // namespace strata::engine
