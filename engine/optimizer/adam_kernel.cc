#include "engine/optimizer/internal/adam_kernel.h"

#include <cmath>

#include "engine/kernels/rows/elements.h"
#include "engine/optimizer/moment_codes.h"

namespace strata::engine::STRATA_ISA {
namespace {

// An element's state, as numbers.
struct Element {
  float p, m, v;
};

template <bool kL2>
inline Element Updated(const AdamScalars& s, Element e, float g) {
  g *= s.gradient_scale;
  if constexpr (kL2) {
    g += s.l2 * e.p;
  } else {
    e.p *= s.decay_factor;
  }
  e.m = s.beta1 * e.m + s.one_minus_beta1 * g;
  e.v = s.beta2 * e.v + s.one_minus_beta2 * (g * g);
  e.p -= s.step_size * e.m / (std::sqrt(e.v) * s.inv_sqrt_bias2 + s.eps);
  return e;
}

// As in split_master.h.
inline float Join(Bf16 rounded, int16_t remainder) {
  return std::bit_cast<float>((static_cast<uint32_t>(rounded) << 16) +
                              static_cast<uint32_t>(int32_t{remainder}));
}
inline int16_t Remainder(float value, Bf16 rounded) {
  return static_cast<int16_t>(std::bit_cast<uint32_t>(value) -
                              (static_cast<uint32_t>(rounded) << 16));
}

// In all three, everything an element needs is loaded and stored once: the pass is bound by memory
// (tests/bench/engine/adam_vs_stream.cc).
//
// kWeight: whether the master's bf16 copy is written, too.
template <typename Gradient, bool kL2, bool kWeight>
void StepFp32(AdamScalars s, float* __restrict master, float* __restrict m, float* __restrict v,
              const Gradient* __restrict gradient, Bf16* __restrict weight, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    const Element e = Updated<kL2>(s, {master[i], m[i], v[i]}, ToFloat(gradient[i]));
    master[i] = e.p;
    m[i] = e.m;
    v[i] = e.v;
    if constexpr (kWeight) weight[i] = FromFloat<Bf16>(e.p);
  }
}

template <typename Gradient, bool kL2>
void StepSplit(AdamScalars s, int16_t* __restrict remainder, float* __restrict m,
               float* __restrict v, const Gradient* __restrict gradient, Bf16* __restrict weight,
               uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    const Element e =
        Updated<kL2>(s, {Join(weight[i], remainder[i]), m[i], v[i]}, ToFloat(gradient[i]));
    const Bf16 rounded = FromFloat<Bf16>(e.p);
    weight[i] = rounded;
    remainder[i] = Remainder(e.p, rounded);
    m[i] = e.m;
    v[i] = e.v;
  }
}

// Where one block of int8 state is.
template <typename Gradient>
struct CodedBlock {
  int16_t* __restrict remainder;
  uint8_t* __restrict m;
  uint8_t* __restrict v;
  uint8_t* __restrict m_scale;
  uint8_t* __restrict v_scale;
  const Gradient* __restrict gradient;
  Bf16* __restrict weight;
  uint32_t dither;
};

inline uint32_t LargerMagnitude(uint32_t largest, float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
  return bits > largest ? bits : largest;
}

// n <= kScaledElements; a constant in all but a tensor's last block. In two passes over the cache,
// as a scale is known only after the last element.
template <typename Gradient, bool kL2>
[[gnu::always_inline]] inline void StepCodedBlock(const AdamScalars& s,
                                                  const CodedBlock<Gradient>& b, uint64_t n) {
  float m[kScaledElements], v[kScaledElements];
  uint32_t largest_m = 0, largest_v = 0;
  uint32_t m_base = CodeBase(*b.m_scale, kMCodes), v_base = CodeBase(*b.v_scale, kVCodes);
  for (uint64_t i = 0; i < n; ++i) {
    const Element e = Updated<kL2>(
        s, {Join(b.weight[i], b.remainder[i]), DecodeM(b.m[i], m_base), DecodeV(b.v[i], v_base)},
        ToFloat(b.gradient[i]));
    const Bf16 rounded = FromFloat<Bf16>(e.p);
    b.weight[i] = rounded;
    b.remainder[i] = Remainder(e.p, rounded);
    m[i] = e.m;
    v[i] = e.v;
    largest_m = LargerMagnitude(largest_m, e.m);
    largest_v = LargerMagnitude(largest_v, e.v);
  }
  *b.m_scale = ScaleOf(largest_m, kMCodes);
  *b.v_scale = ScaleOf(largest_v, kVCodes);
  m_base = CodeBase(*b.m_scale, kMCodes);
  v_base = CodeBase(*b.v_scale, kVCodes);
  for (uint64_t i = 0; i < n; ++i) {
    const uint32_t random = DitherBits(b.dither + static_cast<uint32_t>(i));
    b.m[i] = EncodeM(m[i], m_base, (random >> 16) << (kDroppedBits - 16));
    b.v[i] = EncodeV(v[i], v_base, (random & 0xffffu) << (kDroppedBits - 16));
  }
}

