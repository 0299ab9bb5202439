// GPUs by name: what a plan for a machine that one does not have takes for their rates.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "aio/base/status.h"

namespace strata::engine {

struct GpuPreset {
  std::string_view name;  // "a100-80"
  uint64_t memory_bytes = 0;
  // What training gets of the data sheet's dense bf16 (V100: fp16) rate, see gpu_presets.cc.
  double flops_per_s = 0;
  double memory_bytes_per_s = 0;  // of the data sheet; four fifths are planned with
  double host_bytes_per_s = 0;    // to or from host memory, each direction, as practice has it
  double link_bytes_per_s = 0;  // to the other GPUs of the node, each direction, as practice has it
  std::string_view source;
};

std::span<const GpuPreset> GpuPresets();

// kNotFound lists the names.
Result<GpuPreset> FindGpuPreset(std::string_view name);

}  // namespace strata::engine
