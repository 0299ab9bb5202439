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
constexpr unsigned kPack = 4;  // elements that a thread takes at once
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

// The first of `count` elements, zeros where there are fewer. Where packs are aligned, one
// instruction moves them.
template <bool kAligned, typename T>
__device__ __forceinline__ void Load(const T* from, uint64_t count, T (&to)[kPack]) {
  if (kAligned && count >= kPack) {
    const auto pack = *reinterpret_cast<const cuda::Pack<T, kPack>*>(from);
    for (unsigned i = 0; i < kPack; ++i) to[i] = pack.values[i];
  } else {
    for (unsigned i = 0; i < kPack; ++i) to[i] = i < count ? from[i] : T{};
  }
}
template <bool kAligned, typename T>
__device__ __forceinline__ void Store(const T (&from)[kPack], uint64_t count, T* to) {
  if (kAligned && count >= kPack) {
    cuda::Pack<T, kPack> pack;
    for (unsigned i = 0; i < kPack; ++i) pack.values[i] = from[i];
    *reinterpret_cast<cuda::Pack<T, kPack>*>(to) = pack;
  } else {
    for (unsigned i = 0; i < kPack; ++i) {
      if (i < count) to[i] = from[i];
    }
  }
}

__device__ __forceinline__ uint64_t ThreadOfGrid() {
  return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ uint64_t ThreadsOfGrid() {
  return static_cast<uint64_t>(gridDim.x) * blockDim.x;
}

template <typename Gradient, typename Weight, bool kL2, bool kWeight, bool kAligned>
__global__ void Fp32Kernel(AdamScalars s, const double* coefficient, float* master, float* m,
                           float* v, const Gradient* gradient, Weight* weight, uint64_t n) {
  const bool applies = TakeCoefficient(coefficient, s);
  for (uint64_t i = ThreadOfGrid() * kPack; i < n; i += ThreadsOfGrid() * kPack) {
    const uint64_t count = n - i;
    float ps[kPack];
    Load<kAligned>(master + i, count, ps);
    if (applies) {
      float ms[kPack], vs[kPack];
      Gradient gradients[kPack];
      Load<kAligned>(m + i, count, ms);
      Load<kAligned>(v + i, count, vs);
      Load<kAligned>(gradient + i, count, gradients);
      for (unsigned j = 0; j < kPack; ++j) {
        const Element e = Updated<kL2>(s, {ps[j], ms[j], vs[j]}, ToFloat(gradients[j]));
        ps[j] = e.p;
        ms[j] = e.m;
        vs[j] = e.v;
      }
      Store<kAligned>(ps, count, master + i);
      Store<kAligned>(ms, count, m + i);
      Store<kAligned>(vs, count, v + i);
    }
    if constexpr (kWeight) {
      Weight weights[kPack];
      for (unsigned j = 0; j < kPack; ++j) weights[j] = FromFloat<Weight>(ps[j]);
      Store<kAligned>(weights, count, weight + i);
    }
  }
}

// A master in two halves (split_master.h).
__device__ __forceinline__ float Join(Bf16 weight, int16_t remainder) {
  return __uint_as_float((static_cast<unsigned>(weight) << 16) +
                         static_cast<unsigned>(static_cast<int>(remainder)));
}
__device__ __forceinline__ void Split(float p, Bf16& weight, int16_t& remainder) {
  weight = FromFloat<Bf16>(p);
  remainder = static_cast<int16_t>(__float_as_uint(p) - (static_cast<unsigned>(weight) << 16));
}

template <typename Gradient, bool kL2, bool kAligned>
__global__ void SplitKernel(AdamScalars s, const double* coefficient, int16_t* remainder, float* m,
                            float* v, const Gradient* gradient, Bf16* weight, uint64_t n) {
  if (!TakeCoefficient(coefficient, s)) return;
  for (uint64_t i = ThreadOfGrid() * kPack; i < n; i += ThreadsOfGrid() * kPack) {
    const uint64_t count = n - i;
    Bf16 weights[kPack];
    int16_t remainders[kPack];
    float ms[kPack], vs[kPack];
    Gradient gradients[kPack];
    Load<kAligned>(weight + i, count, weights);
    Load<kAligned>(remainder + i, count, remainders);
    Load<kAligned>(m + i, count, ms);
    Load<kAligned>(v + i, count, vs);
    Load<kAligned>(gradient + i, count, gradients);
    for (unsigned j = 0; j < kPack; ++j) {
      const Element before = {Join(weights[j], remainders[j]), ms[j], vs[j]};
      const Element e = Updated<kL2>(s, before, ToFloat(gradients[j]));
      Split(e.p, weights[j], remainders[j]);
      ms[j] = e.m;
      vs[j] = e.v;
    }
    Store<kAligned>(weights, count, weight + i);
    Store<kAligned>(remainders, count, remainder + i);
    Store<kAligned>(ms, count, m + i);
    Store<kAligned>(vs, count, v + i);
  }
}

// So many lanes take the elements that share a scale.
constexpr unsigned kLanesOfScale = kScaledElements / kPack;

__device__ __forceinline__ unsigned LargestOfScale(unsigned bits) {
  for (int step = kLanesOfScale / 2; step > 0; step /= 2)
    bits = max(bits, __shfl_xor_sync(kAllLanes, bits, step));
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

template <typename Gradient, bool kL2, bool kAligned>
__global__ void Int8Kernel(AdamScalars s, const double* coefficient, Int8Places at,
                           const Gradient* gradient, uint64_t n) {
  static_assert(32 % kLanesOfScale == 0);
  if (!TakeCoefficient(coefficient, s)) return;
  constexpr unsigned kScalesOfWarp = 32 / kLanesOfScale;
  const uint64_t num_scales = (n + kScaledElements - 1) / kScaledElements;
  // All lanes of a warp go on as long as one has a scale: they compare what is largest.
  for (uint64_t first = ThreadOfGrid() / 32 * kScalesOfWarp; first < num_scales;
       first += ThreadsOfGrid() / 32 * kScalesOfWarp) {
    const uint64_t scale = first + threadIdx.x % 32 / kLanesOfScale;
    const uint64_t i = scale * kScaledElements + threadIdx.x % kLanesOfScale * kPack;
    const uint64_t count = n > i ? n - i : 0;  // beyond: as if state and gradient were 0
    const bool has_scale = scale < num_scales;
    const int m_base = CodeBase(has_scale ? at.m_scales[scale] : uint8_t{0}, kMCodes);
    const int v_base = CodeBase(has_scale ? at.v_scales[scale] : uint8_t{0}, kVCodes);
    Bf16 weights[kPack];
    int16_t remainders[kPack];
    uint8_t ms[kPack], vs[kPack];
    Gradient gradients[kPack];
    Load<kAligned>(at.weight + i, count, weights);
    Load<kAligned>(at.remainder + i, count, remainders);
    Load<kAligned>(at.m + i, count, ms);
    Load<kAligned>(at.v + i, count, vs);
    Load<kAligned>(gradient + i, count, gradients);
    Element e[kPack];
    unsigned largest_m = 0, largest_v = 0;
    for (unsigned j = 0; j < kPack; ++j) {
      const Element before = {Join(weights[j], remainders[j]), DecodeM(ms[j], m_base),
                              DecodeV(vs[j], v_base)};
      e[j] = Updated<kL2>(s, before, ToFloat(gradients[j]));
      if (j >= count) continue;
      largest_m = max(largest_m, __float_as_uint(e[j].m) & 0x7fffffffu);
      largest_v = max(largest_v, __float_as_uint(e[j].v) & 0x7fffffffu);
    }
    const uint8_t m_scale = ScaleOf(LargestOfScale(largest_m), kMCodes);
    const uint8_t v_scale = ScaleOf(LargestOfScale(largest_v), kVCodes);
    if (has_scale && threadIdx.x % kLanesOfScale == 0) {
      at.m_scales[scale] = m_scale;
      at.v_scales[scale] = v_scale;
    }
    for (unsigned j = 0; j < kPack; ++j) {
      Split(e[j].p, weights[j], remainders[j]);
      const uint32_t random = DitherBits(at.dither + static_cast<uint32_t>(i + j));
      ms[j] = static_cast<uint8_t>(EncodeM(e[j].m, CodeBase(m_scale, kMCodes), DitherOfM(random)));
      vs[j] = static_cast<uint8_t>(EncodeV(e[j].v, CodeBase(v_scale, kVCodes), DitherOfV(random)));
    }
    Store<kAligned>(weights, count, at.weight + i);
    Store<kAligned>(remainders, count, at.remainder + i);
    Store<kAligned>(ms, count, at.m + i);
    Store<kAligned>(vs, count, at.v + i);
  }
}

LaunchShape ShapeFor(uint64_t num_elements) {
  constexpr uint64_t kElementsOfBlock = kThreads * kPack;
  const uint64_t blocks = (num_elements + kElementsOfBlock - 1) / kElementsOfBlock;
  return {.grid = dim3(static_cast<unsigned>(std::min<uint64_t>(blocks, kMostBlocks))),
          .block = dim3(kThreads)};
}

// Whether packs may be loaded and stored at once. What is not there is.
bool IsAligned(const void* array, size_t element_bytes) {
  return reinterpret_cast<uintptr_t>(array) % (kPack * element_bytes) == 0;
}
bool AreAligned(const AdamSlices& in) {
  const size_t master_bytes = in.format == StateFormat::kFp32 ? 4 : 2;
  const size_t moment_bytes = in.format == StateFormat::kInt8 ? 1 : 4;
  return IsAligned(in.master, master_bytes) && IsAligned(in.m, moment_bytes) &&
         IsAligned(in.v, moment_bytes) && IsAligned(in.gradient, SizeOf(in.gradient_dtype)) &&
         IsAligned(in.weight, 2);
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
    const bool is_l2 = s.mode == AdamMode::kAdam;
    if (AreAligned(in))
      return is_l2 ? StepAs<Gradient, true, true>(stream, s, in, coefficient)
                   : StepAs<Gradient, false, true>(stream, s, in, coefficient);
    return is_l2 ? StepAs<Gradient, true, false>(stream, s, in, coefficient)
                 : StepAs<Gradient, false, false>(stream, s, in, coefficient);
  }

  template <typename Gradient, bool kL2, bool kAligned>
  Status StepAs(const tiering::StreamContext& stream, const AdamScalars& s, const AdamSlices& in,
                const double* coefficient) {
    const auto* gradient = reinterpret_cast<const Gradient*>(in.gradient);
    auto* weight = reinterpret_cast<Bf16*>(in.weight);
    auto* remainder = reinterpret_cast<int16_t*>(in.master);
    const uint64_t n = in.num_elements;
    const LaunchShape shape = ShapeFor(n);
    if (in.format == StateFormat::kInt8) {
      const Int8Places places = {remainder,
                                 reinterpret_cast<uint8_t*>(in.m),
                                 reinterpret_cast<uint8_t*>(in.v),
                                 in.m_scales,
                                 in.v_scales,
                                 weight,
                                 in.dither};
      return Launch(&Int8Kernel<Gradient, kL2, kAligned>, shape, stream, s, coefficient, places,
                    gradient, n);
    }
    auto* m = reinterpret_cast<float*>(in.m);
    auto* v = reinterpret_cast<float*>(in.v);
    if (in.format == StateFormat::kSplit)
      return Launch(&SplitKernel<Gradient, kL2, kAligned>, shape, stream, s, coefficient, remainder,
                    m, v, gradient, weight, n);
    auto* master = reinterpret_cast<float*>(in.master);
    if (weight == nullptr)
      return Launch(&Fp32Kernel<Gradient, Bf16, kL2, false, kAligned>, shape, stream, s,
                    coefficient, master, m, v, gradient, weight, n);
    if (in.weight_dtype == DType::kBf16)
      return Launch(&Fp32Kernel<Gradient, Bf16, kL2, true, kAligned>, shape, stream, s, coefficient,
                    master, m, v, gradient, weight, n);
    return Launch(&Fp32Kernel<Gradient, F16, kL2, true, kAligned>, shape, stream, s, coefficient,
                  master, m, v, gradient, reinterpret_cast<F16*>(in.weight), n);
  }
};

}  // namespace

Result<std::unique_ptr<DeviceAdam>> MakeCudaAdam() {
  return std::unique_ptr<DeviceAdam>(std::make_unique<CudaAdam>());
}

}  // namespace strata::engine