template <typename Gradient, bool kL2>
void StepInt8(const AdamScalars& s, const AdamSlices& in) {
  for (uint64_t i = 0; i < in.num_elements; i += kScaledElements) {
    const CodedBlock<Gradient> block{.remainder = reinterpret_cast<int16_t*>(in.master) + i,
                                     .m = reinterpret_cast<uint8_t*>(in.m) + i,
                                     .v = reinterpret_cast<uint8_t*>(in.v) + i,
                                     .m_scale = in.m_scales + i / kScaledElements,
                                     .v_scale = in.v_scales + i / kScaledElements,
                                     .gradient = reinterpret_cast<const Gradient*>(in.gradient) + i,
                                     .weight = reinterpret_cast<Bf16*>(in.weight) + i,
                                     .dither = in.dither + static_cast<uint32_t>(i)};
    if (in.num_elements - i >= kScaledElements) {
      StepCodedBlock<Gradient, kL2>(s, block, kScaledElements);
    } else {
      StepCodedBlock<Gradient, kL2>(s, block, in.num_elements - i);
    }
  }
}

template <typename Gradient, bool kL2>
void StepAs(const AdamScalars& s, const AdamSlices& in) {
  const auto* gradient = reinterpret_cast<const Gradient*>(in.gradient);
  auto* weight = reinterpret_cast<Bf16*>(in.weight);
  auto* m = reinterpret_cast<float*>(in.m);
  auto* v = reinterpret_cast<float*>(in.v);
  if (in.format == StateFormat::kInt8) return StepInt8<Gradient, kL2>(s, in);
  if (in.format == StateFormat::kSplit) {
    return StepSplit<Gradient, kL2>(s, reinterpret_cast<int16_t*>(in.master), m, v, gradient,
                                    weight, in.num_elements);
  }
  const auto step =
      weight == nullptr ? &StepFp32<Gradient, kL2, false> : &StepFp32<Gradient, kL2, true>;
  step(s, reinterpret_cast<float*>(in.master), m, v, gradient, weight, in.num_elements);
}

void Step(const AdamScalars& s, const AdamSlices& in) {
  WithElementType(in.gradient_dtype, [&]<typename Gradient>(Gradient) {
    if (s.mode == AdamMode::kAdam) {
      StepAs<Gradient, true>(s, in);
    } else {
      StepAs<Gradient, false>(s, in);
    }
  });
}

using DoubleLanes = double __attribute__((vector_size(kLanes * sizeof(double))));

double SumOfSquares(const std::byte* gradient, DType dtype, uint64_t num_elements) {
  DoubleLanes lanes{};
  WithElementType(dtype, [&]<typename Gradient>(Gradient) {
    const auto* from = reinterpret_cast<const Gradient*>(gradient);
    for (uint64_t i = 0; i < num_elements; i += kLanes) {
      const uint64_t left = num_elements - i;
      const Lanes part = LoadLanes(from + i, left < kLanes ? left : kLanes);
      const DoubleLanes wide = __builtin_convertvector(part, DoubleLanes);
      lanes += wide * wide;
    }
  });
  double sums[kLanes];
  std::memcpy(sums, &lanes, sizeof(sums));
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace

extern const AdamKernels kAdamKernels;
const AdamKernels kAdamKernels = {.step = &Step, .sum_of_squares = &SumOfSquares};

}  // namespace strata::engine::STRATA_ISA
