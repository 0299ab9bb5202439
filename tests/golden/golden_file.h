// Reads what the generators in this folder have written.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "aio/base/status.h"

namespace strata::golden {

struct LlamaTensor {
  std::vector<uint64_t> shape;
  std::vector<float> weight;
  std::vector<float> gradient;
};

// One file of make_llama.py.
struct LlamaFile {
  std::string config_json;
  uint64_t batch = 0;
  uint64_t seq_len = 0;
  double loss = 0;              // mean over batch * seq_len tokens
  std::vector<int32_t> tokens;  // [batch, seq_len + 1]
  std::map<std::string, LlamaTensor> tensors;
};

Result<LlamaFile> ReadLlamaFile(const std::string& path);

}  // namespace strata::golden
