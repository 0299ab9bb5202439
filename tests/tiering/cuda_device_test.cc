// What is true of the cuda device alone, on the emulator, which fails when it is told to.
#include "tiering/cuda_device.h"

#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/or_die.h"
#include "tiering/cuda_status.h"
#include "tiering/internal/cuda_events.h"

namespace strata::tiering {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using namespace std::chrono_literals;

__global__ void Nothing() {}

Status LaunchNothing(const StreamContext& context) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(32);
  config.stream = static_cast<cudaStream_t>(context.native_stream);
  return CudaStatus(cudaLaunchKernelEx(&config, Nothing), "launch of Nothing");
}

class CudaDeviceTest : public testing::Test {
 protected:
  void TearDown() override {
    device_.reset();
    fakes::cuda::Reset();
    fakes::cuda::SetDevices(1);
    fakes::cuda::SetMemory(1_GiB);
    EXPECT_EQ(fakes::cuda::counters().streams, 0u);
    EXPECT_EQ(fakes::cuda::counters().events, 0u);
    EXPECT_EQ(fakes::cuda::counters().bytes_allocated, 0u);
    EXPECT_EQ(fakes::cuda::counters().registered_ranges, 0u);
  }

  void Create() { device_ = OrDie(CreateCudaDevice(0, 1_MiB)); }

  std::unique_ptr<Device> device_;
};

TEST_F(CudaDeviceTest, GpusAreFoundWithWhatTellsThemApart) {
  fakes::cuda::SetDevices(2);
  const std::vector<CudaGpu> gpus = OrDie(FindCudaGpus());
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[1].index, 1u);
  EXPECT_EQ(gpus[1].name, "Emulated GPU");
  EXPECT_EQ(gpus[1].memory_bytes, 1_GiB);
  EXPECT_EQ(gpus[1].compute_capability, 90u);
  EXPECT_EQ(gpus[1].pci_bus_id, "0000:02:00.0");
}

TEST_F(CudaDeviceTest, WithoutADriverTheErrorSaysWhatToInstall) {
  fakes::cuda::SetDevices(0);
  for (const Status& status : {FindCudaGpus().status(), CreateCudaDevice(0, 1_MiB).status()}) {
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("no NVIDIA driver"), HasSubstr("--gpus all")));
  }
}

TEST_F(CudaDeviceTest, WhereTheDriverShowsNoGpuTheErrorSaysWhatMayHideThem) {
  fakes::cuda::FailNext("cudaGetDeviceCount", cudaErrorNoDevice);
  const Status status = FindCudaGpus().status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST_F(CudaDeviceTest, AGpuThatIsNotThereIsAnErrorThatNamesThoseThatAre) {
  fakes::cuda::SetDevices(2);
  const Status status = CreateCudaDevice(2, 1_MiB).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("device cuda:2: "), HasSubstr("2, cuda:0 to cuda:1")));
}

TEST_F(CudaDeviceTest, ABudgetThatDoesNotFitIsAnErrorThatSaysWhichOneWould) {
  const Status status = CreateCudaDevice(0, 513_MiB).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("513 MiB of device memory cannot be had"),
                                      HasSubstr("1 GiB are free"),
                                      HasSubstr("[memory] device = \"512MiB\" or less")));
  EXPECT_TRUE(CreateCudaDevice(0, 512_MiB).ok());
}

TEST_F(CudaDeviceTest, MemoryThatCudaRefusesAllTheSameIsThatErrorToo) {
  fakes::cuda::FailNext("cudaMalloc", cudaErrorMemoryAllocation);
  const Status status = CreateCudaDevice(0, 1_MiB).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("1 MiB of device memory cannot be had"));
}

