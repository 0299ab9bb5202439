#include "tests/engine/model/plain_run.h"

#include <gtest/gtest.h>

#include <algorithm>
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
                   Kernels* kernels, const Tiling& tiling)
    : dtype_(dtype),
      tiling_(tiling),
      units_(UnitsOf(config)),
      cut_units_(UnitsOf(config, tiling.part_elements)),
      sublayers_(SublayersOf(cut_units_)),
      model_(config, dtype, batch, kernels, tiling.part_elements) {
  for (const UnitSpec& unit : cut_units_) {
    weights_.emplace_back(unit.num_elements * SizeOf(dtype));
    gradients_.emplace_back(unit.num_elements * sizeof(float));
  }
}

template <typename Visit>
void PlainRun::ForParts(const std::string& tensor, Visit&& visit) const {
  bool found = false;
  for (size_t unit = 0; unit < cut_units_.size(); ++unit) {
    for (const TensorSpec& part : cut_units_[unit].tensors) {
      if (part.name != tensor) continue;
      visit(unit, part);
      found = true;
    }
  }
  EXPECT_TRUE(found) << "no tensor " << tensor;
}

namespace {

// Where element i of a part is in the whole tensor.
size_t InWhole(const TensorSpec& part, size_t i) {
  if (!part.is_part()) return i;
  const size_t row = part.first_row + i / part.shape[1];
  return row * part.whole_shape[1] + part.first_col + i % part.shape[1];
}

}  // namespace

