#include "tools/gpu_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::tools {
namespace {

using aio::Finding;
using aio::FindingSeverity;
using aio::Preflight;
using tiering::CopyRates;
using tiering::CudaGpu;
using tiering::DriverGpu;

constexpr uint64_t kCopyBytes = 256_MiB;
// A good copy of pinned memory gets this much of what the lanes can carry.
constexpr double kGoodShareOfLink = 0.7;

// Bytes per second of one PCIe lane, with the link's own coding taken off.
std::optional<double> LaneRate(uint32_t generation) {
  constexpr std::array kRates = {0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
  if (generation == 0 || generation > kRates.size()) return std::nullopt;
  return kRates[generation - 1];
}

std::string Gigabytes(double bytes_per_s) { return fmt::format("{:.1f} GB/s", bytes_per_s / 1e9); }

std::string CudaVersion(uint32_t version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Result<CopyRates> MeasureCopies(const CudaGpu& gpu) {
  STRATA_ASSIGN_OR_RETURN(const auto device, tiering::CreateCudaDevice(gpu.index, kCopyBytes));
  STRATA_ASSIGN_OR_RETURN(const tiering::Arena host, tiering::Arena::Create("host", kCopyBytes));
  STRATA_ASSIGN_OR_RETURN(const auto registration, device->RegisterHostMemory(host.bytes()));
  return tiering::MeasureCopyRates(*device, host.bytes());
}

Finding DriverFinding(const Result<tiering::GpuDriver>& driver) {
  Finding finding{.key = "driver", .what = "NVIDIA driver"};
  if (driver.ok()) {
    finding.value = fmt::format("{}, for CUDA {} and older", driver->version,
                                CudaVersion(driver->cuda_version));
    return finding;
  }
  finding.value = "none";
  finding.severity = FindingSeverity::kNote;
  finding.explanation = driver.status().message() +
                        ". Training runs on the cpu device. If the machine has an NVIDIA GPU, "
                        "install its driver; in a container, start that with the GPUs, as with "
                        "docker run --gpus all.";
  return finding;
}

Finding CudaFinding(const GpuFacts& facts) {
  Finding finding{.key = "cuda", .what = "CUDA"};
  if (facts.gpus.ok()) {
    finding.value = fmt::format("{} GPU{} for this process", facts.gpus->size(),
                                facts.gpus->size() == 1 ? "" : "s");
    return finding;
  }
  const bool has_gpu = facts.driver.ok() && !facts.driver->gpus.empty();
  finding.value = "no GPU for this process";
  finding.severity = has_gpu ? FindingSeverity::kProblem : FindingSeverity::kNote;
  finding.explanation = facts.gpus.status().message() + ". Training runs on the cpu device.";
  return finding;
}

Finding MemoryFinding(const DriverGpu& gpu) {
  Finding finding{.key = "memory",
                  .what = "memory",
                  .value = fmt::format("{} free of {}", FormatBytes(gpu.free_bytes),
                                       FormatBytes(gpu.memory_bytes))};
  constexpr double kMostlyFree = 0.9;
  if (static_cast<double>(gpu.free_bytes) >= kMostlyFree * static_cast<double>(gpu.memory_bytes))
    return finding;
  finding.severity = FindingSeverity::kNote;
  finding.explanation =
      "Something else uses the GPU: [memory] device can be what is free less 512 MiB at most.";
  finding.command = fmt::format("nvidia-smi -i {}", gpu.index);
  return finding;
}

Finding CapabilityFinding(const DriverGpu& gpu) {
  Finding finding{
      .key = "compute_capability",
      .what = "compute capability",
      .value = fmt::format("{}.{}", gpu.compute_capability / 10, gpu.compute_capability % 10)};
  constexpr uint32_t kLeast = 80;
  if (gpu.compute_capability >= kLeast) return finding;
  finding.severity = FindingSeverity::kProblem;
  finding.explanation =
      "Strata's kernels need 8.0 (Ampere) or newer: this GPU cannot be trained on.";
  return finding;
}

// An idle GPU lowers the generation, not the width.
Finding LinkFinding(const DriverGpu& gpu) {
  Finding finding{.key = "pcie", .what = "PCIe link"};
  if (!gpu.max_link_generation || !gpu.max_link_width) {
    finding.value = "unknown";
    return finding;
  }
  finding.value = fmt::format("generation {}, {} lanes", *gpu.max_link_generation,
                              gpu.link_width.value_or(*gpu.max_link_width));
  if (gpu.link_generation && *gpu.link_generation < *gpu.max_link_generation)
    finding.value += fmt::format(" (generation {} while idle)", *gpu.link_generation);
  if (!gpu.link_width || *gpu.link_width >= *gpu.max_link_width) return finding;
  finding.value += fmt::format(" of {}", *gpu.max_link_width);
  finding.severity = FindingSeverity::kProblem;
  finding.explanation = fmt::format(
      "The GPU could use {} lanes: what is offloaded moves at {}/{} of the speed. Look at the "
      "slot, "
      "at what shares its lanes, at the riser, and at the firmware's bifurcation.",
      *gpu.max_link_width, *gpu.link_width, *gpu.max_link_width);
  finding.command = fmt::format("lspci -vv -s {} | grep -E 'LnkCap:|LnkSta:'", gpu.pci_bus_id);
  return finding;
}

Finding CopyFinding(const DriverGpu& gpu, const CopyRates& rates) {
  Finding finding{
      .key = "copies",
      .what = "pinned copies",
      .value = fmt::format("{} in, {} out, {} both at once", Gigabytes(rates.in_bytes_per_s),
                           Gigabytes(rates.out_bytes_per_s), Gigabytes(rates.both_bytes_per_s))};
  const std::optional<double> lane = LaneRate(gpu.max_link_generation.value_or(0));
  if (!lane || !gpu.link_width) return finding;
  const double link = *lane * *gpu.link_width;
  const double slower = std::min(rates.in_bytes_per_s, rates.out_bytes_per_s);
  if (slower >= kGoodShareOfLink * link) return finding;
  finding.severity = FindingSeverity::kNote;
  finding.explanation = fmt::format(
      "The link can carry {} in each direction. Host memory of another NUMA node, a switch that "
      "GPUs "
      "share, an IOMMU or a virtual machine can be in between.",
      Gigabytes(link));
  finding.command = "nvidia-smi topo -m";
  return finding;
}

Finding NumaFinding(const DriverGpu& gpu) {
  return {.key = "numa",
          .what = "NUMA node",
          .value = gpu.numa_node ? std::to_string(*gpu.numa_node) : "not told by sysfs"};
}

Finding NvlinkFinding(const DriverGpu& gpu) {
  return {.key = "nvlink",
          .what = "NVLink",
          .value = gpu.num_nvlinks == 0 ? "none" : fmt::format("{} links up", gpu.num_nvlinks)};
}

Finding PersistenceFinding(const DriverGpu& gpu) {
  Finding finding{
      .key = "persistence", .what = "persistence mode", .value = *gpu.is_persistent ? "on" : "off"};
  if (*gpu.is_persistent) return finding;
  finding.severity = FindingSeverity::kNote;
  finding.explanation =
      "The driver starts the GPU anew for each program that is the only one: seconds at the start "
      "of "
      "a run.";
  finding.command = fmt::format("sudo nvidia-smi -i {} -pm 1", gpu.index);
  return finding;
}

Finding EccFinding(const DriverGpu& gpu) {
  Finding finding{.key = "ecc", .what = "ECC memory", .value = *gpu.has_ecc ? "on" : "off"};
  if (*gpu.has_ecc) return finding;
  finding.severity = FindingSeverity::kNote;
  finding.explanation = "Bits that flip in the GPU's memory go unnoticed.";
  finding.command = fmt::format("sudo nvidia-smi -i {} -e 1", gpu.index);
  return finding;
}

Preflight FindingsOf(const DriverGpu& gpu, const GpuFacts& facts) {
  Preflight preflight{fmt::format("GPU {}: {} at {}", gpu.index, gpu.name, gpu.pci_bus_id), {}};
  if (facts.gpus.ok()) {
    const auto shown = std::ranges::find(*facts.gpus, gpu.pci_bus_id, &CudaGpu::pci_bus_id);
    preflight.findings.push_back({.key = "device",
                                  .what = "[train] device",
                                  .value = shown == facts.gpus->end()
                                               ? "hidden from this process (CUDA_VISIBLE_DEVICES)"
                                               : fmt::format("cuda:{}", shown->index)});
  }
  preflight.findings.push_back(CapabilityFinding(gpu));
  preflight.findings.push_back(MemoryFinding(gpu));
  preflight.findings.push_back(LinkFinding(gpu));
  const auto rates = facts.copies.find(gpu.pci_bus_id);
  if (rates != facts.copies.end()) preflight.findings.push_back(CopyFinding(gpu, rates->second));
  preflight.findings.push_back(NumaFinding(gpu));
  preflight.findings.push_back(NvlinkFinding(gpu));
  if (gpu.is_persistent) preflight.findings.push_back(PersistenceFinding(gpu));
  if (gpu.has_ecc) preflight.findings.push_back(EccFinding(gpu));
  return preflight;
}

Finding LibraryFinding(const LibraryFacts& facts, size_t num_gpus) {
  const tiering::CudaLibrary& library = *facts.library;
  std::string key(library.name);
  std::ranges::transform(key, key.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  Finding finding{.key = key, .what = std::string(library.name)};
  const auto good = std::ranges::find(facts.copies, "", &tiering::LibraryCopy::problem);
  if (good != facts.copies.end()) {
    finding.value = fmt::format("{} in {} ({})", good->version, good->path, good->origin);
    return finding;
  }
  finding.value = "not found";
  for (const tiering::LibraryCopy& copy : facts.copies) {
    if (finding.value == "not found") finding.value = "none that will do";
    finding.explanation += fmt::format("{} {}. ", copy.path, copy.problem);
  }
  // One GPU alone has no collectives.
  const bool is_needed = &library == &tiering::kNccl ? num_gpus > 1 : num_gpus > 0;
  finding.severity = is_needed ? FindingSeverity::kProblem : FindingSeverity::kNote;
  finding.explanation +=
      fmt::format("It is needed for {}: {}; or name its directory in STRATA_CUDA_LIBRARIES.",
                  library.used_for, library.advice);
  return finding;
}

}  // namespace

GpuFacts LookAtGpus() {
  const Result<tiering::NvmlFunctions> nvml = tiering::LoadNvml();
  GpuFacts facts{.driver = nvml.ok() ? tiering::AskGpuDriver(*nvml)
                                     : Result<tiering::GpuDriver>(nvml.status()),
                 .gpus = tiering::FindCudaGpus()};
  if (!facts.gpus.ok()) return facts;
  for (const CudaGpu& gpu : *facts.gpus) {
    const Result<CopyRates> rates = MeasureCopies(gpu);
    if (rates.ok()) facts.copies.emplace(gpu.pci_bus_id, *rates);
  }
  return facts;
}

std::vector<Preflight> GpuFindings(const GpuFacts& facts) {
  std::vector<Preflight> preflights = {{"GPUs", {DriverFinding(facts.driver)}}};
  if (!facts.driver.ok()) return preflights;
  preflights[0].findings.push_back(CudaFinding(facts));
  for (const DriverGpu& gpu : facts.driver->gpus) preflights.push_back(FindingsOf(gpu, facts));
  return preflights;
}

std::vector<LibraryFacts> LookAtCudaLibraries() {
  std::vector<LibraryFacts> facts;
  for (const tiering::CudaLibrary* library : tiering::CudaLibraries())
    facts.push_back({library, tiering::FindCudaLibrary(*library)});
  return facts;
}

Preflight LibraryFindings(std::span<const LibraryFacts> libraries, size_t num_gpus) {
  Preflight preflight{"libraries", {}};
  for (const LibraryFacts& facts : libraries)
    preflight.findings.push_back(LibraryFinding(facts, num_gpus));
  return preflight;
}

}  // namespace strata::tools