TEST_F(CudaDeviceTest, AnIllegalAccessInAKernelFailsTheEventsAfterItAndEveryStream) {
  Create();
  auto stream = device_->CreateStream("compute");
  auto other = device_->CreateStream("h2d");
  fakes::cuda::FailKernel(1, cudaErrorIllegalAddress);
  stream->Launch(LaunchNothing);
  DeviceEvent before = stream->Record();
  ASSERT_TRUE(before.Wait().ok());
  stream->Launch(LaunchNothing);
  const Status status = stream->Record().Wait();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("cuda:0: stream 'compute'"), HasSubstr("cudaErrorIllegalAddress")));
  std::vector<std::byte> host(16);
  other->CopyIn(device_->memory().first(16), host);
  const DeviceEvent event = other->Record();
  EXPECT_TRUE(event.done());
  EXPECT_THAT(event.Wait().message(), HasSubstr("cudaErrorIllegalAddress"));
}

TEST_F(CudaDeviceTest, ACopyThatCudaRefusesFailsItsStreamAndSaysWhichItWas) {
  Create();
  auto stream = device_->CreateStream("h2d");
  auto compute = device_->CreateStream("compute");
  std::vector<std::byte> host(64_KiB);
  fakes::cuda::FailNext("cudaMemcpyAsync", cudaErrorInvalidValue);
  stream->CopyIn(device_->memory().first(host.size()), host);
  stream->CopyIn(device_->memory().first(host.size()), host);  // skipped
  const Status status = stream->Record().Wait();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("cuda:0: stream 'h2d': cudaMemcpyAsync of 64 KiB to the GPU"),
                    HasSubstr("cudaErrorInvalidValue")));
  compute->Launch(LaunchNothing);  // another stream lives on
  EXPECT_TRUE(compute->Record().Wait().ok());
}

TEST_F(CudaDeviceTest, AStreamOrAnEventThatCannotBeHadIsAStreamThatHasFailed) {
  Create();
  fakes::cuda::FailNext("cudaStreamCreateWithFlags", cudaErrorMemoryAllocation);
  auto none = device_->CreateStream("compute");
  none->Launch(LaunchNothing);
  EXPECT_EQ(none->Record().Wait().code(), Code::kResourceExhausted);
  EXPECT_TRUE(none->Record().done());
  auto stream = device_->CreateStream("compute");
  fakes::cuda::FailNext("cudaEventRecord", cudaErrorMemoryAllocation);
  const DeviceEvent event = stream->Record();
  EXPECT_TRUE(event.done());
  EXPECT_THAT(event.Wait().message(), HasSubstr("cudaEventRecord"));
}

TEST_F(CudaDeviceTest, AStreamWaitsOnTheDeviceForEventsOfTheDevice) {
  Create();
  auto first = device_->CreateStream("h2d");
  auto second = device_->CreateStream("compute");
  std::promise<void> gate;
  first->Launch([&gate](const StreamContext& context) {
    return CudaStatus(fakes::cuda::Enqueue(static_cast<cudaStream_t>(context.native_stream),
                                           [&gate] { gate.get_future().wait(); }),
                      "enqueue");
  });
  const uint64_t before = fakes::cuda::counters().waits_between_streams;
  second->WaitFor(first->Record());  // would hang if it waited here
  EXPECT_EQ(fakes::cuda::counters().waits_between_streams, before + 1);
  gate.set_value();
  EXPECT_TRUE(second->Record().Wait().ok());
}

TEST_F(CudaDeviceTest, ForEventsOfAnotherDeviceTheHostWaits) {
  Create();
  auto cpu = OrDie(CreateCpuDevice(4_KiB));
  auto on_cpu = cpu->CreateStream("compute");
  auto stream = device_->CreateStream("compute");
  bool ran = false;
  on_cpu->Launch([&ran](const StreamContext&) {
    ran = true;
    return OkStatus();
  });
  stream->WaitFor(on_cpu->Record());
  EXPECT_TRUE(ran);
  on_cpu->Launch([](const StreamContext&) { return DataLoss("bad bytes"); });
  stream->WaitFor(on_cpu->Record());
  EXPECT_EQ(stream->Record().Wait().code(), Code::kDataLoss);
}

