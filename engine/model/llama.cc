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

}  // namespace

LlamaModel::LlamaModel(const LlamaConfig& config, DType dtype, const BatchShape& batch,
                       Kernels* kernels, uint64_t part_elements)
    : config_(config),
      vocabulary_(CutOf(config, UnitKind::kEmbedding, part_elements)),
      dtype_(dtype),
      batch_(batch),
      kernels_(kernels),
      attention_(std::make_unique<AttentionUnit>(config, dtype, batch, kernels)),
      mlp_(std::make_unique<MlpUnit>(config, part_elements, dtype, batch, kernels)),
      head_(std::make_unique<HeadUnit>(config, part_elements, dtype, batch, kernels)) {
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

Matrix LlamaModel::ActivationOrNone(Bytes bytes) const {
  return bytes.empty() ? Matrix{} : Activation(bytes);
}

uint64_t LlamaModel::SumBytes() const {
  return batch_.num_tokens() * config_.hidden_size * sizeof(float);
}

Matrix LlamaModel::Sum(Bytes bytes) const {
  if (bytes.empty()) return {};
  STRATA_CHECK(bytes.size() >= SumBytes());
  return DenseMatrix(bytes.data(), DType::kF32, batch_.num_tokens(), config_.hidden_size);
}

uint64_t LlamaModel::SoftmaxBytes() const { return batch_.num_tokens() * sizeof(SoftmaxRow); }

std::span<SoftmaxRow> LlamaModel::Softmax(Bytes bytes) const {
  STRATA_CHECK(bytes.size() >= SoftmaxBytes());
  return {reinterpret_cast<SoftmaxRow*>(bytes.data()), batch_.num_tokens()};
}

uint32_t LlamaModel::NumParts(UnitKind kind) const {
  switch (kind) {
    case UnitKind::kEmbedding:
      return vocabulary_.num_parts();
    case UnitKind::kAttention:
      return 1;
    case UnitKind::kMlp:
      return mlp_->num_parts();
    case UnitKind::kHead:
      break;
  }
  return head_->num_parts();
}

uint64_t LlamaModel::KeptBytes(UnitKind kind, const Tile& tile) const {
  if (kind == UnitKind::kAttention) return attention_->KeptBytes();
  if (kind == UnitKind::kMlp) return mlp_->KeptBytes(tile);
  return 0;
}

uint64_t LlamaModel::WorkspaceBytes(UnitKind kind, Pass pass, Intermediates intermediates,
                                    const Tile& tile) const {
  switch (kind) {
    case UnitKind::kEmbedding:
      return 0;
    case UnitKind::kAttention:
      return attention_->WorkspaceBytes(pass, intermediates);
    case UnitKind::kMlp:
      return mlp_->WorkspaceBytes(pass, intermediates, tile);
    case UnitKind::kHead:
      break;
  }
  return head_->WorkspaceBytes(pass, tile);
}

double LlamaModel::Flops(UnitKind kind, Pass pass, Intermediates intermediates,
                         const Tile& tile) const {
  switch (kind) {
    case UnitKind::kEmbedding:
      return 0;
    case UnitKind::kAttention:
      return attention_->Flops(pass, intermediates);
    case UnitKind::kMlp:
      return mlp_->Flops(pass, intermediates, tile);
    case UnitKind::kHead:
      break;
  }
  return head_->Flops(pass, tile);
}

Status LlamaModel::EmbeddingForward(const Stream& stream, const TileOperands& tile, Bytes ids,
                                    Bytes y) const {
  const std::span<const int32_t> tokens = Int32s(ids, batch_.num_tokens());
  for (uint32_t i = 0; i < tile.parts.size(); ++i) {
    const uint32_t part = tile.first_part + i;
    const Matrix table = DenseMatrix(tile.parts[i].weights.data(), dtype_, vocabulary_.size(part),
                                     config_.hidden_size);
    STRATA_CHECK(tile.parts[i].weights.size() >= table.size_bytes());
    STRATA_RETURN_IF_ERROR(
        kernels_->EmbeddingForward(stream, table, vocabulary_.begin(part), tokens, Activation(y)));
  }
  return OkStatus();
}

Status LlamaModel::EmbeddingBackward(const Stream& stream, const TileOperands& tile, Bytes ids,
                                     Bytes dy) const {
  for (uint32_t i = 0; i < tile.parts.size(); ++i) {
    const uint32_t part = tile.first_part + i;
    const Matrix table = DenseMatrix(tile.parts[i].gradient.data(), DType::kF32,
                                     vocabulary_.size(part), config_.hidden_size);
    STRATA_CHECK(tile.parts[i].gradient.size() >= table.size_bytes());
    STRATA_RETURN_IF_ERROR(kernels_->EmbeddingBackward(
        stream, Int32s(ids, batch_.num_tokens()), Activation(dy), vocabulary_.begin(part), table));
  }
  return OkStatus();
}

Status LlamaModel::AttentionForward(const Stream& stream, Bytes weights, Bytes x, Bytes y,
                                    Bytes kept, Bytes workspace) const {
  return attention_->Forward(stream, weights, Activation(x), Activation(y), kept, workspace);
}

Status LlamaModel::MlpForward(const Stream& stream, const TileOperands& tile, Bytes x, Bytes y,
                              Bytes sum, Bytes kept, Bytes workspace) const {
  return mlp_->Forward(stream, tile, Activation(x), ActivationOrNone(y), Sum(sum), kept, workspace);
}

Status LlamaModel::AttentionBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d,
                                     Bytes kept, Bytes gradient, Bytes workspace) const {
  return attention_->Backward(stream, weights, Activation(x), Activation(d), kept, gradient,
                              workspace);
}

Status LlamaModel::MlpBackward(const Stream& stream, const TileOperands& tile, Bytes x, Bytes d,
                               Bytes sum, Bytes kept, Bytes workspace) const {
  return mlp_->Backward(stream, tile, Activation(x), Activation(d), Sum(sum), kept, workspace);
}

Status LlamaModel::Head(const Stream& stream, const TileOperands& head, Bytes x, Bytes targets,
                        float gradient_scale, Bytes d, Bytes loss_sum, Bytes workspace) const {
  return head_->LossAndGradients(stream, head, Activation(x), Int32s(targets, batch_.num_tokens()),
                                 gradient_scale, Activation(d), LossSum(loss_sum), workspace);
}

Status LlamaModel::HeadLoss(const Stream& stream, const TileOperands& head, Bytes x, Bytes targets,
                            Bytes loss_sum, Bytes workspace) const {
  return head_->Loss(stream, head, Activation(x), Int32s(targets, batch_.num_tokens()),
                     LossSum(loss_sum), workspace);
}

Status LlamaModel::HeadStatistics(const Stream& stream, const TileOperands& tile, Bytes x,
                                  Bytes targets, Bytes softmax, Bytes workspace) const {
  return head_->Statistics(stream, tile, Activation(x), Int32s(targets, batch_.num_tokens()),
                           Softmax(softmax), workspace);
}

Status LlamaModel::HeadGradients(const Stream& stream, const TileOperands& tile, Bytes x,
                                 Bytes targets, float gradient_scale, Bytes softmax, Bytes sum,
                                 Bytes d, Bytes loss_sum, Bytes workspace) const {
  double* loss = loss_sum.empty() ? nullptr : LossSum(loss_sum);
  return head_->Gradients(stream, tile, Activation(x), Int32s(targets, batch_.num_tokens()),
                          gradient_scale, Softmax(softmax), Sum(sum), ActivationOrNone(d), loss,
                          workspace);
}

}  // namespace strata::engine
