// Writes a Hugging Face directory: config.json, safetensors (sharded with an index when large).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"
#include "engine/model/units.h"

namespace strata::engine {

struct ExportOptions {
  std::string directory;       // may exist if empty; written beside and renamed when whole
  DType dtype = DType::kBf16;  // of the tensors in the files
  uint64_t max_shard_bytes = 5'000'000'000;
  // Host memory to use for copying; at least 1 MiB.
  uint64_t buffer_bytes = 16 << 20;
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_progress = {};
};

// Hands out elements [first, first + out.size() / SizeOf(dtype)) of a tensor, in options.dtype.
using TensorReader =
    std::function<Status(const TensorSpec& tensor, uint64_t first, std::span<std::byte> out)>;

// Loads in transformers with from_pretrained. On failure nothing is left behind.
Status ExportHuggingFace(const LlamaConfig& config, const std::vector<UnitSpec>& units,
                         const TensorReader& read, const ExportOptions& options);

}  // namespace strata::engine
