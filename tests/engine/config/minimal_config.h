// A config with nothing but what is required, for tests to build on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/config/run_config.h"

namespace strata::engine {

inline constexpr std::string_view kMinimalConfig = R"([model]
vocab_size = 259
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4

[data]
path = "text"
seq_len = 128

[train]
run_dir = "runs/a"
steps = 10
train_batch_size = 4

[memory]
device = "64MiB"
host = "128MiB"
)";

inline Result<RunConfig> ParseMinimal(const std::vector<std::string>& overrides = {}) {
  return ParseRunConfig(kMinimalConfig, "/etc/strata/run.toml", overrides);
}

inline RunConfig MinimalWith(const std::vector<std::string>& overrides) {
  Result<RunConfig> config = ParseMinimal(overrides);
  STRATA_CHECK(config.ok());
  return std::move(config).value();
}

// The message of a minimal config with these overrides; empty if nothing is wrong.
inline std::string ErrorOf(const std::vector<std::string>& overrides) {
  return ParseMinimal(overrides).status().message();
}

}  // namespace strata::engine
