// Which device a run takes, on the emulated machine.
#include "engine/train/run_device.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "aio/base/units.h"
#include "engine/train/planning.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/or_die.h"
#include "tiering/cuda_libraries.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

DeviceChoice Choice(std::string_view text) { return ParseDeviceChoice(text).value(); }

class RunDeviceTest : public testing::Test {
 protected:
  void SetUp() override { unsetenv("CUDA_VISIBLE_DEVICES"); }
  void TearDown() override {
    unsetenv("CUDA_VISIBLE_DEVICES");
    fakes::cuda::SetDevices(1);
  }
};

TEST_F(RunDeviceTest, OnANodeRankNTakesGpuN) {
  fakes::cuda::SetDevices(4);
  for (uint32_t rank = 0; rank < 4; ++rank) {
    const ChosenDevice chosen = OrDie(ChooseDevice(Choice("cuda"), {rank, 4}));
    EXPECT_EQ(ToText(chosen.device), "cuda:" + std::to_string(rank));
    EXPECT_EQ(chosen.reason, "Emulated GPU");
  }
}

TEST_F(RunDeviceTest, AGpuThatIsNamedIsTakenByEveryRank) {
  fakes::cuda::SetDevices(2);
  EXPECT_EQ(OrDie(ChooseDevice(Choice("cuda:1"), {0, 2})).device, Choice("cuda:1"));
  EXPECT_EQ(OrDie(ChooseDevice(Choice("cuda:1"), {5, 6})).device, Choice("cuda:1"));
}

TEST_F(RunDeviceTest, MoreRanksThanGpusAreRefusedWithWhatToDo) {
  fakes::cuda::SetDevices(2);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    const Status status = ChooseDevice(Choice("cuda"), {rank, 3}).status();
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("3 ranks on a machine where CUDA shows 2 GPU(s)"),
                                        HasSubstr("--nproc-per-node 2")));
  }
}

TEST_F(RunDeviceTest, AutoTakesTheCpuForAllRanksWhereOneWouldHaveNoGpu) {
  for (uint32_t rank = 0; rank < 2; ++rank) {
    const ChosenDevice chosen = OrDie(ChooseDevice(Choice("auto"), {rank, 2}));
    EXPECT_EQ(chosen.device, Choice("cpu"));
    EXPECT_TRUE(chosen.passes_over_gpu);
    EXPECT_THAT(chosen.reason, HasSubstr("2 ranks on a machine where CUDA shows 1 GPU(s)"));
  }
}

TEST_F(RunDeviceTest, WhereALauncherShowsEachRankItsOwnGpuThatIsTheFirst) {
  EXPECT_FALSE(ChooseDevice(Choice("cuda"), {3, 4}).ok());
  setenv("CUDA_VISIBLE_DEVICES", "3", 1);
  EXPECT_EQ(OrDie(ChooseDevice(Choice("cuda"), {3, 4})).device, Choice("cuda:0"));
}

TEST_F(RunDeviceTest, AGpuThatIsNotThereIsAnError) {
  EXPECT_THAT(ChooseDevice(Choice("cuda:1")).status().message(), HasSubstr("shows this process 1"));
  fakes::cuda::SetDevices(0);
  const Status status = ChooseDevice(Choice("cuda")).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("no NVIDIA driver"));
}

TEST_F(RunDeviceTest, AutoTakesTheCpuWhereThereIsNoGpuAndSaysWhy) {
  fakes::cuda::SetDevices(0);
  const ChosenDevice chosen = OrDie(ChooseDevice(Choice("auto")));
  EXPECT_EQ(chosen.device, Choice("cpu"));
  EXPECT_THAT(chosen.reason, HasSubstr("no NVIDIA driver"));
  EXPECT_FALSE(chosen.passes_over_gpu);
}

TEST_F(RunDeviceTest, AutoTakesAGpuOnlyWhereItsLibraryCanBeLoaded) {
  const bool has_library = tiering::LoadCudaLibrary(tiering::kCublasLt).ok();
  const ChosenDevice chosen = OrDie(ChooseDevice(Choice("auto")));
  EXPECT_EQ(chosen.device, Choice(has_library ? "cuda:0" : "cpu"));
  EXPECT_EQ(chosen.passes_over_gpu, !has_library);
  EXPECT_THAT(chosen.reason, HasSubstr(has_library ? "Emulated GPU" : "cuBLASLt"));
}

TEST_F(RunDeviceTest, TheCpuIsTakenBesideAGpuWhenItIsAskedFor) {
  EXPECT_EQ(OrDie(ChooseDevice(Choice("cpu"))).device, Choice("cpu"));
}

TEST_F(RunDeviceTest, TheDeviceIsTheOneThatWasChosen) {
  fakes::cuda::SetDevices(2);
  EXPECT_EQ(OrDie(CreateDevice(Choice("cpu"), 1_MiB))->name(), "cpu");
  EXPECT_EQ(OrDie(CreateDevice(Choice("cuda:1"), 1_MiB))->name(), "cuda:1");
}

TEST_F(RunDeviceTest, AGpuSharesNoCoresWhateverIsConfigured) {
  RunConfig config;
  EXPECT_TRUE(HardwareOf(config).device_shares_cores);
  config.train.device = Choice("cuda:0");
  EXPECT_FALSE(HardwareOf(config).device_shares_cores);
  config.hardware.emplace();
  EXPECT_FALSE(HardwareOf(config).device_shares_cores);
}

}  // namespace
}  // namespace strata::engine
