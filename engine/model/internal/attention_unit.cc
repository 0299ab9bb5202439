#include "engine/model/internal/attention_unit.h"

#include "engine/model/internal/rope_frequencies.h"
#include "engine/model/internal/unit_ops.h"

namespace strata::engine {
namespace {

enum Tensor : size_t { kNorm, kQuery, kKey, kValue, kOut };

}  // namespace

AttentionUnit::AttentionUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch,
                             Kernels* kernels)
    : dtype_(dtype),
      kernels_(kernels),
      spec_(UnitsOf(config, UnitKind::kAttention, 0, kUncut).front()),
      shape_{.batch = batch.micro_batch,
             .seq_len = batch.seq_len,
             .num_heads = config.num_attention_heads,
             .num_kv_heads = config.num_key_value_heads,
             .head_dim = config.head_dim},
      num_tokens_(batch.num_tokens()),
      hidden_size_(config.hidden_size),
      query_size_(config.num_attention_heads * config.head_dim),
      key_value_size_(config.num_key_value_heads * config.head_dim),
      eps_(static_cast<float>(config.rms_norm_eps)),
      inverse_frequency_(InverseFrequencies(config)) {}

void AttentionUnit::LayOutIntermediates(WorkspaceLayout& layout, Buffers& buffers) const {
  buffers.q = layout.TakeMatrix(dtype_, num_tokens_, query_size_);
  buffers.k = layout.TakeMatrix(dtype_, num_tokens_, key_value_size_);
  buffers.v = layout.TakeMatrix(dtype_, num_tokens_, key_value_size_);
  buffers.out = layout.TakeMatrix(dtype_, num_tokens_, query_size_);
  buffers.log_sum_exp = layout.Take(shape_.num_heads * num_tokens_ * sizeof(float));
}

AttentionUnit::Buffers AttentionUnit::LayOut(WorkspaceLayout& layout, WorkspaceLayout* kept,
                                             Pass pass) const {
  Buffers buffers;
  const uint64_t kernel_bytes = kernels_->AttentionWorkspaceBytes(shape_, dtype_);
  buffers.product_workspace = layout.Take(kernels_->MatMulWorkspaceBytes());
  if (pass == Pass::kForward) {  // h is made in y's memory
    LayOutIntermediates(kept != nullptr ? *kept : layout, buffers);
    buffers.kernel_workspace = layout.Take(kernel_bytes);
    return buffers;
  }
  buffers.two_pass_workspace = layout.Take(kernels_->TwoPassWorkspaceBytes());
  buffers.h = layout.TakeMatrix(dtype_, num_tokens_, hidden_size_);
  buffers.dq = layout.TakeMatrix(dtype_, num_tokens_, query_size_);
  buffers.dk = layout.TakeMatrix(dtype_, num_tokens_, key_value_size_);
  buffers.dv = layout.TakeMatrix(dtype_, num_tokens_, key_value_size_);
  const uint64_t mark = layout.used_bytes();
  LayOutIntermediates(kept != nullptr ? *kept : layout, buffers);
  buffers.kernel_workspace = layout.Take(kernel_bytes);
  buffers.dout = layout.TakeMatrix(dtype_, num_tokens_, query_size_);
  layout.Rewind(mark);  // once dq, dk and dv are there, nothing else is needed for dh
  buffers.dh = layout.TakeMatrix(DType::kF32, num_tokens_, hidden_size_);
  return buffers;
}

uint64_t AttentionUnit::KeptBytes() const {
  WorkspaceLayout kept;
  Buffers buffers;
  LayOutIntermediates(kept, buffers);
  return kept.peak_bytes();
}

uint64_t AttentionUnit::WorkspaceBytes(Pass pass, Intermediates intermediates) const {
  WorkspaceLayout layout, kept;
  LayOut(layout, intermediates == Intermediates::kKeep ? &kept : nullptr, pass);
  return layout.peak_bytes();
}

double AttentionUnit::Flops(Pass pass, Intermediates intermediates) const {
  const double tokens = static_cast<double>(num_tokens_);
  const double hidden = static_cast<double>(hidden_size_);
  const double query = static_cast<double>(query_size_);
  const double qkv = 2 * tokens * hidden * (query + 2 * static_cast<double>(key_value_size_));
  const double out = 2 * tokens * hidden * query;
  // One product of scores, over the keys that a query sees: half of the square.
  const double scores = tokens * (static_cast<double>(shape_.seq_len) + 1) * query;
  if (pass == Pass::kForward) return qkv + out + 2 * scores;
  const double again = intermediates == Intermediates::kRecompute ? qkv + 2 * scores : 0;
  return again + 2 * (qkv + out) + 5 * scores;
}

