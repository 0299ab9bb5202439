#include "engine/optimizer/internal/adam_kernel.h"

#include <cmath>

#include "engine/kernels/rows/elements.h"

namespace strata::engine::STRATA_ISA {
namespace {

// kWeight: whether the master's bf16 copy is written, too. Everything an element needs is loaded
// and stored once: the pass is bound by memory (tests/bench/engine/adam_bench.cc).
template <typename Gradient, bool kL2, bool kWeight>
void StepSlice(AdamScalars s, float* __restrict master, float* __restrict m, float* __restrict v,
               const Gradient* __restrict gradient, Bf16* __restrict weight, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    float p = master[i];
    float g = ToFloat(gradient[i]) * s.gradient_scale;
    if constexpr (kL2) {
      g += s.l2 * p;
    } else {
      p *= s.decay_factor;
    }
    const float m_new = s.beta1 * m[i] + s.one_minus_beta1 * g;
    const float v_new = s.beta2 * v[i] + s.one_minus_beta2 * (g * g);
    p -= s.step_size * m_new / (std::sqrt(v_new) * s.inv_sqrt_bias2 + s.eps);
    m[i] = m_new;
    v[i] = v_new;
    master[i] = p;
    if constexpr (kWeight) weight[i] = FromFloat<Bf16>(p);
  }
}

template <typename Gradient, bool kL2>
void StepAs(const AdamScalars& s, const AdamSlices& in) {
  const auto* gradient = reinterpret_cast<const Gradient*>(in.gradient);
  auto* weight = reinterpret_cast<Bf16*>(in.weight);
  const auto step =
      weight == nullptr ? &StepSlice<Gradient, kL2, false> : &StepSlice<Gradient, kL2, true>;
  step(s, in.master, in.m, in.v, gradient, weight, in.num_elements);
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
