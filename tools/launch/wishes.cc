#include "tools/launch/wishes.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "aio/drive.h"
#include "tools/launch/visible_gpus.h"

namespace strata::launch {
namespace {

using Gpus = std::vector<tiering::DriverGpu>;

Result<Gpus> AskDriver() {
  STRATA_ASSIGN_OR_RETURN(const tiering::NvmlFunctions nvml, tiering::LoadNvml());
  STRATA_ASSIGN_OR_RETURN(tiering::GpuDriver driver, tiering::AskGpuDriver(nvml));
  return std::move(driver.gpus);
}

Wish WishFor(const tiering::DriverGpu& gpu) {
  return {.what = "GPU " + gpu.pci_bus_id,
          .numa_node = gpu.numa_node,
          .why_not_told = "sysfs does not tell its NUMA node"};
}

// The number of a slot's GPU among those that are visible to it. Where ranks use some of the slots
// only, they are shown just these.
size_t NumberOf(const NodeSlots& node, const RunNeeds& needs, uint32_t slot) {
  if (!needs.gpu) return slot;
  const bool is_filtered = node.slots.size() < node.num_slots;
  if (!is_filtered) return *needs.gpu;
  return *needs.gpu < node.slots.size() ? node.slots[*needs.gpu] : SIZE_MAX;
}

std::string ExistingPart(std::filesystem::path path) {
  std::error_code error;
  while (path.has_relative_path() && !std::filesystem::exists(path, error))
    path = path.parent_path();
  return path.empty() ? "." : path.string();
}

}  // namespace

std::vector<Wish> GpuWishes(const NodeSlots& node, const RunNeeds& needs, const Result<Gpus>& gpus,
                            const Environment& environment) {
  std::vector<Wish> wishes(node.num_slots);
  if (!gpus.ok() || gpus->empty()) return wishes;
  const bool is_filtered = node.slots.size() < node.num_slots;
  const char* visible = is_filtered ? nullptr : environment("CUDA_VISIBLE_DEVICES");
  const Result<Gpus> shown = VisibleGpus(*gpus, visible, environment("CUDA_DEVICE_ORDER"));
  for (uint32_t slot = 0; slot < node.num_slots; ++slot) {
    if (!shown.ok()) {
      wishes[slot].why_not_told = "GPU not known: " + shown.status().message();
      continue;
    }
    size_t number = NumberOf(node, needs, slot);
    // Who shows each rank its own.
    if (visible != nullptr && shown->size() == 1 && !needs.gpu) number = 0;
    if (number < shown->size()) wishes[slot] = WishFor((*shown)[number]);
  }
  return wishes;
}

std::vector<NearDrive> NearDrivesBelow(const std::vector<std::string>& paths) {
  std::vector<NearDrive> near;
  for (const std::string& path : paths) {
    const Result<aio::BlockChain> chain = aio::FindBlockChain(ExistingPart(path));
    if (!chain.ok()) continue;
    for (const aio::Drive& drive : chain->drives) {
      const bool is_known = std::any_of(
          near.begin(), near.end(), [&](const NearDrive& one) { return one.name == drive.name; });
      if (drive.numa_node && !is_known)
        near.push_back({drive.name, static_cast<uint32_t>(*drive.numa_node)});
    }
  }
  return near;
}

Wishes WishesHere(const NodeSlots& node, const RunNeeds& needs, const Environment& environment) {
  const Result<Gpus> gpus =
      needs.on_gpus ? AskDriver() : Result<Gpus>(Unavailable("this run uses no GPUs"));
  return {.slots = GpuWishes(node, needs, gpus, environment),
          .drives = NearDrivesBelow(needs.nvme_paths),
          .threads = needs.threads};
}

}  // namespace strata::launch
