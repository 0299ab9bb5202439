#include "engine/model/llama.h"

#include "engine/model/internal/attention_unit.h"
#include "engine/model/internal/head_unit.h"
#include "engine/model/internal/mlp_unit.h"

namespace strata::engine {
namespace {

// `ids` or `targets`: num_tokens of them.
std::span<const int32_t> Int32s(std::span<std::byte> bytes, uint64_t count) {
  STRATA_CHECK(bytes.size() >= count * sizeof(int32_t));
  return {reinterpret_cast<const int32_t*>(bytes.data()), count};
}

double* LossSum(std::span<std::byte> bytes) {
  STRATA_CHECK(bytes.size() >= sizeof(double));
  return reinterpret_cast<double*>(bytes.data());
}

Matrix Table(const LlamaConfig& config, std::span<std::byte> bytes, DType dtype) {
  Matrix table = DenseMatrix(bytes.data(), dtype, config.vocab_size, config.hidden_size);
  STRATA_CHECK(bytes.size() >= table.size_bytes());
  return table;
}

}  // namespace

LlamaModel::LlamaModel(const LlamaConfig& config, DType dtype, const BatchShape& batch,
                       Kernels* kernels)
    : config_(config),
      dtype_(dtype),
      batch_(batch),
      kernels_(kernels),
      attention_(std::make_unique<AttentionUnit>(config, dtype, batch, kernels)),
      mlp_(std::make_unique<MlpUnit>(config, dtype, batch, kernels)),
      head_(std::make_unique<HeadUnit>(config, dtype, batch, kernels)) {
  STRATA_CHECK(batch.num_tokens() > 0);
}

LlamaModel::~LlamaModel() = default;
LlamaModel::LlamaModel(LlamaModel&&) noexcept = default;
LlamaModel& LlamaModel::operator=(LlamaModel&&) noexcept = default;

uint64_t LlamaModel::ActivationBytes() const {
  return batch_.num_tokens() * config_.hidden_size * SizeOf(dtype_);
}

Matrix LlamaModel::Activation(Bytes bytes) const {
  STRATA_CHECK(bytes.size() >= ActivationBytes());
  return DenseMatrix(bytes.data(), dtype_, batch_.num_tokens(), config_.hidden_size);
}

uint64_t LlamaModel::KeptBytes(UnitKind kind) const {
  if (kind == UnitKind::kAttention) return attention_->KeptBytes();
  if (kind == UnitKind::kMlp) return mlp_->KeptBytes();
  return 0;
}

uint64_t LlamaModel::WorkspaceBytes(UnitKind kind, Pass pass, Intermediates intermediates) const {
  switch (kind) {
    case UnitKind::kEmbedding:
      return 0;
    case UnitKind::kAttention:
      return attention_->WorkspaceBytes(pass, intermediates);
    case UnitKind::kMlp:
      return mlp_->WorkspaceBytes(pass, intermediates);
    case UnitKind::kHead:
      break;
  }
  return head_->WorkspaceBytes(pass);
}

double LlamaModel::Flops(UnitKind kind, Pass pass, Intermediates intermediates) const {
  switch (kind) {
    case UnitKind::kEmbedding:
      return 0;
    case UnitKind::kAttention:
      return attention_->Flops(pass, intermediates);
    case UnitKind::kMlp:
      return mlp_->Flops(pass, intermediates);
    case UnitKind::kHead:
      break;
  }
  return head_->Flops(pass);
}

Status LlamaModel::EmbeddingForward(const Stream& stream, Bytes weights, Bytes ids, Bytes y) const {
  return kernels_->EmbeddingForward(stream, Table(config_, weights, dtype_),
                                    Int32s(ids, batch_.num_tokens()), Activation(y));
}

Status LlamaModel::EmbeddingBackward(const Stream& stream, Bytes ids, Bytes dy,
                                     Bytes gradient) const {
  return kernels_->EmbeddingBackward(stream, Int32s(ids, batch_.num_tokens()), Activation(dy),
                                     Table(config_, gradient, DType::kF32));
}

Status LlamaModel::AttentionForward(const Stream& stream, Bytes weights, Bytes x, Bytes y,
                                    Bytes kept, Bytes workspace) const {
  return attention_->Forward(stream, weights, Activation(x), Activation(y), kept, workspace);
}

Status LlamaModel::MlpForward(const Stream& stream, Bytes weights, Bytes x, Bytes y, Bytes kept,
                              Bytes workspace) const {
  return mlp_->Forward(stream, weights, Activation(x), Activation(y), kept, workspace);
}

Status LlamaModel::AttentionBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d,
                                     Bytes kept, Bytes gradient, Bytes workspace) const {
  return attention_->Backward(stream, weights, Activation(x), Activation(d), kept, gradient,
                              workspace);
}

Status LlamaModel::MlpBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d, Bytes kept,
                               Bytes gradient, Bytes workspace) const {
  return mlp_->Backward(stream, weights, Activation(x), Activation(d), kept, gradient, workspace);
}

Status LlamaModel::Head(const Stream& stream, const HeadOperands& unit, Bytes x, Bytes targets,
                        float gradient_scale, Bytes d, Bytes loss_sum, Bytes workspace) const {
  return head_->LossAndGradients(stream, unit, Activation(x), Int32s(targets, batch_.num_tokens()),
                                 gradient_scale, Activation(d), LossSum(loss_sum), workspace);
}

Status LlamaModel::HeadLoss(const Stream& stream, const HeadOperands& unit, Bytes x, Bytes targets,
                            Bytes loss_sum, Bytes workspace) const {
  return head_->Loss(stream, unit, Activation(x), Int32s(targets, batch_.num_tokens()),
                     LossSum(loss_sum), workspace);
}

}  // namespace strata::engine
