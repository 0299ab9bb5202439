#include "engine/model/internal/head_unit.h"

#include <algorithm>

#include "aio/base/units.h"
#include "engine/model/internal/unit_ops.h"

namespace strata::engine {
namespace {

enum Tensor : size_t { kNorm, kLmHead };

// A chunk's logits should take about this much, but with a large vocabulary more than a few rows:
// every chunk reads lm_head and reads and writes its fp32 gradient once. Depends on the shape
// alone, since the order of sums, and so the bits, hang on it.
constexpr uint64_t kLogitsBytes = 12_MiB;
constexpr uint64_t kMinChunkRows = 128;

uint64_t ChunkRows(uint64_t num_tokens, uint64_t vocab_size, DType dtype) {
  const uint64_t row_bytes = vocab_size * (dtype == DType::kF32 ? 4 : 4 + SizeOf(dtype));
  return std::min(num_tokens, std::max(kMinChunkRows, kLogitsBytes / row_bytes));
}

}  // namespace

HeadUnit::HeadUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch,
                   Kernels* kernels)
    : dtype_(dtype),
      kernels_(kernels),
      spec_(UnitOf(config, UnitKind::kHead, 0)),
      embedding_spec_(UnitOf(config, UnitKind::kEmbedding, 0)),
      is_tied_(config.tie_word_embeddings),
      num_tokens_(batch.num_tokens()),
      hidden_size_(config.hidden_size),
      vocab_size_(config.vocab_size),
      chunk_rows_(ChunkRows(num_tokens_, vocab_size_, dtype)),
      eps_(static_cast<float>(config.rms_norm_eps)) {}

HeadUnit::Buffers HeadUnit::LayOut(WorkspaceLayout& layout, Pass pass, uint64_t rows) const {
  Buffers buffers;
  buffers.h = layout.TakeMatrix(dtype_, rows, hidden_size_);
  buffers.logits = layout.TakeMatrix(DType::kF32, rows, vocab_size_);
  const bool in_place = dtype_ == DType::kF32 || pass == Pass::kForward;
  buffers.dlogits = in_place ? buffers.logits : layout.TakeMatrix(dtype_, rows, vocab_size_);
  return buffers;
}

uint64_t HeadUnit::WorkspaceBytes(Pass pass) const {
  WorkspaceLayout layout;
  LayOut(layout, pass, chunk_rows_);
  return layout.peak_bytes();
}

double HeadUnit::Flops(Pass pass) const {
  const double product = 2 * static_cast<double>(num_tokens_) * static_cast<double>(hidden_size_) *
                         static_cast<double>(vocab_size_);
  return pass == Pass::kForward ? product : 3 * product;
}

HeadUnit::Tensors HeadUnit::TensorsOf(const LlamaModel::HeadOperands& operands) const {
  const Parameters own(spec_, dtype_, operands.head_weights, operands.head_gradient);
  if (!is_tied_) return {own, own.Weight(kLmHead), own.Gradient(kLmHead)};
  const Parameters embedding(embedding_spec_, dtype_, operands.embedding_weights,
                             operands.embedding_gradient);
  return {own, embedding.Weight(0), embedding.Gradient(0)};
}

Status HeadUnit::Logits(const Stream& stream, const Tensors& tensors, const Matrix& x,
                        const Buffers& b) const {
  STRATA_RETURN_IF_ERROR(kernels_->RmsNormForward(stream, x, tensors.norm.norm(), eps_, b.h));
  return Linear(*kernels_, stream, b.h, tensors.weight, b.logits);
}

Status HeadUnit::Loss(const Stream& stream, const LlamaModel::HeadOperands& operands,
                      const Matrix& x, Targets targets, double* loss_sum, Bytes workspace) const {
  const Tensors tensors = TensorsOf(operands);
  for (uint64_t first = 0; first < num_tokens_; first += chunk_rows_) {
    const uint64_t count = std::min(chunk_rows_, num_tokens_ - first);
    WorkspaceLayout layout(workspace);
    const Buffers b = LayOut(layout, Pass::kForward, count);
    STRATA_RETURN_IF_ERROR(Logits(stream, tensors, RowRange(x, first, count), b));
    STRATA_RETURN_IF_ERROR(kernels_->CrossEntropy(stream, b.logits, targets.subspan(first, count),
                                                  0.0f, b.dlogits, loss_sum));
  }
  return OkStatus();
}

Status HeadUnit::GradientRows(const Stream& stream, const Tensors& tensors, const Matrix& x,
                              Targets targets, float gradient_scale, const Matrix& d,
                              double* loss_sum, Bytes workspace) const {
  WorkspaceLayout layout(workspace);
  const Buffers b = LayOut(layout, Pass::kBackward, x.rows);
  STRATA_RETURN_IF_ERROR(Logits(stream, tensors, x, b));
  STRATA_RETURN_IF_ERROR(
      kernels_->CrossEntropy(stream, b.logits, targets, gradient_scale, b.dlogits, loss_sum));
  STRATA_RETURN_IF_ERROR(LinearWeightGradient(*kernels_, stream, b.dlogits, b.h, tensors.gradient));
  const Matrix& dh = b.h;  // h itself has done its duty
  STRATA_RETURN_IF_ERROR(
      LinearInputGradient(*kernels_, stream, b.dlogits, tensors.weight, dh, Output::kOverwrite));
  return kernels_->RmsNormBackward(stream, x, tensors.norm.norm(), eps_, dh, d,
                                   tensors.norm.norm_gradient());
}

Status HeadUnit::LossAndGradients(const Stream& stream, const LlamaModel::HeadOperands& operands,
                                  const Matrix& x, Targets targets, float gradient_scale,
                                  const Matrix& d, double* loss_sum, Bytes workspace) const {
  const Tensors tensors = TensorsOf(operands);
  // The norm's backward adds to d, and there is no gradient from further up.
  STRATA_RETURN_IF_ERROR(kernels_->Zero(stream, {d.data, d.size_bytes()}));
  for (uint64_t first = 0; first < num_tokens_; first += chunk_rows_) {
    const uint64_t count = std::min(chunk_rows_, num_tokens_ - first);
    STRATA_RETURN_IF_ERROR(GradientRows(stream, tensors, RowRange(x, first, count),
                                        targets.subspan(first, count), gradient_scale,
                                        RowRange(d, first, count), loss_sum, workspace));
  }
  return OkStatus();
}

}  // namespace strata::engine
