#include "engine/cluster/gpu_presets.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

// Practical rates of the host link: 12 of PCIe 3.0's 15.75 GB/s, 24 of 4.0's 31.5, 50 of 5.0's 63.
constexpr double kPcie3 = 1.2e10;
constexpr double kPcie4 = 2.4e10;
constexpr double kPcie5 = 5.0e10;

// Of the links between GPUs two thirds of the data sheet's rate per direction. Without NVLink GPUs
// meet in host memory: half of the host link.
constexpr double kLinkShare = 2.0 / 3;

// Of the data sheet's dense matrix rate: V100 as ZeRO-Infinity's model has it (70 TFLOP/s), A100
// half, H100 and H200 four tenths (400 of 989), RTX 4090 the 142 TFLOP/s that LoHan measured over
// whole steps (arXiv 2403.06504) of the 165 that it does with sums in fp32.
constexpr std::array<GpuPreset, 7> kPresets = {{
    {"v100-32", 32_GiB, 7.0e13, 9.0e11, kPcie3, 1.5e11 * kLinkShare,
     "NVIDIA V100 SXM2 data sheet: 125 TFLOP/s fp16, 900 GB/s, NVLink 2 150 GB/s per direction"},
    {"a100-40", 40_GiB, 1.56e14, 1.555e12, kPcie4, 3.0e11 * kLinkShare,
     "NVIDIA A100 SXM4 data sheet: 312 TFLOP/s bf16, 1555 GB/s, NVLink 3 300 GB/s per direction"},
    {"a100-80", 80_GiB, 1.56e14, 2.039e12, kPcie4, 3.0e11 * kLinkShare,
     "NVIDIA A100 SXM4 data sheet: 312 TFLOP/s bf16, 2039 GB/s, NVLink 3 300 GB/s per direction"},
    {"h100-80", 79_GiB, 4.0e14, 3.35e12, kPcie5, 4.5e11 * kLinkShare,
     "NVIDIA H100 SXM5 data sheet: 989 TFLOP/s bf16, 3350 GB/s, NVLink 4 450 GB/s per direction"},
    {"h200", 140_GiB, 4.0e14, 4.8e12, kPcie5, 4.5e11 * kLinkShare,
     "NVIDIA H200 SXM5 data sheet: 989 TFLOP/s bf16, 4800 GB/s, NVLink 4 450 GB/s per direction"},
    {"rtx4090", 24_GiB, 1.42e14, 1.008e12, kPcie4, kPcie4 / 2,
     "NVIDIA RTX 4090 data sheet: 165 TFLOP/s bf16 with fp32 sums, 1008 GB/s, no NVLink"},
    {"rtx-a5000", 24_GiB, 5.5e13, 7.68e11, kPcie4, kPcie4 / 2,
     "NVIDIA RTX A5000 data sheet: 111 TFLOP/s bf16, of which half; 768 GB/s, one pair by NVLink"},
}};

}  // namespace

std::span<const GpuPreset> GpuPresets() { return kPresets; }

Result<GpuPreset> FindGpuPreset(std::string_view name) {
  std::string names;
  for (const GpuPreset& preset : kPresets) {
    if (preset.name == name) return preset;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", preset.name);
  }
  return NotFound(fmt::format("no GPU preset is called '{}'; there are {}", name, names));
}

}  // namespace strata::engine
