// AdamStep() on a GPU, with the bits of the host's cores: the same operations in the same order,
// each rounded once. So products and sums are written as such (__fmul_rn, __fadd_rn), which the
// compiler never fuses, and the square root and the quotient are the correctly rounded ones.
#include <cuda_runtime.h>

#include <algorithm>

#include "engine/kernels/cuda/elements.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/optimizer/device_adam.h"
#include "engine/optimizer/moment_codes.h"

namespace strata::engine {
namespace {

using cuda::FromFloat;
using cuda::Launch;
using cuda::LaunchShape;
using cuda::ToFloat;

constexpr unsigned kThreads = 256;
constexpr unsigned kMostBlocks = 4096;
constexpr unsigned kAllLanes = 0xffffffffu;

struct Element {
  float p, m, v;
};

// Updated() of internal/adam_element.h.
template <bool kL2>
__device__ __forceinline__ Element Updated(const AdamScalars& s, Element e, float g) {
  g = __fmul_rn(g, s.gradient_scale);
  if constexpr (kL2) {
    g = __fadd_rn(g, __fmul_rn(s.l2, e.p));
  } else {
    e.p = __fmul_rn(e.p, s.decay_factor);
  }
  e.m = __fadd_rn(__fmul_rn(s.beta1, e.m), __fmul_rn(s.one_minus_beta1, g));
  e.v = __fadd_rn(__fmul_rn(s.beta2, e.v), __fmul_rn(s.one_minus_beta2, __fmul_rn(g, g)));
  const float root = __fadd_rn(__fmul_rn(__fsqrt_rn(e.v), s.inv_sqrt_bias2), s.eps);
  e.p = __fsub_rn(e.p, __fdiv_rn(__fmul_rn(s.step_size, e.m), root));
  return e;
}

// Tells whether there is anything to apply, and takes the coefficient.
__device__ __forceinline__ bool TakeCoefficient(const double* coefficient, AdamScalars& s) {
  if (coefficient == nullptr) return true;
  s.gradient_scale = static_cast<float>(*coefficient);
  return *coefficient == *coefficient;  // a number
}

__device__ __forceinline__ uint64_t FirstElement() {
  return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ uint64_t Stride() {
  return static_cast<uint64_t>(gridDim.x) * blockDim.x;
}

template <typename Gradient, typename Weight, bool kL2, bool kWeight>
__global__ void Fp32Kernel(AdamScalars s, const double* coefficient, float* master, float* m,
                           float* v, const Gradient* gradient, Weight* weight, uint64_t n) {
  const bool applies = TakeCoefficient(coefficient, s);
  for (uint64_t i = FirstElement(); i < n; i += Stride()) {
    Element e = {master[i], m[i], v[i]};
    if (applies) {
      e = Updated<kL2>(s, e, ToFloat(gradient[i]));
      master[i] = e.p;
      m[i] = e.m;
      v[i] = e.v;
    }
    if constexpr (kWeight) weight[i] = FromFloat<Weight>(e.p);
  }
}

template <typename Gradient, bool kL2>
__global__ void SplitKernel(AdamScalars s, const double* coefficient, int16_t* remainder, float* m,
                            float* v, const Gradient* gradient, Bf16* weight, uint64_t n) {
  if (!TakeCoefficient(coefficient, s)) return;
  for (uint64_t i = FirstElement(); i < n; i += Stride()) {
    const unsigned joined = (static_cast<unsigned>(weight[i]) << 16) +
                            static_cast<unsigned>(static_cast<int>(remainder[i]));
    const Element e = Updated<kL2>(s, {__uint_as_float(joined), m[i], v[i]}, ToFloat(gradient[i]));
    const Bf16 rounded = FromFloat<Bf16>(e.p);
    weight[i] = rounded;
    remainder[i] =
        static_cast<int16_t>(__float_as_uint(e.p) - (static_cast<unsigned>(rounded) << 16));
    m[i] = e.m;
    v[i] = e.v;
  }
}

__device__ __forceinline__ unsigned Largest(unsigned bits) {
  for (int step = 16; step > 0; step /= 2) bits = max(bits, __shfl_xor_sync(kAllLanes, bits, step));
  return bits;
}

struct Int8Places {
  int16_t* remainder;
  uint8_t* m;
  uint8_t* v;
  uint8_t* m_scales;
  uint8_t* v_scales;
  Bf16* weight;
  uint32_t dither;
};

// A warp takes the elements that share a scale, two of them a lane: i and i + 32.
template <typename Gradient, bool kL2>
__global__ void Int8Kernel(AdamScalars s, const double* coefficient, Int8Places at,
                           const Gradient* gradient, uint64_t n) {
  static_assert(kScaledElements == 64);
  if (!TakeCoefficient(coefficient, s)) return;
  const uint64_t lane = threadIdx.x % 32;
  const uint64_t num_scales = (n + kScaledElements - 1) / kScaledElements;
  for (uint64_t scale = FirstElement() / 32; scale < num_scales; scale += Stride() / 32) {
    const int m_base = CodeBase(at.m_scales[scale], kMCodes);
    const int v_base = CodeBase(at.v_scales[scale], kVCodes);
    Element e[2] = {};
    unsigned largest_m = 0, largest_v = 0;
    for (int half = 0; half < 2; ++half) {
      const uint64_t i = scale * kScaledElements + lane + 32 * static_cast<uint64_t>(half);
      if (i >= n) continue;  // as if its state and gradient were 0, which they stay
      const unsigned joined = (static_cast<unsigned>(at.weight[i]) << 16) +
                              static_cast<unsigned>(static_cast<int>(at.remainder[i]));
      const Element before = {__uint_as_float(joined), DecodeM(at.m[i], m_base),
                              DecodeV(at.v[i], v_base)};
      e[half] = Updated<kL2>(s, before, ToFloat(gradient[i]));
      largest_m = max(largest_m, __float_as_uint(e[half].m) & 0x7fffffffu);
      largest_v = max(largest_v, __float_as_uint(e[half].v) & 0x7fffffffu);
    }
    const uint8_t m_scale = ScaleOf(Largest(largest_m), kMCodes);
    const uint8_t v_scale = ScaleOf(Largest(largest_v), kVCodes);
    if (lane == 0) {
      at.m_scales[scale] = m_scale;
      at.v_scales[scale] = v_scale;
    }
    for (int half = 0; half < 2; ++half) {
      const uint64_t i = scale * kScaledElements + lane + 32 * static_cast<uint64_t>(half);
      if (i >= n) continue;
      const Bf16 rounded = FromFloat<Bf16>(e[half].p);
      at.weight[i] = rounded;
      at.remainder[i] =
          static_cast<int16_t>(__float_as_uint(e[half].p) - (static_cast<unsigned>(rounded) << 16));
      const uint32_t random = DitherBits(at.dither + static_cast<uint32_t>(i));
      at.m[i] =
          static_cast<uint8_t>(EncodeM(e[half].m, CodeBase(m_scale, kMCodes), DitherOfM(random)));
      at.v[i] =
          static_cast<uint8_t>(EncodeV(e[half].v, CodeBase(v_scale, kVCodes), DitherOfV(random)));
    }
  }
}

LaunchShape ShapeFor(uint64_t num_elements, uint64_t elements_per_block) {
  const uint64_t blocks = (num_elements + elements_per_block - 1) / elements_per_block;
  return {.grid = dim3(static_cast<unsigned>(std::min<uint64_t>(blocks, kMostBlocks))),
          .block = dim3(kThreads)};
}

class CudaAdam final : public DeviceAdam {
 public:
  Status Step(const tiering::StreamContext& stream, const AdamScalars& scalars,
              const AdamSlices& slices, const double* coefficient) override {
    switch (slices.gradient_dtype) {
      case DType::kF32:
        return StepOf<float>(stream, scalars, slices, coefficient);
      case DType::kBf16:
        return StepOf<Bf16>(stream, scalars, slices, coefficient);
      case DType::kF16:
        return StepOf<F16>(stream, scalars, slices, coefficient);
    }
    return Internal("gradients in an unknown format");
  }

 private:
  template <typename Gradient>
  Status StepOf(const tiering::StreamContext& stream, const AdamScalars& s, const AdamSlices& in,
                const double* coefficient) {
    return s.mode == AdamMode::kAdam ? StepAs<Gradient, true>(stream, s, in, coefficient)
                                     : StepAs<Gradient, false>(stream, s, in, coefficient);
  }

  template <typename Gradient, bool kL2>
  Status StepAs(const tiering::StreamContext& stream, const AdamScalars& s, const AdamSlices& in,
                const double* coefficient) {
    const auto* gradient = reinterpret_cast<const Gradient*>(in.gradient);
    auto* weight = reinterpret_cast<Bf16*>(in.weight);
    auto* remainder = reinterpret_cast<int16_t*>(in.master);
    const uint64_t n = in.num_elements;
    if (in.format == StateFormat::kInt8) {
      const Int8Places places = {remainder,
                                 reinterpret_cast<uint8_t*>(in.m),
                                 reinterpret_cast<uint8_t*>(in.v),
                                 in.m_scales,
                                 in.v_scales,
                                 weight,
                                 in.dither};
      return Launch(&Int8Kernel<Gradient, kL2>, ShapeFor(n, kThreads / 32 * kScaledElements),
                    stream, s, coefficient, places, gradient, n);
    }
    auto* m = reinterpret_cast<float*>(in.m);
    auto* v = reinterpret_cast<float*>(in.v);
    const LaunchShape shape = ShapeFor(n, kThreads);
    if (in.format == StateFormat::kSplit)
      return Launch(&SplitKernel<Gradient, kL2>, shape, stream, s, coefficient, remainder, m, v,
                    gradient, weight, n);
    auto* master = reinterpret_cast<float*>(in.master);
    if (weight == nullptr)
      return Launch(&Fp32Kernel<Gradient, Bf16, kL2, false>, shape, stream, s, coefficient, master,
                    m, v, gradient, weight, n);
    if (in.weight_dtype == DType::kBf16)
      return Launch(&Fp32Kernel<Gradient, Bf16, kL2, true>, shape, stream, s, coefficient, master,
                    m, v, gradient, weight, n);
    return Launch(&Fp32Kernel<Gradient, F16, kL2, true>, shape, stream, s, coefficient, master, m,
                  v, gradient, reinterpret_cast<F16*>(in.weight), n);
  }
};

}  // namespace

Result<std::unique_ptr<DeviceAdam>> MakeCudaAdam() {
  return std::unique_ptr<DeviceAdam>(std::make_unique<CudaAdam>());
}

}  // namespace strata::engine
