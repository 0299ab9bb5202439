#include "engine/model/internal/mlp_unit.h"

#include <algorithm>

#include "engine/model/internal/unit_ops.h"

namespace strata::engine {
namespace {

enum Tensor : size_t { kNorm, kGate, kUp, kDown };

// Every chunk reads and writes the fp32 weight gradient once; with this many rows that is hidden
// behind its products. A constant, since the order of sums, and so the bits, hang on it.
constexpr uint64_t kMaxChunkRows = 2048;

}  // namespace

MlpUnit::MlpUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels)
    : dtype_(dtype),
      kernels_(kernels),
      spec_(UnitOf(config, UnitKind::kMlp, 0)),
      num_tokens_(batch.num_tokens()),
      hidden_size_(config.hidden_size),
      intermediate_size_(config.intermediate_size),
      chunk_rows_(std::min(num_tokens_, kMaxChunkRows)),
      eps_(static_cast<float>(config.rms_norm_eps)) {}

std::optional<MlpUnit::Gates> MlpUnit::KeptGates(Bytes kept) const {
  if (kept.empty()) return {};
  WorkspaceLayout layout(kept);
  Gates gates;
  gates.gate = layout.TakeMatrix(dtype_, num_tokens_, intermediate_size_);
  gates.up = layout.TakeMatrix(dtype_, num_tokens_, intermediate_size_);
  return gates;
}

MlpUnit::Buffers MlpUnit::LayOut(WorkspaceLayout& layout, const std::optional<Gates>& kept,
                                 Pass pass, uint64_t rows) const {
  Buffers buffers;
  buffers.gate = kept ? kept->gate : layout.TakeMatrix(dtype_, rows, intermediate_size_);
  buffers.up = kept ? kept->up : layout.TakeMatrix(dtype_, rows, intermediate_size_);
  if (pass == Pass::kBackward) buffers.h = layout.TakeMatrix(dtype_, rows, hidden_size_);
  const uint64_t mark = layout.used_bytes();
  buffers.act = layout.TakeMatrix(dtype_, rows, intermediate_size_);
  if (pass == Pass::kForward) return buffers;  // h is made in y's memory
  layout.Rewind(mark);  // once the gradients of gate and up are there, act is not needed for dh
  buffers.dh = layout.TakeMatrix(DType::kF32, rows, hidden_size_);
  return buffers;
}

uint64_t MlpUnit::KeptBytes() const {
  WorkspaceLayout layout;
  for (int i = 0; i < 2; ++i) layout.TakeMatrix(dtype_, num_tokens_, intermediate_size_);
  return layout.peak_bytes();
}

uint64_t MlpUnit::WorkspaceBytes(Pass pass, Intermediates intermediates) const {
  WorkspaceLayout layout;
  std::optional<Gates> kept;
  if (intermediates == Intermediates::kKeep) kept.emplace();
  LayOut(layout, kept, pass, chunk_rows_);
  return layout.peak_bytes();
}

double MlpUnit::Flops(Pass pass, Intermediates intermediates) const {
  const double product = 2 * static_cast<double>(num_tokens_) * static_cast<double>(hidden_size_) *
                         static_cast<double>(intermediate_size_);
  if (pass == Pass::kForward) return 3 * product;
  return intermediates == Intermediates::kRecompute ? (2 + 6) * product : 6 * product;
}

Status MlpUnit::Project(const Stream& stream, const Parameters& parameters, const Matrix& x,
                        const Buffers& b) const {
  STRATA_RETURN_IF_ERROR(kernels_->RmsNormForward(stream, x, parameters.norm(), eps_, b.h));
  STRATA_RETURN_IF_ERROR(Linear(*kernels_, stream, b.h, parameters.Weight(kGate), b.gate));
  return Linear(*kernels_, stream, b.h, parameters.Weight(kUp), b.up);
}

