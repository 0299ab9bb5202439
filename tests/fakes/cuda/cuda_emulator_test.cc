// The emulator runs what CUDA would, and sees what it promises to see.
#include <gmock/gmock.h>

#include <iostream>
#include <numeric>
#include <vector>

#include "engine/kernels/cuda/dynamic_shared.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/tensor_cores.h"
#include "tests/fakes/cuda/emulator.h"

namespace strata::fakes::cuda {
namespace {

using engine::Bf16;
using engine::F16;
using engine::cuda::DynamicShared;
using engine::cuda::Launch;
using engine::cuda::LaunchShape;
using namespace engine::cuda;  // of tensor_cores.h

// Each block adds up its part: lanes by shuffles, warps through shared memory.
__global__ void SumKernel(const float* numbers, unsigned count, float* sums) {
  __shared__ float of_warps[32];
  float sum = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    sum += numbers[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += of_warps[warp];
    sums[blockIdx.x] = total;
  }
}

// Thread i takes what its neighbour wrote, without or with a barrier in between.
__global__ void NeighbourKernel(int* out, bool with_barrier) {
  int* shared = DynamicShared<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void DivergentKernel() {
  if (threadIdx.x < 7) __syncthreads();
}

__global__ void PastSharedKernel(int bytes) { DynamicShared<char>()[bytes] = 0; }

// c = a * b of 16 x 16 elements, by way of shared memory; `b` has its rows as columns if
// is_transposed. Without waiting for copies there is nothing in that memory.
__global__ void SquareKernel(const Bf16* a, const Bf16* b, bool is_transposed, bool waits,
                             float* c) {
  Bf16* shared = DynamicShared<Bf16>();
  for (unsigned i = threadIdx.x; i < 64; i += 32)
    StartCopy<16>(shared + i * 8, i < 32 ? a + i * 8 : b + (i - 32) * 8, true);
  EndCopyGroup();
  if (waits) WaitForCopyGroups<0>();
  __syncwarp();
  uint32_t left[4], right[4];
  LoadMatrices(left, PlaceOf(shared + threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8));
  const Bf16* from = shared + 256;
  if (is_transposed) {
    from += (threadIdx.x / 16 * 8 + threadIdx.x % 8) * 16 + threadIdx.x / 8 % 2 * 8;
    LoadMatrices(right, PlaceOf(from));
  } else {
    from += threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8;
    LoadMatricesTransposed(right, PlaceOf(from));
  }
  for (unsigned half = 0; half < 2; ++half) {
    float sums[4] = {1, 1, 1, 1};
    MultiplyAdd<Bf16>(sums, left, right[half * 2], right[half * 2 + 1]);
    for (unsigned i = 0; i < 4; ++i)
      c[(threadIdx.x / 4 + i / 2 * 8) * 16 + half * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
  }
}

__global__ void RoundTwoKernel(const float* from, uint32_t* bf16, uint32_t* f16) {
  *bf16 = RoundTwo<Bf16>(from[0], from[1]);
  *f16 = RoundTwo<F16>(from[0], from[1]);
}

class CudaEmulatorTest : public testing::Test {
 protected:
  CudaEmulatorTest() {
    Reset();
    SetThreadOrder(ThreadOrder::kAscending);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    context_.native_stream = stream_;
  }
  ~CudaEmulatorTest() override {
    Reset();
    cudaStreamDestroy(stream_);
    for (void* memory : memory_) EXPECT_EQ(cudaFree(memory), cudaSuccess);
  }

  template <typename T>
  T* OnDevice(const std::vector<T>& numbers) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, numbers.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(
        cudaMemcpy(memory, numbers.data(), numbers.size() * sizeof(T), cudaMemcpyHostToDevice),
        cudaSuccess);
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <typename T>
  std::vector<T> OnHost(const T* device, size_t count) {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<T> numbers(count);
    EXPECT_EQ(cudaMemcpy(numbers.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return numbers;
  }

  cudaStream_t stream_ = nullptr;
  tiering::StreamContext context_;
  std::vector<void*> memory_;
};

constexpr ThreadOrder kOrders[] = {ThreadOrder::kAscending, ThreadOrder::kDescending,
                                   ThreadOrder::kShuffled};

TEST_F(CudaEmulatorTest, ABlockReducesToTheSameBitsInAnyOrderOfThreads) {
  std::vector<float> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 1.0f);  // sums of integers below 2^24 are exact
  const float* in = OnDevice(numbers);
  float* out = OnDevice(std::vector<float>(3));
  for (ThreadOrder order : kOrders) {
    SetThreadOrder(order, 7);
    ASSERT_TRUE(Launch(&SumKernel, LaunchShape{3, 128, 0}, context_, in, 1000u, out).ok());
    std::vector<float> want(3);
    for (size_t i = 0; i < numbers.size(); ++i) want[i / 128 % 3] += numbers[i];
    EXPECT_EQ(OnHost(out, 3), want);
  }
}

TEST_F(CudaEmulatorTest, AMissingBarrierShowsInAnotherOrder) {
  std::vector<int> want(64);
  for (int i = 0; i < 64; ++i) want[static_cast<size_t>(i)] = (i + 1) % 64;
  int* out = OnDevice(std::vector<int>(64));
  int num_wrong = 0;
  for (ThreadOrder order : kOrders) {
    SetThreadOrder(order, 1);
    const LaunchShape shape{1, 64, 64 * sizeof(int)};
    ASSERT_TRUE(Launch(&NeighbourKernel, shape, context_, out, true).ok());
    EXPECT_EQ(OnHost(out, 64), want);
#if !defined(__SANITIZE_THREAD__)  // which ends the program there: the next test but one
    ASSERT_TRUE(Launch(&NeighbourKernel, shape, context_, out, false).ok());
    num_wrong += OnHost(out, 64) != want;
#else
    num_wrong = 3;
#endif
  }
  EXPECT_EQ(num_wrong, 3);
}

#if defined(__SANITIZE_THREAD__)
// Two launches that are right, then one that is not, all on one stream.
[[noreturn]] void LaunchARace(int* out) {
  cudaStream_t stream = nullptr;
  (void)cudaStreamCreate(&stream);
  tiering::StreamContext context{.native_stream = stream};
  for (const bool has_barrier : {true, true, false}) {
    const LaunchShape shape{1, 64, 64 * sizeof(int)};
    (void)Launch(&NeighbourKernel, shape, context, out, has_barrier);
    (void)cudaStreamSynchronize(stream);
    std::cerr << "one is over" << std::endl;
  }
  std::exit(0);
}

TEST_F(CudaEmulatorTest, ThreadSanitizerSeesARaceOfAKernel) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  int* out = OnDevice(std::vector<int>(64));
  EXPECT_DEATH(LaunchARace(out), "one is over\none is over\n(.|\n)*data race");
}
#endif

TEST_F(CudaEmulatorTest, ABarrierThatNotAllReachFailsTheLaunchAndAllThatFollows) {
  ASSERT_TRUE(Launch(&DivergentKernel, LaunchShape{1, 64, 0}, context_).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  const Status next = Launch(&DivergentKernel, LaunchShape{1, 64, 0}, context_);
  EXPECT_EQ(next.code(), Code::kInternal);
  EXPECT_THAT(next.message(), testing::HasSubstr("with 1x1x1 blocks of 64x1x1 threads"));
}

TEST_F(CudaEmulatorTest, AWritePastSharedMemoryFails) {
  ASSERT_TRUE(Launch(&PastSharedKernel, LaunchShape{1, 1, 64}, context_, 63).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  ASSERT_TRUE(Launch(&PastSharedKernel, LaunchShape{1, 1, 64}, context_, 64).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
}

TEST_F(CudaEmulatorTest, SquaresMultiplyOnceTheirCopiesWereWaitedFor) {
  std::vector<Bf16> a(256), b(256), b_columns(256);
  std::vector<float> want(256, 1.0f);
  const auto small = [](size_t i) { return static_cast<float>(i % 13) - 6.0f; };  // exact in bf16
  for (size_t i = 0; i < 256; ++i) {
    a[i] = engine::ToBf16(small(i));
    b[i] = engine::ToBf16(small(3 * i));
    b_columns[i % 16 * 16 + i / 16] = b[i];
  }
  for (size_t row = 0; row < 16; ++row)
    for (size_t col = 0; col < 16; ++col)
      for (size_t k = 0; k < 16; ++k)
        want[row * 16 + col] += small(row * 16 + k) * small(3 * (k * 16 + col));
  const auto product = [&](const std::vector<Bf16>& right, bool is_transposed, bool waits) {
    float* out = OnDevice(std::vector<float>(256));
    EXPECT_TRUE(Launch(&SquareKernel, LaunchShape{1, 32, 1024}, context_, OnDevice(a),
                       OnDevice(right), is_transposed, waits, out)
                    .ok());
    return OnHost(out, 256);
  };
  EXPECT_EQ(product(b, false, true), want);
  EXPECT_EQ(product(b_columns, true, true), want);
  EXPECT_TRUE(std::isnan(product(b, false, false)[0]));
}

TEST_F(CudaEmulatorTest, TwoNumbersAreRoundedToNearestTiesToEven) {
  uint32_t* out = OnDevice(std::vector<uint32_t>(2));
  const float* from = OnDevice(std::vector<float>{1.00390625f, -1.01171875f});  // ties in bf16
  ASSERT_TRUE(Launch(&RoundTwoKernel, LaunchShape{1, 1, 0}, context_, from, out, out + 1).ok());
  EXPECT_EQ(OnHost(out, 2), (std::vector<uint32_t>{0xbf823f80u, 0xbc0c3c04u}));
}

TEST_F(CudaEmulatorTest, TheHostMayNotTouchDeviceMemory) {
  int* memory = OnDevice(std::vector<int>{1});
  EXPECT_DEATH({ *static_cast<volatile int*>(memory) = 2; }, "");
  EXPECT_EQ(OnHost(memory, 1), std::vector<int>{1});
}

TEST_F(CudaEmulatorTest, CopiesGoWhereTheySayAndPinnedMemoryIsTold) {
  int* memory = OnDevice(std::vector<int>{1, 2, 3, 4});
  std::vector<int> host(4);
  EXPECT_EQ(cudaMemcpyAsync(memory, host.data(), 16, cudaMemcpyDeviceToHost, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(memory + 1, host.data(), 16, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  const uint64_t before = counters().copies_of_pageable_memory;
  EXPECT_EQ(cudaMemcpyAsync(host.data(), memory, 16, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(counters().copies_of_pageable_memory, before + 1);
  ASSERT_EQ(cudaHostRegister(host.data(), 16, cudaHostRegisterDefault), cudaSuccess);
  EXPECT_EQ(cudaHostRegister(host.data() + 3, 4, cudaHostRegisterDefault),
            cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), memory, 16, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(counters().copies_of_pageable_memory, before + 1);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(host, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(cudaHostUnregister(host.data()), cudaSuccess);
}

TEST_F(CudaEmulatorTest, AnEventHoldsAnotherStreamUntilItIsReached) {
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  std::atomic<bool> open = false;
  int value = 0, seen = 0;
  ASSERT_EQ(Enqueue(stream_,
                    [&] {
                      while (!open) std::this_thread::yield();
                      value = 5;
                    }),
            cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other, event), cudaSuccess);
  ASSERT_EQ(Enqueue(other, [&] { seen = value; }), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(other), cudaErrorNotReady);
  open = true;
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(seen, 5);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(CudaEmulatorTest, FailuresComeWhereTheyWereAskedFor) {
  void* memory = nullptr;
  FailNext("cudaMalloc", cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  memory_.push_back(memory);
  SetMemory(1 << 20);
  EXPECT_EQ(cudaMalloc(&memory, 1 << 20), cudaErrorMemoryAllocation);  // 64 bytes are taken
  SetMemory(1 << 30);
  float* out = OnDevice(std::vector<float>(1));
  FailKernel(1, cudaErrorIllegalAddress);
  const LaunchShape shape{1, 32, 0};
  ASSERT_TRUE(Launch(&SumKernel, shape, context_, out, 1u, out).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  ASSERT_TRUE(Launch(&SumKernel, shape, context_, out, 1u, out).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMalloc(&memory, 64), cudaErrorIllegalAddress);
}

}  // namespace
}  // namespace strata::fakes::cuda