Status AttentionUnit::Rope(const Stream& stream, const Matrix& x, int direction) const {
  return kernels_->Rope(stream, x, shape_.seq_len, shape_.head_dim, inverse_frequency_, 1.0f,
                        direction);
}

Status AttentionUnit::Attend(const Stream& stream, const Parameters& parameters, const Matrix& x,
                             const Buffers& b) const {
  STRATA_RETURN_IF_ERROR(kernels_->RmsNormForward(stream, x, parameters.norm(), eps_, b.h));
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(products.Linear(b.h, parameters.Weight(kQuery), b.q));
  STRATA_RETURN_IF_ERROR(products.Linear(b.h, parameters.Weight(kKey), b.k));
  STRATA_RETURN_IF_ERROR(products.Linear(b.h, parameters.Weight(kValue), b.v));
  STRATA_RETURN_IF_ERROR(Rope(stream, b.q, +1));
  STRATA_RETURN_IF_ERROR(Rope(stream, b.k, +1));
  return kernels_->AttentionForward(stream, shape_, b.q, b.k, b.v, b.out,
                                    reinterpret_cast<float*>(b.log_sum_exp.data()),
                                    b.kernel_workspace);
}

Status AttentionUnit::Forward(const Stream& stream, Bytes weights, const Matrix& x, const Matrix& y,
                              Bytes kept, Bytes workspace) const {
  const Parameters parameters(spec_, dtype_, weights, {});
  WorkspaceLayout layout(workspace), kept_layout(kept);
  Buffers b = LayOut(layout, kept.empty() ? nullptr : &kept_layout, Pass::kForward);
  b.h = y;
  STRATA_RETURN_IF_ERROR(Attend(stream, parameters, x, b));
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(products.Linear(b.out, parameters.Weight(kOut), y));
  return kernels_->Add(stream, x, y, y);
}

Status AttentionUnit::AttendBackward(const Stream& stream, const Parameters& parameters,
                                     const Matrix& dy, const Buffers& b) const {
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(products.WeightGradient(dy, b.out, parameters.Gradient(kOut)));
  STRATA_RETURN_IF_ERROR(
      products.InputGradient(dy, parameters.Weight(kOut), b.dout, Output::kOverwrite));
  STRATA_RETURN_IF_ERROR(kernels_->AttentionBackward(stream, shape_, b.q, b.k, b.v, b.out,
                                                     reinterpret_cast<float*>(b.log_sum_exp.data()),
                                                     b.dout, b.dq, b.dk, b.dv, b.kernel_workspace));
  STRATA_RETURN_IF_ERROR(Rope(stream, b.dq, -1));
  return Rope(stream, b.dk, -1);
}

Status AttentionUnit::Backward(const Stream& stream, Bytes weights, const Matrix& x,
                               const Matrix& d, Bytes kept, Bytes gradient, Bytes workspace) const {
  const Parameters parameters(spec_, dtype_, weights, gradient);
  WorkspaceLayout layout(workspace), kept_layout(kept);
  const Buffers b = LayOut(layout, kept.empty() ? nullptr : &kept_layout, Pass::kBackward);
  STRATA_RETURN_IF_ERROR(kept.empty()
                             ? Attend(stream, parameters, x, b)
                             : kernels_->RmsNormForward(stream, x, parameters.norm(), eps_, b.h));
  STRATA_RETURN_IF_ERROR(AttendBackward(stream, parameters, d, b));
  const std::pair<Tensor, Matrix> projections[] = {{kQuery, b.dq}, {kKey, b.dk}, {kValue, b.dv}};
  const Products products{*kernels_, stream, b.product_workspace};
  Output output = Output::kOverwrite;
  for (const auto& [tensor, dy] : projections) {
    STRATA_RETURN_IF_ERROR(products.WeightGradient(dy, b.h, parameters.Gradient(tensor)));
    STRATA_RETURN_IF_ERROR(products.InputGradient(dy, parameters.Weight(tensor), b.dh, output));
    output = Output::kAccumulate;
  }
  return NormBackward(*kernels_, stream, parameters, eps_, x, b.dh, b.h, d, b.two_pass_workspace);
}

}  // namespace strata::engine