TEST_F(CudaDeviceTest, CopiesOfRegisteredMemoryMakeNobodyWait) {
  Create();
  std::vector<std::byte> host(64_KiB);
  auto stream = device_->CreateStream("h2d");
  const auto slot = device_->memory().first(host.size());
  const uint64_t before = fakes::cuda::counters().copies_of_pageable_memory;
  {
    auto registration = OrDie(device_->RegisterHostMemory(host));
    stream->CopyIn(slot, host);
    stream->CopyOut(host, slot);
    ASSERT_TRUE(stream->Record().Wait().ok());
    EXPECT_EQ(fakes::cuda::counters().copies_of_pageable_memory, before);
    const Status twice = device_->RegisterHostMemory(host).status();
    EXPECT_THAT(twice.message(), AllOf(HasSubstr("cuda:0: pinning 64 KiB of host memory"),
                                       HasSubstr("AlreadyRegistered")));
  }
  stream->CopyIn(slot, host);
  ASSERT_TRUE(stream->Record().Wait().ok());
  EXPECT_EQ(fakes::cuda::counters().copies_of_pageable_memory, before + 1);
}

// A thread that has chosen no GPU has GPU 0, where CUDA would then take memory for this process.
TEST_F(CudaDeviceTest, AThreadThatWaitsForAnEventHasItsGpu) {
  fakes::cuda::SetDevices(2);
  device_ = OrDie(CreateCudaDevice(1, 1_MiB));
  const DeviceEvent event = device_->CreateStream("compute")->Record();
  for (const bool waits : {true, false}) {
    int gpu = -1;
    std::thread([&] {
      waits ? static_cast<void>(event.Wait()) : static_cast<void>(event.done());
      EXPECT_EQ(cudaGetDevice(&gpu), cudaSuccess);
    }).join();
    EXPECT_EQ(gpu, 1);
  }
}

TEST_F(CudaDeviceTest, EventsAreUsedAgain) {
  Create();
  auto stream = device_->CreateStream("compute");
  ASSERT_TRUE(stream->Record().Wait().ok());
  const uint64_t before = fakes::cuda::counters().events;
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(stream->Record().Wait().ok());
  EXPECT_LE(fakes::cuda::counters().events, before + 1);  // one anchor may be renewed meanwhile
}

TEST_F(CudaDeviceTest, EventsMayOutliveTheirDevice) {
  Create();
  DeviceEvent event = device_->CreateStream("compute")->Record();
  device_.reset();
  EXPECT_TRUE(event.Wait().ok());
  EXPECT_LE(event.time(), Clock::now() + 1ms);
}

TEST_F(CudaDeviceTest, AnchorsAreRenewedAndUsedAgain) {
  auto events = OrDie(CudaEvents::Create(0, 0s));
  auto first = events->RecentAnchor();
  auto second = events->RecentAnchor();
  // Where the machine is too busy to tell the time, an anchor stays; not always.
  for (int i = 0; i < 1000 && second == first; ++i) second = events->RecentAnchor();
  EXPECT_NE(second, first);
  EXPECT_LE(first->time - first->error, second->time + second->error);
  const uint64_t before = fakes::cuda::counters().events;
  first.reset();
  second.reset();
  for (int i = 0; i < 100; ++i) (void)events->RecentAnchor();
  EXPECT_LE(fakes::cuda::counters().events, before + 1);
}

// A host that stood still between two looks at its clock does not know when the event was reached.
TEST_F(CudaDeviceTest, AnAnchorThatWasReachedLateIsNone) {
  auto events = OrDie(CudaEvents::Create(0, 0s));
  for (const char* call : {"cudaEventRecord", "cudaEventQuery"}) {
    const Clock::duration before = events->RecentAnchor()->error;
    fakes::cuda::DelayNext(call, 20ms);
    EXPECT_LE(events->RecentAnchor()->error, std::max<Clock::duration>(before, 100us)) << call;
  }
}

TEST_F(CudaDeviceTest, TheTimeOfAnEventIsThatOfTheHostsClockWhicheverAnchorItGoesBy) {
  Create();
  auto stream = device_->CreateStream("compute");
  Clock::time_point last = Clock::now();
  for (int i = 0; i < 50; ++i) {
    DeviceEvent event = stream->Record();
    ASSERT_TRUE(event.Wait().ok());
    EXPECT_LE(last, event.time() + 1ms);
    EXPECT_LE(event.time(), Clock::now() + 1ms);
    last = Clock::now();
  }
}

}  // namespace
}  // namespace strata::tiering
