// Stands in for CUDA's header of the same name: what a kernel is written in, and how it is
// launched. A block's threads run as fibers of one thread of the machine, block after block
// (grid.h).
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
// One thread of the machine runs one block at a time: what is static there is the block's.
#define __shared__ static thread_local

struct dim3 {
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  unsigned x, y, z;
};

#define STRATA_FAKE_VECTORS(type, name, alignment)                            \
  struct alignas(2 * sizeof(type)) name##2 {                                  \
    type x, y;                                                                \
  };                                                                          \
  struct name##3 {                                                            \
    type x, y, z;                                                             \
  };                                                                          \
  struct alignas(alignment) name##4 {                                         \
    type x, y, z, w;                                                          \
  };                                                                          \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
STRATA_FAKE_VECTORS(float, float, 16)
STRATA_FAKE_VECTORS(int, int, 16)
STRATA_FAKE_VECTORS(unsigned, uint, 16)
STRATA_FAKE_VECTORS(short, short, 8)
STRATA_FAKE_VECTORS(unsigned short, ushort, 8)
STRATA_FAKE_VECTORS(unsigned char, uchar, 4)
#undef STRATA_FAKE_VECTORS
struct alignas(16) double2 {
  double x, y;
};
inline double2 make_double2(double x, double y) { return {x, y}; }

// Of the thread that runs.
extern thread_local constinit uint3 threadIdx, blockIdx;
extern thread_local constinit dim3 blockDim, gridDim;

namespace strata::fakes::cuda {

void BlockBarrier();
void WarpBarrier();
int LaneOfThread();
// Shows `bytes` (at most 8) to the lanes of the warp and returns, once all have shown theirs, what
// each of the 32 showed: 8 bytes per lane, valid until the lane's next exchange but one.
const uint64_t* Exchange(const void* mine, size_t bytes);
void* SharedMemory();  // DynamicShared()'s
// A thread's asynchronous copies to shared memory (tensor_cores.h): made only when they are waited
// for. `from` null: zeros.
void BeginCopy(void* to, const void* from, size_t bytes);
void CloseCopyGroup();
void FinishCopyGroups(size_t left);

cudaError_t LaunchGrid(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                       const void* kernel, std::function<void()> body);

template <typename T>
T FromLane(T value, int lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  const uint64_t* all = Exchange(&value, sizeof(T));
  T result;
  std::memcpy(&result, all + lane, sizeof(T));
  return result;
}

}  // namespace strata::fakes::cuda

inline constexpr int warpSize = 32;

inline void __syncthreads() { strata::fakes::cuda::BlockBarrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { strata::fakes::cuda::WarpBarrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

// A segment of `width` lanes is a warp of its own to the shuffles, as CUDA has it.
template <typename T>
T __shfl_sync(unsigned, T value, int from, int width = 32) {
  const int lane = strata::fakes::cuda::LaneOfThread();
  return strata::fakes::cuda::FromLane(value, (lane & ~(width - 1)) + (from & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const int lane = strata::fakes::cuda::LaneOfThread();
  const int from = lane ^ mask;
  const bool inside = (from & ~(width - 1)) <= (lane & ~(width - 1));
  return strata::fakes::cuda::FromLane(value, inside ? from : lane);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
  const int lane = strata::fakes::cuda::LaneOfThread();
  const bool inside = (lane & (width - 1)) + static_cast<int>(delta) < width;
  return strata::fakes::cuda::FromLane(value, inside ? lane + static_cast<int>(delta) : lane);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  const int lane = strata::fakes::cuda::LaneOfThread();
  const bool inside = (lane & (width - 1)) >= static_cast<int>(delta);
  return strata::fakes::cuda::FromLane(value, inside ? lane - static_cast<int>(delta) : lane);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const uint64_t mine = predicate != 0;
  const uint64_t* all = strata::fakes::cuda::Exchange(&mine, sizeof mine);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= static_cast<unsigned>(all[lane]) << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
// Rounded once each: the compiler may not fuse them (the emulated kernels are built with
// -ffp-contract=off, so what is written as two operations is two).
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __saturatef(float x) { return std::clamp(x, 0.0f, 1.0f); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename T>
T __ldg(const T* at) {
  return *at;
}
template <typename T>
T __ldcs(const T* at) {
  return *at;
}
template <typename T>
void __stcs(T* at, T value) {
  *at = value;
}
using std::max;
using std::min;

struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> copies(static_cast<Parameters>(arguments)...);
  return strata::fakes::cuda::LaunchGrid(
      config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream,
      reinterpret_cast<const void*>(kernel),
      [kernel, copies = std::move(copies)] { std::apply(kernel, copies); });
}

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
