#include "engine/optimizer/internal/adam_kernel.h"

#include "engine/optimizer/internal/adam_element.h"

namespace strata::engine::STRATA_ISA {
namespace {

// In both formats everything an element needs is loaded and stored once: the pass is bound by
// memory (tests/bench/engine/adam_vs_stream.cc).
//
// Weight: of the master's 16-bit copy, if it is written, too.
template <typename Gradient, bool kL2, bool kWeight, typename Weight = Bf16>
void StepFp32(AdamScalars s, float* __restrict master, float* __restrict m, float* __restrict v,
              const Gradient* __restrict gradient, Weight* __restrict weight, uint64_t n) {
  const auto step = [&](uint64_t i) {
    const Element e = Updated<kL2>(s, {master[i], m[i], v[i]}, ToFloat(gradient[i]));
    master[i] = e.p;
    m[i] = e.m;
    v[i] = e.v;
    if constexpr (kWeight) weight[i] = FromFloat<Weight>(e.p);
  };
  uint64_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    PrefetchGroup(master + i, m + i, v + i, gradient + i);
    if constexpr (kWeight) PrefetchGroup(weight + i);
    for (uint64_t j = 0; j < kGroup; ++j) step(i + j);
  }
  for (; i < n; ++i) step(i);
}

// The master's halves, as in split_master.h.
inline float Join(Bf16 rounded, int16_t remainder) {
  return std::bit_cast<float>((static_cast<uint32_t>(rounded) << 16) +
                              static_cast<uint32_t>(int32_t{remainder}));
}
inline int16_t Remainder(float value, Bf16 rounded) {
  return static_cast<int16_t>(std::bit_cast<uint32_t>(value) -
                              (static_cast<uint32_t>(rounded) << 16));
}

template <typename Gradient, bool kL2>
void StepSplit(AdamScalars s, int16_t* __restrict remainder, float* __restrict m,
               float* __restrict v, const Gradient* __restrict gradient, Bf16* __restrict weight,
               uint64_t n) {
  const auto step = [&](uint64_t i) {
    const Element e =
        Updated<kL2>(s, {Join(weight[i], remainder[i]), m[i], v[i]}, ToFloat(gradient[i]));
    const Bf16 rounded = FromFloat<Bf16>(e.p);
    weight[i] = rounded;
    remainder[i] = Remainder(e.p, rounded);
    m[i] = e.m;
    v[i] = e.v;
  };
  uint64_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    PrefetchGroup(remainder + i, m + i, v + i, gradient + i, weight + i);
    for (uint64_t j = 0; j < kGroup; ++j) step(i + j);
  }
  for (; i < n; ++i) step(i);
}

template <typename Gradient, bool kL2>
void StepAs(const AdamScalars& s, const AdamSlices& in) {
  const auto* gradient = reinterpret_cast<const Gradient*>(in.gradient);
  auto* weight = reinterpret_cast<Bf16*>(in.weight);
  auto* m = reinterpret_cast<float*>(in.m);
  auto* v = reinterpret_cast<float*>(in.v);
  if (in.format == StateFormat::kSplit) {
    return StepSplit<Gradient, kL2>(s, reinterpret_cast<int16_t*>(in.master), m, v, gradient,
                                    weight, in.num_elements);
  }
  auto* master = reinterpret_cast<float*>(in.master);
  if (weight == nullptr) {
    StepFp32<Gradient, kL2, false>(s, master, m, v, gradient, weight, in.num_elements);
  } else if (in.weight_dtype == DType::kBf16) {
    StepFp32<Gradient, kL2, true>(s, master, m, v, gradient, weight, in.num_elements);
  } else {
    StepFp32<Gradient, kL2, true>(s, master, m, v, gradient, reinterpret_cast<F16*>(in.weight),
                                  in.num_elements);
  }
}

void Step(const AdamScalars& s, const AdamSlices& in) {
  if (in.format == StateFormat::kInt8) return StepInt8(s, in);
  WithElementType(in.gradient_dtype, [&]<typename Gradient>(Gradient) {
    if (s.mode == AdamMode::kAdam) {
      StepAs<Gradient, true>(s, in);
    } else {
      StepAs<Gradient, false>(s, in);
    }
  });
}

}  // namespace

extern const AdamKernels kAdamKernels;
const AdamKernels kAdamKernels = {.step = &Step};

}  // namespace strata::engine::STRATA_ISA