void PlainRun::SetWeights(const std::string& tensor, std::span<const float> values) {
  ForParts(tensor, [&](size_t unit, const TensorSpec& part) {
    ASSERT_EQ(values.size(), WholeTensor(part).num_elements) << tensor;
    std::vector<float> some(part.num_elements);
    for (size_t i = 0; i < some.size(); ++i) some[i] = values[InWhole(part, i)];
    const Buffer bytes = FromFloats(some, dtype_);
    std::memcpy(weights_[unit].data() + part.offset_elements * SizeOf(dtype_), bytes.data(),
                bytes.size());
  });
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

std::vector<float> PlainRun::Gather(const std::string& tensor, const std::vector<Buffer>& units,
                                    DType dtype) const {
  std::vector<float> values;
  ForParts(tensor, [&](size_t unit, const TensorSpec& part) {
    values.resize(WholeTensor(part).num_elements);
    const std::span<const std::byte> bytes(units[unit]);
    const std::vector<float> some = ToFloats(
        bytes.subspan(part.offset_elements * SizeOf(dtype), part.num_elements * SizeOf(dtype)),
        dtype);
    for (size_t i = 0; i < some.size(); ++i) values[InWhole(part, i)] = some[i];
  });
  return values;
}

std::vector<float> PlainRun::Weights(const std::string& tensor) const {
  return Gather(tensor, weights_, dtype_);
}

std::vector<float> PlainRun::Gradient(const std::string& tensor) const {
  return Gather(tensor, gradients_, DType::kF32);
}

void PlainRun::KeepIntermediates() {
  for (size_t i = 0; i < sublayers_.size(); ++i) {
    ForTiles(sublayers_[i], Order::kAscending, [&](const Tile& tile) {
      kept_[{i, tile.first_part}] = Poisoned(model_.KeptBytes(sublayers_[i].kind, tile));
    });
  }
}

PlainRun::Bytes PlainRun::Kept(size_t sublayer, const Tile& tile) {
  auto found = kept_.find({sublayer, tile.first_part});
  return found == kept_.end() ? Bytes() : Bytes(found->second);
}

PlainRun::TileMemory PlainRun::Operands(const Sublayer& sublayer, const Tile& tile) {
  TileMemory memory;
  for (uint32_t part = tile.first_part; part < tile.end_part(); ++part) {
    const size_t unit = sublayer.first_part + part;
    memory.parts.push_back({weights_[unit], gradients_[unit]});
  }
  if (sublayer.norm_unit)
    memory.operands.norm = {weights_[*sublayer.norm_unit], gradients_[*sublayer.norm_unit]};
  memory.operands.first_part = tile.first_part;
  memory.operands.parts = memory.parts;
  return memory;
}

template <typename Visit>
void PlainRun::ForTiles(const Sublayer& sublayer, Order order, Visit&& visit) {
  std::vector<Tile> tiles;
  const uint32_t step = std::min(tiling_.parts_per_op, sublayer.num_parts);
  for (uint32_t first = 0; first < sublayer.num_parts; first += step)
    tiles.push_back({first, std::min(step, sublayer.num_parts - first)});
  if (order == Order::kDescending) std::reverse(tiles.begin(), tiles.end());
  for (const Tile& tile : tiles) visit(tile);
}

Status PlainRun::ForwardTile(size_t sublayer, const Tile& tile, Buffer& x, Buffer& y, Bytes sum) {
  const UnitKind kind = sublayers_[sublayer].kind;
  Buffer workspace = Poisoned(model_.WorkspaceBytes(kind, Pass::kForward, intermediates(), tile));
  const TileMemory memory = Operands(sublayers_[sublayer], tile);
  if (kind == UnitKind::kEmbedding)
    return model_.EmbeddingForward(kNoStream, memory.operands, x, y);
  const Bytes kept = Kept(sublayer, tile);
  if (kind == UnitKind::kAttention) {
    return model_.AttentionForward(kNoStream, memory.parts[0].weights, x, y, kept, workspace);
  }
  const bool is_last = tile.end_part() == sublayers_[sublayer].num_parts;
  return model_.MlpForward(kNoStream, memory.operands, x, is_last ? Bytes(y) : Bytes(), sum, kept,
                           workspace);
}

Buffer PlainRun::Forward(size_t sublayer, Buffer& x) {
  Buffer y = Poisoned(model_.ActivationBytes());
  Buffer sum = Poisoned(IsWhole(sublayers_[sublayer]) ? 0 : model_.SumBytes());
  ForTiles(sublayers_[sublayer], Order::kAscending, [&](const Tile& tile) {
    const Status status = ForwardTile(sublayer, tile, x, y, sum);
    EXPECT_TRUE(status.ok()) << status.ToString();
  });
  return y;
}

Status PlainRun::BackwardTile(size_t sublayer, const Tile& tile, Buffer& x, Buffer& d, Bytes sum) {
  const UnitKind kind = sublayers_[sublayer].kind;
  Buffer workspace = Poisoned(model_.WorkspaceBytes(kind, Pass::kBackward, intermediates(), tile));
  const TileMemory memory = Operands(sublayers_[sublayer], tile);
  if (kind == UnitKind::kEmbedding)
    return model_.EmbeddingBackward(kNoStream, memory.operands, x, d);
  const Bytes kept = Kept(sublayer, tile);
  if (kind == UnitKind::kAttention) {
    return model_.AttentionBackward(kNoStream, memory.parts[0].weights, x, d, kept,
                                    memory.parts[0].gradient, workspace);
  }
  return model_.MlpBackward(kNoStream, memory.operands, x, d, sum, kept, workspace);
}

void PlainRun::Backward(size_t sublayer, Buffer& x, Buffer& d) {
  Buffer sum = Poisoned(IsWhole(sublayers_[sublayer]) ? 0 : model_.SumBytes());
  ForTiles(sublayers_[sublayer], Order::kDescending, [&](const Tile& tile) {
    const Status status = BackwardTile(sublayer, tile, x, d, sum);
    EXPECT_TRUE(status.ok()) << status.ToString();
  });
}

double PlainRun::HeadInTiles(Buffer& x, Bytes targets, float gradient_scale, Buffer& d) {
  const Sublayer& head = sublayers_.back();
  Buffer softmax = Poisoned(model_.SoftmaxBytes());
  Buffer sum = Poisoned(model_.SumBytes());
  double loss = 0;
  ForTiles(head, Order::kAscending, [&](const Tile& tile) {
    Buffer workspace =
        Poisoned(model_.WorkspaceBytes(head.kind, Pass::kForward, intermediates(), tile));
    const TileMemory memory = Operands(head, tile);
    const Status status =
        model_.HeadStatistics(kNoStream, memory.operands, x, targets, softmax, workspace);
    EXPECT_TRUE(status.ok()) << status.ToString();
  });
  ForTiles(head, Order::kDescending, [&](const Tile& tile) {
    Buffer workspace =
        Poisoned(model_.WorkspaceBytes(head.kind, Pass::kBackward, intermediates(), tile));
    const TileMemory memory = Operands(head, tile);
    const bool is_end = tile.first_part == 0;
    const Bytes loss_bytes = std::as_writable_bytes(std::span(&loss, 1));
    const Status status =
        model_.HeadGradients(kNoStream, memory.operands, x, targets, gradient_scale, softmax, sum,
                             is_end ? Bytes(d) : Bytes(), is_end ? loss_bytes : Bytes(), workspace);
    EXPECT_TRUE(status.ok()) << status.ToString();
  });
  return loss;
}

double PlainRun::Head(Buffer& x, std::span<const int32_t> targets, float gradient_scale,
                      Buffer* d) {
  const Sublayer& head = sublayers_.back();
  Buffer target_bytes(targets.size_bytes());
  std::memcpy(target_bytes.data(), targets.data(), targets.size_bytes());
  if (d != nullptr) *d = Poisoned(model_.ActivationBytes());
  if (d != nullptr && !IsWhole(head)) return HeadInTiles(x, target_bytes, gradient_scale, *d);
  const TileMemory memory = Operands(head, {0, head.num_parts});
  Buffer workspace =
      Poisoned(model_.WorkspaceBytes(head.kind, d == nullptr ? Pass::kForward : Pass::kBackward));
  double loss = 0;
  const Bytes loss_bytes = std::as_writable_bytes(std::span(&loss, 1));
  const Status status = d == nullptr ? model_.HeadLoss(kNoStream, memory.operands, x, target_bytes,
                                                       loss_bytes, workspace)
                                     : model_.Head(kNoStream, memory.operands, x, target_bytes,
                                                   gradient_scale, *d, loss_bytes, workspace);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return loss;
}

std::vector<Buffer> PlainRun::ForwardAll(std::span<const int32_t> tokens) {
  std::vector<Buffer> inputs = {Shifted(tokens, model_.batch(), 0)};
  for (size_t sublayer = 0; sublayer + 1 < sublayers_.size(); ++sublayer) {
    inputs.push_back(Forward(sublayer, inputs.back()));
  }
  return inputs;
}

double PlainRun::Step(std::span<const int32_t> tokens, float gradient_scale) {
  std::vector<Buffer> inputs = ForwardAll(tokens);
  Buffer d;
  const double loss = Head(inputs.back(), Targets(tokens, model_.batch()), gradient_scale, &d);
  for (size_t sublayer = sublayers_.size() - 1; sublayer-- > 0;)
    Backward(sublayer, inputs[sublayer], d);
  return loss;
}

double PlainRun::Loss(std::span<const int32_t> tokens) {
  std::vector<Buffer> inputs = ForwardAll(tokens);
  return Head(inputs.back(), Targets(tokens, model_.batch()), 0, nullptr);
}

}  // namespace strata::engine
