#include "tests/engine/model/plain_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace strata::engine {
namespace {

using Buffer = PlainRun::Buffer;

const Kernels::Stream kNoStream;

// Rows of [micro_batch, seq_len + 1] without their last token (shift 0) or first one (shift 1).
Buffer Shifted(std::span<const int32_t> tokens, const BatchShape& batch, size_t shift) {
  std::vector<int32_t> ids;
  for (uint64_t b = 0; b < batch.micro_batch; ++b) {
    auto row = tokens.subspan(b * (batch.seq_len + 1) + shift, batch.seq_len);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  Buffer bytes(ids.size() * sizeof(int32_t));
  std::memcpy(bytes.data(), ids.data(), bytes.size());
  return bytes;
}

std::vector<int32_t> Targets(std::span<const int32_t> tokens, const BatchShape& batch) {
  const Buffer bytes = Shifted(tokens, batch, 1);
  std::vector<int32_t> targets(bytes.size() / sizeof(int32_t));
  std::memcpy(targets.data(), bytes.data(), bytes.size());
  return targets;
}

}  // namespace

std::vector<float> ToFloats(std::span<const std::byte> bytes, DType dtype) {
  std::vector<float> values(bytes.size() / SizeOf(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = dtype == DType::kF16 ? FromHalf(reinterpret_cast<const F16*>(bytes.data())[i])
                                     : FromBf16(reinterpret_cast<const Bf16*>(bytes.data())[i]);
  }
  return values;
}

Buffer FromFloats(std::span<const float> values, DType dtype) {
  Buffer bytes(values.size() * SizeOf(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t narrow = dtype == DType::kF16 ? static_cast<uint16_t>(ToHalf(values[i]))
                                                 : static_cast<uint16_t>(ToBf16(values[i]));
    const void* from = dtype == DType::kF32 ? static_cast<const void*>(&values[i]) : &narrow;
    std::memcpy(bytes.data() + i * SizeOf(dtype), from, SizeOf(dtype));
  }
  return bytes;
}

std::vector<float> RandomFloats(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> values(count);
  for (float& value : values) {  // variance 1
    value = (static_cast<float>(engine() >> 8) * 0x1p-24f - 0.5f) * 3.4641016f;
  }
  return values;
}

std::vector<int32_t> RandomTokens(const BatchShape& batch, uint64_t vocab_size, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> tokens(batch.micro_batch * (batch.seq_len + 1));
  for (int32_t& token : tokens) token = static_cast<int32_t>(engine() % vocab_size);
  return tokens;
}

PlainRun::PlainRun(const LlamaConfig& config, DType dtype, const BatchShape& batch,
                   Kernels* kernels)
    : dtype_(dtype), units_(UnitsOf(config)), model_(config, dtype, batch, kernels) {
  for (const UnitSpec& unit : units_) {
    weights_.emplace_back(unit.num_elements * SizeOf(dtype));
    gradients_.emplace_back(unit.num_elements * sizeof(float));
  }
}

PlainRun::TensorPlace PlainRun::Find(const std::string& tensor) const {
  for (size_t unit = 0; unit < units_.size(); ++unit) {
    for (const TensorSpec& spec : units_[unit].tensors) {
      if (spec.name == tensor) return {unit, &spec};
    }
  }
  ADD_FAILURE() << "no tensor " << tensor;
  return {0, &units_[0].tensors[0]};
}

void PlainRun::SetWeights(const std::string& tensor, std::span<const float> values) {
  const TensorPlace place = Find(tensor);
  ASSERT_EQ(values.size(), place.tensor->num_elements) << tensor;
  const Buffer bytes = FromFloats(values, dtype_);
  std::memcpy(weights_[place.unit].data() + place.tensor->offset_elements * SizeOf(dtype_),
              bytes.data(), bytes.size());
}

void PlainRun::RandomizeWeights(uint32_t seed) {
  for (const UnitSpec& unit : units_) {
    for (const TensorSpec& tensor : unit.tensors) {
      std::vector<float> values = RandomFloats(tensor.num_elements, ++seed);
      const float scale =
          tensor.is_norm ? 0.3f : 1.2f / std::sqrt(static_cast<float>(tensor.shape.back()));
      for (float& value : values) value = value * scale + (tensor.is_norm ? 1.0f : 0.0f);
      SetWeights(tensor.name, values);
    }
  }
}

std::vector<float> PlainRun::Weights(const std::string& tensor) const {
  const TensorPlace place = Find(tensor);
  const std::span<const std::byte> unit(weights_[place.unit]);
  return ToFloats(unit.subspan(place.tensor->offset_elements * SizeOf(dtype_),
                               place.tensor->num_elements * SizeOf(dtype_)),
                  dtype_);
}

std::vector<float> PlainRun::Gradient(const std::string& tensor) const {
  const TensorPlace place = Find(tensor);
  const std::span<const std::byte> unit(gradients_[place.unit]);
  return ToFloats(unit.subspan(place.tensor->offset_elements * sizeof(float),
                               place.tensor->num_elements * sizeof(float)),
                  DType::kF32);
}

Buffer PlainRun::Workspace(UnitKind kind, Pass pass) const {
  return Poisoned(model_.WorkspaceBytes(kind, pass, intermediates()));
}

void PlainRun::KeepIntermediates() {
  for (const UnitSpec& unit : units_) kept_.push_back(Poisoned(model_.KeptBytes(unit.kind)));
}

Buffer PlainRun::Forward(size_t unit, Buffer& x) {
  const UnitKind kind = units_[unit].kind;
  Buffer y = Poisoned(model_.ActivationBytes());
  Buffer workspace = Workspace(kind, Pass::kForward);
  Status status =
      kind == UnitKind::kEmbedding ? model_.EmbeddingForward(kNoStream, weights_[unit], x, y)
      : kind == UnitKind::kAttention
          ? model_.AttentionForward(kNoStream, weights_[unit], x, y, Kept(unit), workspace)
          : model_.MlpForward(kNoStream, weights_[unit], x, y, Kept(unit), workspace);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return y;
}

void PlainRun::Backward(size_t unit, Buffer& x, Buffer& d) {
  const UnitKind kind = units_[unit].kind;
  Buffer workspace = Workspace(kind, Pass::kBackward);
  Status status = kind == UnitKind::kEmbedding
                      ? model_.EmbeddingBackward(kNoStream, x, d, gradients_[unit])
                  : kind == UnitKind::kAttention
                      ? model_.AttentionBackward(kNoStream, weights_[unit], x, d, Kept(unit),
                                                 gradients_[unit], workspace)
                      : model_.MlpBackward(kNoStream, weights_[unit], x, d, Kept(unit),
                                           gradients_[unit], workspace);
  EXPECT_TRUE(status.ok()) << status.ToString();
}

double PlainRun::Head(Buffer& x, std::span<const int32_t> targets, float gradient_scale,
                      Buffer* d) {
  LlamaModel::HeadOperands operands{weights_.back(), gradients_.back(), {}, {}};
  if (model_.config().tie_word_embeddings) {
    operands.embedding_weights = weights_.front();
    operands.embedding_gradient = gradients_.front();
  }
  Buffer target_bytes(targets.size_bytes());
  std::memcpy(target_bytes.data(), targets.data(), targets.size_bytes());
  Buffer workspace = Workspace(UnitKind::kHead, d == nullptr ? Pass::kForward : Pass::kBackward);
  double loss = 0;
  const std::span<std::byte> loss_bytes = std::as_writable_bytes(std::span(&loss, 1));
  if (d != nullptr) *d = Poisoned(model_.ActivationBytes());
  Status status = d == nullptr
                      ? model_.HeadLoss(kNoStream, operands, x, target_bytes, loss_bytes, workspace)
                      : model_.Head(kNoStream, operands, x, target_bytes, gradient_scale, *d,
                                    loss_bytes, workspace);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return loss;
}

std::vector<Buffer> PlainRun::ForwardAll(std::span<const int32_t> tokens) {
  std::vector<Buffer> inputs = {Shifted(tokens, model_.batch(), 0)};
  for (size_t unit = 0; unit + 1 < units_.size(); ++unit) {
    inputs.push_back(Forward(unit, inputs.back()));
  }
  return inputs;
}

double PlainRun::Step(std::span<const int32_t> tokens, float gradient_scale) {
  std::vector<Buffer> inputs = ForwardAll(tokens);
  Buffer d;
  const double loss = Head(inputs.back(), Targets(tokens, model_.batch()), gradient_scale, &d);
  for (size_t unit = units_.size() - 1; unit-- > 0;) Backward(unit, inputs[unit], d);
  return loss;
}

double PlainRun::Loss(std::span<const int32_t> tokens) {
  std::vector<Buffer> inputs = ForwardAll(tokens);
  return Head(inputs.back(), Targets(tokens, model_.batch()), 0, nullptr);
}

}  // namespace strata::engine
