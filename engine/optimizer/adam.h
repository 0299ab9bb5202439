// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019): one fused pass per element.
//
// Each element's result depends on that element and the scalars alone, so how a tensor is sliced,
// which thread or instruction set updates it, never shows in the bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/kernels/dtype.h"
#include "engine/kernels/thread_pool.h"
#include "engine/optimizer/state_format.h"

namespace strata::engine {

struct NumaThreads;

enum class AdamMode : uint8_t {
  kAdamW,  // decoupled: p -= lr * weight_decay * p
  kAdam,   // L2: g += weight_decay * p
};

// In fp64: 1 - beta2 of a beta2 already rounded to fp32 would be off in the fifth digit.
struct AdamHyperparameters {
  AdamMode mode = AdamMode::kAdamW;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
};

// What one step shares over all elements, computed once in fp64 (torch.optim.AdamW's formulae):
// p = p * decay_factor - step_size * m / (sqrt(v) * inv_sqrt_bias2 + eps).
struct AdamScalars {
  AdamMode mode = AdamMode::kAdamW;
  float gradient_scale = 1;  // multiplies the gradient first: clip coefficient, unscale
  float beta1 = 0, one_minus_beta1 = 0;
  float beta2 = 0, one_minus_beta2 = 0;
  float eps = 0;
  float step_size = 0;       // lr / (1 - beta1^t)
  float inv_sqrt_bias2 = 0;  // 1 / sqrt(1 - beta2^t)
  float decay_factor = 1;    // AdamW: 1 - lr * weight_decay
  float l2 = 0;              // Adam: weight_decay
};
// t counts from 1.
AdamScalars MakeAdamScalars(const AdamHyperparameters& hyper, double lr, uint64_t t,
                            double gradient_scale);

// Slices of n elements each. What master, m and v hold is the format's: fp32 numbers; or, as
// master, the int16 remainders of split_master.h; or, as m and v, the codes of moment_codes.h, with
// a scale for each kScaledElements of them.
struct AdamSlices {
  StateFormat format = StateFormat::kFp32;
  std::byte* master = nullptr;
  std::byte* m = nullptr;
  std::byte* v = nullptr;
  uint8_t* m_scales = nullptr;  // int8
  uint8_t* v_scales = nullptr;  // int8
  const std::byte* gradient = nullptr;
  DType gradient_dtype = DType::kF32;
  // 16 bits. split, int8: half of the master, read and written. fp32: written; null when the master
  // itself is what the model computes with (precision fp32).
  std::byte* weight = nullptr;
  DType weight_dtype = DType::kBf16;  // fp32: or fp16
  // int8: the number of the first element among those rounded in this step; see DitherSeed.
  uint32_t dither = 0;
  uint64_t num_elements = 0;
};

// Where the numbers of a unit's elements start in step t: added to an element's place in its unit
// it gives AdamSlices::dither.
uint32_t DitherSeed(uint64_t t, uint32_t unit);

// Updates in place, on the pool's threads, with the best instruction set of this machine.
void AdamStep(const AdamScalars& scalars, const AdamSlices& slices, ThreadPool& pool);
// The same, each thread of the pool bound to its node and on that node's memory as long as there is
// some (numa_threads.h).
void AdamStepOnNodes(const AdamScalars& scalars, const AdamSlices& slices, ThreadPool& pool,
                     const NumaThreads& threads);

// The factor that brings a gradient of this norm to at most max_norm
// (torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6))); 1 when max_norm is 0 (no
// clipping).
double ClipCoefficient(double norm, double max_norm);

// Instruction sets this build has and this machine runs, worst first: "baseline", "avx2", "avx512".
std::span<const std::string_view> AdamInstructionSets();
// As AdamStep, by name, on the calling thread; for tests and benches.
void AdamStepWith(std::string_view instruction_set, const AdamScalars& scalars,
                  const AdamSlices& slices);

}  // namespace strata::engine
