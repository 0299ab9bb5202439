// The largest model of a family that a run's budgets hold, and what inference with one takes.
#pragma once

#include <cstdint>

#include "aio/base/status.h"
#include "engine/config/run_config.h"

namespace strata::engine {

// `shape` grown or shrunk to `hidden_size`: layers and MLP width in proportion to it, head size
// and, where they are grouped, the number of key-value heads as they are. kInvalidArgument when
// `hidden_size` is not a multiple of HiddenStep().
Result<LlamaConfig> ScaledTo(const LlamaConfig& shape, uint64_t hidden_size);
// The widths that a family has are multiples of this.
uint64_t HiddenStep(const LlamaConfig& shape);

// The widest ScaledTo() of the run's model that fits, up to a width of 128 Ki. kResourceExhausted
// when not even the narrowest does; kInvalidArgument when state is on drives of unknown capacity.
Result<LlamaConfig> LargestThatFits(const RunConfig& config, uint64_t nvme_capacity_bytes);

// Memory for generating with a model: weights, and keys and values of every position so far.
struct InferenceMemory {
  uint64_t weights_bytes = 0;
  uint64_t kv_bytes_per_token = 0;
  uint64_t kv_bytes = 0;  // of the batch at its full length
  uint64_t total_bytes() const { return weights_bytes + kv_bytes; }
  // Sequences of `seq_len` beside the weights in so much memory over all GPUs.
  uint64_t SequencesIn(uint64_t bytes, uint64_t seq_len) const;
};
InferenceMemory InferenceMemoryOf(const LlamaConfig& model, Precision precision, uint64_t batch,
                                  uint64_t seq_len);

}  // namespace strata::engine
