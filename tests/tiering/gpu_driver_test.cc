#include "tiering/gpu_driver.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/or_die.h"
#include "tests/require.h"
#include "tests/tiering/temp_dir.h"

namespace strata::tiering {
namespace {

using testing::HasSubstr;

constexpr int kLost = 15;

struct FakeDriver {
  int init_error = 0;
  int memory_error = 0;
  int starts = 0;
  int ends = 0;
} fake;

int Index(NvmlFunctions::Device device) {
  return static_cast<int>(reinterpret_cast<intptr_t>(device)) - 1;
}

int Say(char* to, unsigned size, const std::string& text) {
  std::snprintf(to, size, "%s", text.c_str());
  return 0;
}

// Two GPUs; the second does not tell of its links.
NvmlFunctions FakeNvml() {
  NvmlFunctions nvml;
  nvml.init = [] { return ++fake.starts, fake.init_error; };
  nvml.shutdown = [] { return ++fake.ends, 0; };
  nvml.error_string = [](int error) { return error == kLost ? "GPU is lost" : "Unknown Error"; };
  nvml.driver_version = [](char* to, unsigned size) { return Say(to, size, "580.82.07"); };
  nvml.cuda_version = [](int* version) { return *version = 13000, 0; };
  nvml.count = [](unsigned* count) { return *count = 2, 0; };
  nvml.device = [](unsigned index, NvmlFunctions::Device* device) {
    *device = reinterpret_cast<void*>(static_cast<intptr_t>(index) + 1);
    return 0;
  };
  nvml.name = [](NvmlFunctions::Device, char* to, unsigned size) {
    return Say(to, size, "NVIDIA H100 80GB HBM3");
  };
  nvml.uuid = [](NvmlFunctions::Device device, char* to, unsigned size) {
    return Index(device) == 0 ? Say(to, size, "GPU-0a1b") : kLost;
  };
  nvml.pci_info = [](NvmlFunctions::Device device, NvmlPciInfo* info) {
    return Say(info->bus_id, sizeof info->bus_id,
               Index(device) == 0 ? "00000000:1B:00.0" : "00000001:AF:00.0");
  };
  nvml.memory = [](NvmlFunctions::Device, NvmlMemory* memory) {
    *memory = {.total = 80'000, .free = 70'000, .used = 10'000};
    return fake.memory_error;
  };
  nvml.compute_capability = [](NvmlFunctions::Device, int* major, int* minor) {
    return *major = 8, *minor = 9, 0;
  };
  nvml.link_width = [](NvmlFunctions::Device device, unsigned* width) {
    return *width = 8, Index(device) == 0 ? 0 : kLost;
  };
  nvml.max_link_width = [](NvmlFunctions::Device, unsigned* width) { return *width = 16, 0; };
  nvml.nvlink_state = [](NvmlFunctions::Device device, unsigned link, int* state) {
    *state = link % 2 == 0;
    return Index(device) == 0 && link < 12 ? 0 : kLost;
  };
  nvml.persistence = [](NvmlFunctions::Device, int* state) { return *state = 1, 0; };
  return nvml;
}

class GpuDriverTest : public testing::Test {
 protected:
  void SetUp() override { fake = {}; }
};

TEST_F(GpuDriverTest, ItsAnswersAreReadAndWhatItDoesNotSayIsNothing) {
  const GpuDriver driver = OrDie(AskGpuDriver(FakeNvml()));
  EXPECT_EQ(driver.version, "580.82.07");
  EXPECT_EQ(driver.cuda_version, 13000u);
  ASSERT_EQ(driver.gpus.size(), 2u);
  const DriverGpu& first = driver.gpus[0];
  EXPECT_EQ(first.name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(first.uuid, "GPU-0a1b");
  EXPECT_EQ(driver.gpus[1].uuid, "");
  EXPECT_EQ(first.pci_bus_id, "0000:1b:00.0");
  EXPECT_EQ(first.memory_bytes, 80'000u);
  EXPECT_EQ(first.free_bytes, 70'000u);
  EXPECT_EQ(first.compute_capability, 89u);
  EXPECT_EQ(first.link_width, 8u);
  EXPECT_EQ(first.max_link_width, 16u);
  EXPECT_FALSE(first.link_generation.has_value());  // the driver lacks the function
  EXPECT_EQ(first.num_nvlinks, 6u);
  EXPECT_EQ(first.is_persistent, true);
  EXPECT_FALSE(first.has_ecc.has_value());
  EXPECT_EQ(driver.gpus[1].index, 1u);
  EXPECT_EQ(driver.gpus[1].pci_bus_id, "0001:af:00.0");
  EXPECT_FALSE(driver.gpus[1].link_width.has_value());  // the function fails
  EXPECT_EQ(driver.gpus[1].num_nvlinks, 0u);
  EXPECT_EQ(fake.starts, 1);
  EXPECT_EQ(fake.ends, 1);
}

TEST_F(GpuDriverTest, AnErrorNamesTheGpuAndHasTheDriversWordsAndTheLibraryIsLeft) {
  fake.memory_error = kLost;
  const Status status = AskGpuDriver(FakeNvml()).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_EQ(status.message(), "GPU 0: the NVIDIA driver says: GPU is lost");
  EXPECT_EQ(fake.ends, 1);
}

TEST_F(GpuDriverTest, ADriverThatDoesNotStartIsAskedNothing) {
  fake.init_error = kLost;
  EXPECT_THAT(AskGpuDriver(FakeNvml()).status().message(), HasSubstr("starting: "));
  EXPECT_EQ(fake.ends, 0);
}

TEST_F(GpuDriverTest, TheNumaNodeIsThatOfSysfsWhereItTellsOne) {
  TempDir sysfs;
  const std::string device = sysfs.path() + "/bus/pci/devices/0000:1b:00.0";
  std::filesystem::create_directories(device);
  EXPECT_FALSE(NumaNodeOfPciDevice("0000:1b:00.0", sysfs.path()).has_value());
  std::ofstream(device + "/numa_node") << "-1\n";
  EXPECT_FALSE(NumaNodeOfPciDevice("0000:1b:00.0", sysfs.path()).has_value());
  std::ofstream(device + "/numa_node") << "3\n";
  EXPECT_EQ(NumaNodeOfPciDevice("0000:1b:00.0", sysfs.path()), 3u);
}

TEST_F(GpuDriverTest, TheDriverOfThisMachineHasWhatIsAskedFor) {
  const Result<NvmlFunctions> nvml = LoadNvml();
  if (!nvml.ok() && !IsRequired("gpu")) GTEST_SKIP() << nvml.status().message();
  const GpuDriver driver = OrDie(AskGpuDriver(OrDie(nvml)));
  EXPECT_GE(driver.cuda_version, 12000u);
  ASSERT_FALSE(driver.gpus.empty());
  for (const DriverGpu& gpu : driver.gpus) {
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_GT(gpu.memory_bytes, 1u << 30);
    EXPECT_LE(gpu.free_bytes, gpu.memory_bytes);
    EXPECT_GE(gpu.compute_capability, 50u);
  }
}

}  // namespace
}  // namespace strata::tiering
