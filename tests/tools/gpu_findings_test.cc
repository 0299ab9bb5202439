#include "tools/gpu_findings.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace strata::tools {
namespace {

using aio::Finding;
using aio::FindingSeverity;
using aio::Preflight;
using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;
using tiering::CudaGpu;
using tiering::DriverGpu;
using tiering::GpuDriver;

constexpr uint64_t kGib = 1ULL << 30;

DriverGpu GoodGpu() {
  return {.index = 0,
          .name = "NVIDIA H100",
          .pci_bus_id = "0000:1b:00.0",
          .numa_node = 1,
          .memory_bytes = 80 * kGib,
          .free_bytes = 79 * kGib,
          .compute_capability = 90,
          .link_generation = 5,
          .max_link_generation = 5,
          .link_width = 16,
          .max_link_width = 16,
          .num_nvlinks = 18,
          .is_persistent = true,
          .has_ecc = true};
}

GpuFacts FactsOf(const DriverGpu& gpu) {
  const CudaGpu shown{.index = 0,
                      .name = gpu.name,
                      .memory_bytes = gpu.memory_bytes,
                      .compute_capability = gpu.compute_capability,
                      .pci_bus_id = gpu.pci_bus_id,
                      .numa_node = gpu.numa_node};
  return {.driver = GpuDriver{.version = "580.82", .cuda_version = 13000, .gpus = {gpu}},
          .gpus = std::vector<CudaGpu>{shown},
          .copies = {{gpu.pci_bus_id, {5.2e10, 5.1e10, 9e10}}}};
}

Finding Find(const std::vector<Preflight>& preflights, std::string_view key) {
  for (const Preflight& preflight : preflights) {
    const auto found = std::ranges::find(preflight.findings, key, &Finding::key);
    if (found != preflight.findings.end()) return *found;
  }
  ADD_FAILURE() << "no finding " << key;
  return {};
}

TEST(GpuFindingsTest, OfAGoodGpuEverythingIsFineAndSaysWhatItIs) {
  const std::vector<Preflight> preflights = GpuFindings(FactsOf(GoodGpu()));
  ASSERT_THAT(preflights, SizeIs(2));
  EXPECT_EQ(preflights[1].subject, "GPU 0: NVIDIA H100 at 0000:1b:00.0");
  for (const Preflight& preflight : preflights)
    for (const Finding& finding : preflight.findings)
      EXPECT_EQ(finding.severity, FindingSeverity::kFine) << finding.what << finding.value;
  EXPECT_EQ(Find(preflights, "driver").value, "580.82, for CUDA 13.0 and older");
  EXPECT_EQ(Find(preflights, "device").value, "cuda:0");
  EXPECT_EQ(Find(preflights, "compute_capability").value, "9.0");
  EXPECT_EQ(Find(preflights, "memory").value, "79 GiB free of 80 GiB");
  EXPECT_EQ(Find(preflights, "pcie").value, "generation 5, 16 lanes");
  EXPECT_EQ(Find(preflights, "copies").value,
            "52.0 GB/s in, 51.0 GB/s out, 90.0 GB/s both at once");
  EXPECT_EQ(Find(preflights, "numa").value, "1");
  EXPECT_EQ(Find(preflights, "nvlink").value, "18 links up");
}

TEST(GpuFindingsTest, WithoutADriverTrainingRunsOnTheCpuAndThatIsNoProblem) {
  const std::vector<Preflight> preflights = GpuFindings(
      {.driver = Unavailable("no libnvidia-ml.so.1"), .gpus = Unavailable("no driver")});
  ASSERT_THAT(preflights, SizeIs(1));
  EXPECT_FALSE(preflights[0].HasProblem());
  EXPECT_THAT(Find(preflights, "driver").explanation,
              AllOf(HasSubstr("no libnvidia-ml.so.1"), HasSubstr("runs on the cpu device"),
                    HasSubstr("--gpus all")));
}

TEST(GpuFindingsTest, AGpuThatCudaCannotUseIsAProblem) {
  GpuFacts facts = FactsOf(GoodGpu());
  facts.gpus =
      Unavailable("the NVIDIA driver is for CUDA 12.4 and this strata was built with 13.0");
  const Finding finding = Find(GpuFindings(facts), "cuda");
  EXPECT_EQ(finding.severity, FindingSeverity::kProblem);
  EXPECT_THAT(finding.explanation, HasSubstr("CUDA 12.4"));
}

TEST(GpuFindingsTest, AGpuThatIsHiddenIsNotOneToTrainOn) {
  GpuFacts facts = FactsOf(GoodGpu());
  facts.gpus->front().pci_bus_id = "0000:2b:00.0";
  EXPECT_THAT(Find(GpuFindings(facts), "device").value, HasSubstr("hidden from this process"));
}

TEST(GpuFindingsTest, ALinkThatLacksLanesIsAProblemAnIdleOneIsNot) {
  DriverGpu gpu = GoodGpu();
  gpu.link_generation = 1;
  Finding finding = Find(GpuFindings(FactsOf(gpu)), "pcie");
  EXPECT_EQ(finding.severity, FindingSeverity::kFine);
  EXPECT_EQ(finding.value, "generation 5, 16 lanes (generation 1 while idle)");
  gpu.link_width = 4;
  finding = Find(GpuFindings(FactsOf(gpu)), "pcie");
  EXPECT_EQ(finding.severity, FindingSeverity::kProblem);
  EXPECT_THAT(finding.value, HasSubstr("4 lanes"));
  EXPECT_THAT(finding.value, HasSubstr("of 16"));
  EXPECT_THAT(finding.command, HasSubstr("0000:1b:00.0"));
}

TEST(GpuFindingsTest, CopiesFarBelowTheLinkAreNotedWithWhatItCouldCarry) {
  GpuFacts facts = FactsOf(GoodGpu());
  facts.copies.begin()->second.out_bytes_per_s = 2e10;
  const Finding finding = Find(GpuFindings(facts), "copies");
  EXPECT_EQ(finding.severity, FindingSeverity::kNote);
  // PCIe 5.0 x16: 32 GT/s, 128b/130b, 16 lanes.
  EXPECT_THAT(finding.explanation, HasSubstr("63.0 GB/s"));
}

TEST(GpuFindingsTest, MemoryInUseAnOldGpuAndSwitchesThatAreOffAreTold) {
  DriverGpu gpu = GoodGpu();
  gpu.free_bytes = 60 * kGib;
  gpu.compute_capability = 75;
  gpu.is_persistent = false;
  gpu.has_ecc = false;
  const std::vector<Preflight> preflights = GpuFindings(FactsOf(gpu));
  EXPECT_EQ(Find(preflights, "memory").severity, FindingSeverity::kNote);
  EXPECT_EQ(Find(preflights, "compute_capability").severity, FindingSeverity::kProblem);
  EXPECT_EQ(Find(preflights, "persistence").command, "sudo nvidia-smi -i 0 -pm 1");
  EXPECT_EQ(Find(preflights, "ecc").severity, FindingSeverity::kNote);
}

TEST(LibraryFindingsTest, TheCopyThatIsTakenIsNamedWithItsPlace) {
  const std::vector<LibraryFacts> facts = {
      {&tiering::kCublasLt,
       {{"/old/libcublasLt.so.12", "CUDA_HOME", "11.8.0", "is too old"},
        {"/new/libcublasLt.so.13", "the loader's places", "13.1.0", ""}}}};
  const Finding finding = Find({LibraryFindings(facts, 1)}, "cublaslt");
  EXPECT_EQ(finding.severity, FindingSeverity::kFine);
  EXPECT_EQ(finding.value, "13.1.0 in /new/libcublasLt.so.13 (the loader's places)");
}

TEST(LibraryFindingsTest, AMissingLibraryIsAProblemOnlyForGpusThatNeedIt) {
  const std::vector<LibraryFacts> facts = {
      {&tiering::kCublasLt, {{"/old/libcublasLt.so.12", "CUDA_HOME", "11.8.0", "is too old"}}},
      {&tiering::kNccl, {}}};
  const auto severity = [&](std::string_view key, size_t num_gpus) {
    return Find({LibraryFindings(facts, num_gpus)}, key).severity;
  };
  EXPECT_EQ(severity("cublaslt", 0), FindingSeverity::kNote);
  EXPECT_EQ(severity("cublaslt", 1), FindingSeverity::kProblem);
  EXPECT_EQ(severity("nccl", 1), FindingSeverity::kNote);
  EXPECT_EQ(severity("nccl", 2), FindingSeverity::kProblem);
  const Finding finding = Find({LibraryFindings(facts, 1)}, "cublaslt");
  EXPECT_THAT(finding.explanation,
              AllOf(HasSubstr("/old/libcublasLt.so.12 is too old"), HasSubstr("install it"),
                    HasSubstr("STRATA_CUDA_LIBRARIES")));
}

}  // namespace
}  // namespace strata::tools
