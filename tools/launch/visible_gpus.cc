#include "tools/launch/visible_gpus.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "tools/launch/layout.h"
#include "tools/launch/split.h"

namespace strata::launch {
namespace {

using tiering::DriverGpu;
using Gpus = std::vector<DriverGpu>;

std::string_view Trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

bool AreOfOneKind(const Gpus& gpus) {
  return std::all_of(gpus.begin(), gpus.end(), [&](const DriverGpu& gpu) {
    return gpu.name == gpus[0].name && gpu.memory_bytes == gpus[0].memory_bytes;
  });
}

// By the beginning of its name, if that is one GPU's alone.
std::optional<DriverGpu> GpuNamed(const Gpus& gpus, std::string_view name) {
  const auto is_meant = [&](const DriverGpu& gpu) { return gpu.uuid.starts_with(name); };
  if (std::count_if(gpus.begin(), gpus.end(), is_meant) != 1) return std::nullopt;
  return *std::find_if(gpus.begin(), gpus.end(), is_meant);
}

Status OnlyCudaKnows(const char* why) { return Unimplemented(why); }

}  // namespace

Result<Gpus> VisibleGpus(Gpus gpus, const char* visible, const char* order) {
  std::sort(gpus.begin(), gpus.end(),
            [](const DriverGpu& a, const DriverGpu& b) { return a.pci_bus_id < b.pci_bus_id; });
  // CUDA's own order begins with the fastest; that of equal ones is the bus's.
  const bool is_ordered =
      AreOfOneKind(gpus) || (order != nullptr && std::string_view(order) == "PCI_BUS_ID");
  const Status unordered = OnlyCudaKnows(
      "GPUs are of several kinds; with CUDA_DEVICE_ORDER=PCI_BUS_ID it is known which is whose");
  if (visible == nullptr) return is_ordered ? Result<Gpus>(std::move(gpus)) : unordered;
  Gpus shown;
  for (std::string_view entry : Split(visible, ',')) {
    entry = Trimmed(entry);
    if (entry.starts_with("MIG-")) return OnlyCudaKnows("it has a part of a GPU (MIG)");
    std::optional<DriverGpu> gpu;
    if (entry.starts_with("GPU-")) {
      gpu = GpuNamed(gpus, entry);
    } else if (const Result<uint32_t> number = ParseNumber(entry);
               number.ok() && *number < gpus.size()) {
      if (!is_ordered) return unordered;
      gpu = gpus[*number];
    }
    if (!gpu) break;
    shown.push_back(*std::move(gpu));
  }
  return shown;
}

}  // namespace strata::launch
