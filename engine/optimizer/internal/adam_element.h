// What happens to one element, for the kernels of all formats.
//
// Everything is internal to its source file, as in engine/kernels/rows/elements.h.
#pragma once

#include <cmath>

#include "engine/kernels/rows/elements.h"
#include "engine/optimizer/adam.h"

namespace strata::engine {
namespace {

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

// A pass reads more streams than a core follows by itself while it also divides: lines are asked
// for so many elements ahead. Measured with tests/bench/engine/adam_vs_stream --threads 1 on a Xeon
// (Sapphire Rapids), as a part of the stream's speed: split 0.79 without, 0.96 with; from 256 to
// 1024 elements it made no difference.
constexpr uint64_t kAheadElements = 384;

// Work goes on in groups: so many elements fill whole cache lines of every array.
constexpr uint64_t kGroup = 64;

// The lines of a group that is kAheadElements further on. That may be beyond the array: asking for
// memory that is not there does nothing.
template <typename... T>
[[gnu::always_inline]] inline void PrefetchGroup(const T*... arrays) {
  constexpr uint64_t kLineBytes = 64;
  const auto fetch = [](const auto* array) {
    const auto* ahead = reinterpret_cast<const char*>(array + kAheadElements);
    for (uint64_t i = 0; i < kGroup * sizeof(*array); i += kLineBytes)
      __builtin_prefetch(ahead + i);
  };
  (fetch(arrays), ...);
}

}  // namespace
}  // namespace strata::engine
