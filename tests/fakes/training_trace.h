// The trace of a training step as the engine would write it, without an engine: for tests of plans.
//
// Units are an embedding, an attention and an MLP per layer, and a head. All micro-batches go
// through a unit before the next unit; every unit's optimizer runs as soon as its gradient is there
// (or, with clipping, once the norm over all gradients is known).
#pragma once

#include <cstdint>

#include "prefetch/trace.h"

namespace strata::fakes {

struct TrainingTraceOptions {
  uint32_t num_layers = 4;
  uint32_t num_micro_batches = 2;
  uint64_t embedding_elements = 4 << 20;  // the head has as many
  uint64_t attention_elements = 4 << 20;
  uint64_t mlp_elements = 8 << 20;
  uint64_t chunk_elements = 4 << 20;  // most elements that one optimizer op updates
  uint64_t hidden_bytes = 1 << 20;    // a unit's input, for one micro-batch
  uint64_t num_tokens = 1024;         // in a micro-batch
  uint64_t device_workspace_bytes = 4 << 20;
  uint64_t host_workspace_bytes = 1 << 20;
  prefetch::Tier weights_home = prefetch::Tier::kNvme;
  prefetch::Tier optimizer_home = prefetch::Tier::kNvme;
  bool clip = false;
};

prefetch::Trace TrainingTrace(const TrainingTraceOptions& options);

// Elements of all units together.
uint64_t NumParameters(const TrainingTraceOptions& options);

}  // namespace strata::fakes
