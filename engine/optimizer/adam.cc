#include "engine/optimizer/adam.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "engine/optimizer/internal/adam_kernel.h"
#include "engine/optimizer/moment_codes.h"
#include "engine/optimizer/numa_threads.h"

namespace strata::engine {
namespace {

// Small enough to share evenly, large enough that handing it out costs nothing; 1.8 MiB of state.
constexpr uint64_t kPieceElements = 65536;
static_assert(kPieceElements % kScaledElements == 0);

const AdamKernels& Best() {
  static const AdamKernels* const best = FindAdamKernels(InstructionSets().back());
  return *best;
}

AdamSlices PieceOf(const AdamSlices& slices, uint64_t begin) {
  const bool is_fp32 = slices.format == StateFormat::kFp32;
  const bool is_int8 = slices.format == StateFormat::kInt8;
  AdamSlices piece = slices;
  piece.master += begin * (is_fp32 ? sizeof(float) : sizeof(int16_t));
  piece.m += begin * (is_int8 ? 1 : sizeof(float));
  piece.v += begin * (is_int8 ? 1 : sizeof(float));
  if (is_int8) piece.m_scales += begin / kScaledElements;
  if (is_int8) piece.v_scales += begin / kScaledElements;
  piece.gradient += begin * SizeOf(slices.gradient_dtype);
  if (piece.weight != nullptr) piece.weight += begin * SizeOf(DType::kBf16);
  piece.dither += static_cast<uint32_t>(begin);
  piece.num_elements = std::min(kPieceElements, slices.num_elements - begin);
  return piece;
}

// Binds the calling thread if it is not. One that cannot be bound is only slower.
void StayOnNode(const NumaThreads& threads, uint32_t node) {
  thread_local uint32_t bound_to = UINT32_MAX;
  if (std::exchange(bound_to, node) == node) return;
  const Status bound = threads.bind_this_thread(node);
  if (!bound.ok()) Log(Severity::kWarning, "optimizer", "{}", bound.message());
}

}  // namespace

#define STRATA_DECLARE(name)             \
  namespace name {                       \
  extern const AdamKernels kAdamKernels; \
  }
STRATA_ISAS(STRATA_DECLARE)
#undef STRATA_DECLARE

const AdamKernels* FindAdamKernels(std::string_view instruction_set) {
#define STRATA_FIND(name) \
  if (instruction_set == #name) return &name::kAdamKernels;
  STRATA_ISAS(STRATA_FIND)
#undef STRATA_FIND
  return nullptr;
}

AdamScalars MakeAdamScalars(const AdamHyperparameters& hyper, double lr, uint64_t t,
                            double gradient_scale) {
  STRATA_CHECK(t >= 1);
  const double bias1 = 1 - std::pow(hyper.beta1, static_cast<double>(t));
  const double bias2 = 1 - std::pow(hyper.beta2, static_cast<double>(t));
  const bool decoupled = hyper.mode == AdamMode::kAdamW;
  return {.mode = hyper.mode,
          .gradient_scale = static_cast<float>(gradient_scale),
          .beta1 = static_cast<float>(hyper.beta1),
          .one_minus_beta1 = static_cast<float>(1 - hyper.beta1),
          .beta2 = static_cast<float>(hyper.beta2),
          .one_minus_beta2 = static_cast<float>(1 - hyper.beta2),
          .eps = static_cast<float>(hyper.eps),
          .step_size = static_cast<float>(lr / bias1),
          .inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(bias2)),
          .decay_factor = static_cast<float>(decoupled ? 1 - lr * hyper.weight_decay : 1),
          .l2 = static_cast<float>(decoupled ? 0 : hyper.weight_decay)};
}

uint32_t DitherSeed(uint64_t t, uint32_t unit) {
  return DitherBits(static_cast<uint32_t>(t) ^ DitherBits(unit + 1));
}

void AdamStep(const AdamScalars& scalars, const AdamSlices& slices, ThreadPool& pool) {
  const uint64_t num_pieces = (slices.num_elements + kPieceElements - 1) / kPieceElements;
  pool.ParallelFor(num_pieces,
                   [&](size_t i) { Best().step(scalars, PieceOf(slices, i * kPieceElements)); });
}

void AdamStepOnNodes(const AdamScalars& scalars, const AdamSlices& slices, ThreadPool& pool,
                     const NumaThreads& threads) {
  if (!threads.are_bound()) return AdamStep(scalars, slices, pool);
  STRATA_CHECK(threads.node_of_thread.size() >= pool.num_threads());
  const uint64_t num_pieces = (slices.num_elements + kPieceElements - 1) / kPieceElements;
  const auto num_nodes = static_cast<uint32_t>(threads.memory.bytes_by_node().size());
  // v stands for all of them: the slots of one update are filled one after the other.
  TileClaims claims(num_nodes, num_pieces, [&](uint64_t i) {
    return threads.memory.NodeOf(PieceOf(slices, i * kPieceElements).v);
  });
  pool.ParallelFor(num_pieces, [&](size_t, uint32_t thread) {
    const uint32_t node = threads.node_of_thread[thread];
    StayOnNode(threads, node);
    Best().step(scalars, PieceOf(slices, claims.Claim(node) * kPieceElements));
  });
}

double ClipCoefficient(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;  // NaN stays NaN
}

std::span<const std::string_view> AdamInstructionSets() { return InstructionSets(); }

void AdamStepWith(std::string_view instruction_set, const AdamScalars& scalars,
                  const AdamSlices& slices) {
  const AdamKernels* kernels = FindAdamKernels(instruction_set);
  STRATA_CHECK(kernels != nullptr);
  kernels->step(scalars, slices);
}

}  // namespace strata::engine
