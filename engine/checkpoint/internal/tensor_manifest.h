// The manifest of a directory of tensors: what its files are, and what their bytes were.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/checkpoint/tensor_directory.h"

namespace strata::engine {

inline constexpr std::string_view kTensorManifestName = "manifest.json";

std::string ToJson(const TensorManifest& manifest);

// kDataLoss when it is damaged, kUnimplemented when its version is not one of ours; `source` goes
// into messages.
Result<TensorManifest> ParseTensorManifest(std::string_view text, std::string_view source);

}  // namespace strata::engine