Status MlpUnit::ForwardRows(const Stream& stream, const Parameters& parameters, const Matrix& x,
                            const Matrix& y, const std::optional<Gates>& kept,
                            Bytes workspace) const {
  WorkspaceLayout layout(workspace);
  Buffers b = LayOut(layout, kept, Pass::kForward, x.rows);
  b.h = y;
  STRATA_RETURN_IF_ERROR(Project(stream, parameters, x, b));
  STRATA_RETURN_IF_ERROR(kernels_->SwiGluForward(stream, b.gate, b.up, b.act));
  STRATA_RETURN_IF_ERROR(Linear(*kernels_, stream, b.act, parameters.Weight(kDown), y));
  return kernels_->Add(stream, x, y, y);
}

template <typename Visit>
Status MlpUnit::ForChunks(const std::optional<Gates>& kept, Visit&& visit) const {
  for (uint64_t first = 0; first < num_tokens_; first += chunk_rows_) {
    const uint64_t count = std::min(chunk_rows_, num_tokens_ - first);
    std::optional<Gates> rows;
    if (kept) rows = Gates{RowRange(kept->gate, first, count), RowRange(kept->up, first, count)};
    STRATA_RETURN_IF_ERROR(visit(first, count, rows));
  }
  return OkStatus();
}

Status MlpUnit::Forward(const Stream& stream, Bytes weights, const Matrix& x, const Matrix& y,
                        Bytes kept, Bytes workspace) const {
  const Parameters parameters(spec_, dtype_, weights, {});
  return ForChunks(KeptGates(kept), [&](uint64_t first, uint64_t count, const auto& gates) {
    return ForwardRows(stream, parameters, RowRange(x, first, count), RowRange(y, first, count),
                       gates, workspace);
  });
}

Status MlpUnit::ActivateBackward(const Stream& stream, const Parameters& parameters,
                                 const Matrix& dy, const Buffers& b) const {
  STRATA_RETURN_IF_ERROR(
      LinearWeightGradient(*kernels_, stream, dy, b.act, parameters.Gradient(kDown)));
  const Matrix& dact = b.act;  // act itself has done its duty
  STRATA_RETURN_IF_ERROR(LinearInputGradient(*kernels_, stream, dy, parameters.Weight(kDown), dact,
                                             Output::kOverwrite));
  return kernels_->SwiGluBackward(stream, b.gate, b.up, dact, b.gate, b.up);
}

Status MlpUnit::BackwardRows(const Stream& stream, const Parameters& parameters, const Matrix& x,
                             const Matrix& d, const std::optional<Gates>& kept,
                             Bytes workspace) const {
  WorkspaceLayout layout(workspace);
  const Buffers b = LayOut(layout, kept, Pass::kBackward, x.rows);
  STRATA_RETURN_IF_ERROR(kept ? kernels_->RmsNormForward(stream, x, parameters.norm(), eps_, b.h)
                              : Project(stream, parameters, x, b));
  STRATA_RETURN_IF_ERROR(kernels_->SwiGluForward(stream, b.gate, b.up, b.act));
  STRATA_RETURN_IF_ERROR(ActivateBackward(stream, parameters, d, b));
  STRATA_RETURN_IF_ERROR(
      LinearWeightGradient(*kernels_, stream, b.gate, b.h, parameters.Gradient(kGate)));
  STRATA_RETURN_IF_ERROR(
      LinearWeightGradient(*kernels_, stream, b.up, b.h, parameters.Gradient(kUp)));
  STRATA_RETURN_IF_ERROR(LinearInputGradient(*kernels_, stream, b.gate, parameters.Weight(kGate),
                                             b.dh, Output::kOverwrite));
  STRATA_RETURN_IF_ERROR(LinearInputGradient(*kernels_, stream, b.up, parameters.Weight(kUp), b.dh,
                                             Output::kAccumulate));
  return NormBackward(*kernels_, stream, parameters, eps_, x, b.dh, b.h, d);
}

Status MlpUnit::Backward(const Stream& stream, Bytes weights, const Matrix& x, const Matrix& d,
                         Bytes kept, Bytes gradient, Bytes workspace) const {
  const Parameters parameters(spec_, dtype_, weights, gradient);
  return ForChunks(KeptGates(kept), [&](uint64_t first, uint64_t count, const auto& gates) {
    return BackwardRows(stream, parameters, RowRange(x, first, count), RowRange(d, first, count),
                        gates, workspace);
  });
}

}  // namespace strata::engine
