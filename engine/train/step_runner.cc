#include "engine/train/step_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;

template <typename T>
std::span<T> As(Bytes bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// `num_elements` from `in_shard` on, in the blocks of a kUpdate.
AdamSlices SlicesOf(const LayoutOptions& options, const UnitState::Chunk& chunk,
                    std::span<const Bytes> blocks, uint64_t in_shard, uint64_t num_elements) {
  bool is_narrow = options.precision != DType::kF32;
  bool is_int8 = options.format == StateFormat::kInt8;
  uint64_t in_chunk = in_shard - chunk.first_element;
  uint64_t in_master = is_narrow ? in_chunk : in_shard;
  uint64_t moment_bytes = is_int8 ? 1 : sizeof(float);
  uint64_t master_bytes = options.format == StateFormat::kFp32 ? sizeof(float) : sizeof(int16_t);
  AdamSlices slices{.format = options.format,
                    .master = blocks[0].data() + in_master * master_bytes,
                    .m = blocks[1].data() + in_chunk * moment_bytes,
                    .v = blocks[2].data() + in_chunk * moment_bytes,
                    .gradient = blocks[3].data() + in_shard * SizeOf(options.precision),
                    .gradient_dtype = options.precision,
                    .num_elements = num_elements};
  if (is_narrow) slices.weight = blocks[4].data() + in_shard * SizeOf(options.precision);
  slices.weight_dtype = options.precision;
  if (is_int8) {
    uint64_t in_scales = chunk.num_elements + in_chunk / kScaledElements;
    slices.m_scales = reinterpret_cast<uint8_t*>(blocks[1].data()) + in_scales;
    slices.v_scales = reinterpret_cast<uint8_t*>(blocks[2].data()) + in_scales;
  }
  return slices;
}

// The operands of a tile's op, in the order that OpRole tells.
class TileReader {
 public:
  TileReader(const StateLayout& layout, const OpPayload& payload, std::span<const Bytes> blocks)
      : sublayer_(layout.sublayers[payload.sublayer]), payload_(payload), blocks_(blocks) {
    parts_.resize(payload.tile.num_parts);
  }

  void TakeWeights() {
    if (sublayer_.has_norm_apart()) norm_.weights = Next();
    for (UnitMemory& part : parts_) part.weights = Next();
  }
  // Zeroes those that are new in the step.
  Status TakeGradients(Kernels& kernels, const tiering::StreamContext& stream) {
    for (UnitMemory& part : parts_) part.gradient = Next();
    if (sublayer_.has_norm_apart() && payload_.tile.first_part == 0) norm_.gradient = Next();
    if (!payload_.is_first) return OkStatus();
    for (const UnitMemory& part : parts_)
      STRATA_RETURN_IF_ERROR(kernels.Zero(stream, part.gradient));
    if (norm_.gradient.empty()) return OkStatus();
    return kernels.Zero(stream, norm_.gradient);
  }
  Bytes Next() { return blocks_[next_++]; }
  Bytes NextIf(bool has_it) { return has_it ? Next() : Bytes(); }

  bool is_whole() const { return payload_.tile.num_parts == sublayer_.num_parts; }
  bool has_last_part() const { return payload_.tile.end_part() == sublayer_.num_parts; }
  bool has_first_part() const { return payload_.tile.first_part == 0; }
  const OpPayload& payload() const { return payload_; }
  const UnitMemory& only_part() const { return parts_.front(); }
  // Valid as long as the reader is.
  TileOperands operands() const {
    const bool is_apart = sublayer_.has_norm_apart();
    return {.norm = is_apart ? norm_ : parts_.front(),
            .first_part = payload_.tile.first_part,
            .parts = parts_};
  }

 private:
  const Sublayer& sublayer_;
  const OpPayload& payload_;
  std::span<const Bytes> blocks_;
  size_t next_ = 0;
  UnitMemory norm_;
  std::vector<UnitMemory> parts_;
};

constexpr std::string_view kAdvice =
    "nothing of this step was committed: resume with a lower [optimizer] lr or a smaller "
    "gradient_clipping";

Status GradientNotFinite(const std::string& unit) {
  return FailedPrecondition(
      fmt::format("the gradient of unit {} is not finite; {}", unit, kAdvice));
}

}  // namespace

Result<StepRunner> StepRunner::Create(const StepRunnerParts& parts,
                                      const StepRunnerOptions& options) {
  STRATA_ASSIGN_OR_RETURN(ThreadPool pool, ThreadPool::Create(options.threads));
  return StepRunner(parts, options, std::move(pool));
}

void StepRunner::BeginStep(const StepInputs& inputs) {
  inputs_ = inputs;
  result_ = {};
}

Status StepRunner::Run(prefetch::OpId op, const prefetch::Operands& operands,
                       const tiering::StreamContext& stream) {
  if (parts_.behind != nullptr)
    STRATA_RETURN_IF_ERROR(parts_.behind->AwaitWritable(inputs_.program->trace.ops[Index(op)]));
  const OpPayload& payload = inputs_.program->payloads[Index(op)];
  Blocks b = operands.blocks;
  switch (payload.role) {
    case OpRole::kLoadBatch:
      return LoadBatch(payload, b);
    case OpRole::kGatherWeights:
      return parts_.communicator->channel(ChannelId::kCommLane).AllGather(stream, b[0], b[1]);
    case OpRole::kEmbeddingForward:
    case OpRole::kAttentionForward:
    case OpRole::kMlpForward:
      return RunForward(payload, operands, stream);
    case OpRole::kHead:
    case OpRole::kHeadStatistics:
    case OpRole::kHeadGradients:
      return RunHead(payload, operands, stream);
    case OpRole::kMlpBackward:
    case OpRole::kAttentionBackward:
    case OpRole::kEmbeddingBackward:
      return RunBackward(payload, operands, stream);
    case OpRole::kPackGradient:
      return PackGradient(payload, b, stream);
    case OpRole::kReduceGradient:
      return parts_.communicator->channel(ChannelId::kCommLane)
          .ReduceScatter(stream, b[0], b[1], payload.dtype);
    case OpRole::kRoundGradient:
      return RoundGradient(payload, operands, stream);
    case OpRole::kNorm:
      return AddNorm(payload, operands, stream);
    case OpRole::kClip:
      return Clip(b);
    case OpRole::kUpdate:
      return Update(payload, b, stream);
    case OpRole::kReport:
      return Report(b);
    case OpRole::kAllReduceGradient:
      return parts_.communicator->channel(ChannelId::kCommLane)
          .AllReduce(stream, b[0], payload.dtype);
    case OpRole::kTakeOwnGradient:
    case OpRole::kTakeOwnWeights:
      return TakeOwn(b, stream);
    case OpRole::kShareWeights:
      return parts_.communicator->channel(ChannelId::kCommLane).AllGather(stream, b[0], b[1]);
  }
  return Internal("unknown op role");
}

std::span<std::byte> StepRunner::Inputs(Bytes tokens) const {
  return tokens.first(tokens.size() / 2);
}
std::span<std::byte> StepRunner::Targets(Bytes tokens) const {
  return tokens.last(tokens.size() / 2);
}

Status StepRunner::LoadBatch(const OpPayload& payload, Blocks blocks) const {
  const BatchShape& batch = parts_.model->batch();
  std::span<int32_t> inputs = As<int32_t>(Inputs(blocks[0]));
  std::span<int32_t> targets = As<int32_t>(Targets(blocks[0]));
  uint64_t world = parts_.communicator->world_size();
  uint64_t slot = payload.micro * world + parts_.communicator->rank();
  uint64_t first = inputs_.step * options_.train_batch_size + slot * batch.micro_batch;
  for (uint64_t i = 0; i < batch.micro_batch; ++i) {
    parts_.dataset->Sample(first + i, inputs.subspan(i * batch.seq_len, batch.seq_len),
                           targets.subspan(i * batch.seq_len, batch.seq_len));
  }
  const uint64_t vocab_size = parts_.model->config().vocab_size;
  for (const int32_t token : inputs)
    STRATA_CHECK(token >= 0 && static_cast<uint64_t>(token) < vocab_size);
  return OkStatus();
}

Status StepRunner::RunForward(const OpPayload& payload, const prefetch::Operands& operands,
                              const tiering::StreamContext& stream) const {
  const LlamaModel& model = *parts_.model;
  TileReader tile(*parts_.layout, payload, operands.blocks);
  tile.TakeWeights();
  const Bytes x = tile.Next();
  if (payload.role == OpRole::kEmbeddingForward)
    return model.EmbeddingForward(stream, tile.operands(), Inputs(x), tile.Next());
  const Bytes y = tile.NextIf(tile.has_last_part());
  const Bytes sum = tile.NextIf(!tile.is_whole());
  const Bytes kept = tile.NextIf(payload.keeps_intermediates);
  if (payload.role == OpRole::kMlpForward)
    return model.MlpForward(stream, tile.operands(), x, y, sum, kept, operands.workspace);
  return model.AttentionForward(stream, tile.only_part().weights, x, y, kept, operands.workspace);
}

Status StepRunner::RunHead(const OpPayload& payload, const prefetch::Operands& operands,
                           const tiering::StreamContext& stream) const {
  const LlamaModel& model = *parts_.model;
  TileReader tile(*parts_.layout, payload, operands.blocks);
  tile.TakeWeights();
  if (payload.role != OpRole::kHeadStatistics)
    STRATA_RETURN_IF_ERROR(tile.TakeGradients(*parts_.kernels, stream));
  const Bytes x = tile.Next();
  const Bytes targets = Targets(tile.Next());
  if (payload.role == OpRole::kHeadStatistics) {
    return model.HeadStatistics(stream, tile.operands(), x, targets, tile.Next(),
                                operands.workspace);
  }
  const Bytes softmax = tile.NextIf(!tile.is_whole());
  const Bytes sum = tile.NextIf(!tile.is_whole());
  const Bytes d = tile.NextIf(tile.has_first_part());
  const Bytes loss = tile.NextIf(tile.has_first_part());
  if (payload.is_first && !loss.empty()) STRATA_RETURN_IF_ERROR(parts_.kernels->Zero(stream, loss));
  const double tokens = static_cast<double>(options_.train_batch_size * model.batch().seq_len);
  const float scale = static_cast<float>(inputs_.loss_scale / tokens);
  if (tile.is_whole()) {
    return model.Head(stream, tile.operands(), x, targets, scale, d, loss, operands.workspace);
  }
  return model.HeadGradients(stream, tile.operands(), x, targets, scale, softmax, sum, d, loss,
                             operands.workspace);
}

Status StepRunner::RunBackward(const OpPayload& payload, const prefetch::Operands& operands,
                               const tiering::StreamContext& stream) const {
  const LlamaModel& model = *parts_.model;
  Kernels& kernels = *parts_.kernels;
  TileReader tile(*parts_.layout, payload, operands.blocks);
  const bool is_embedding = payload.role == OpRole::kEmbeddingBackward;
  if (!is_embedding) tile.TakeWeights();
  const Bytes x = tile.Next();
  const Bytes d = tile.Next();
  if (is_embedding) {
    STRATA_RETURN_IF_ERROR(tile.TakeGradients(kernels, stream));
    return model.EmbeddingBackward(stream, tile.operands(), Inputs(x), d);
  }
  const Bytes sum = tile.NextIf(!tile.is_whole());
  const Bytes kept = tile.NextIf(payload.keeps_intermediates);
  STRATA_RETURN_IF_ERROR(tile.TakeGradients(kernels, stream));
  if (payload.role == OpRole::kMlpBackward)
    return model.MlpBackward(stream, tile.operands(), x, d, sum, kept, operands.workspace);
  const UnitMemory& unit = tile.only_part();
  return model.AttentionBackward(stream, unit.weights, x, d, kept, unit.gradient,
                                 operands.workspace);
}

Status StepRunner::PackGradient(const OpPayload& payload, Blocks blocks,
                                const tiering::StreamContext& stream) const {
  const size_t elements = blocks[0].size() / sizeof(float);
  return parts_.kernels->Cast(stream, DenseMatrix(blocks[0].data(), DType::kF32, 1, elements),
                              DenseMatrix(blocks[1].data(), payload.dtype, 1, elements));
}

// This rank's part of what it has whole.
Status StepRunner::TakeOwn(Blocks blocks, const tiering::StreamContext& stream) const {
  const Bytes own = blocks[1];
  const Bytes from = blocks[0].subspan(parts_.communicator->rank() * own.size(), own.size());
  const DType dtype = parts_.layout->options.precision;
  const size_t elements = own.size() / SizeOf(dtype);
  return parts_.kernels->Cast(stream, DenseMatrix(from.data(), dtype, 1, elements),
                              DenseMatrix(own.data(), dtype, 1, elements));
}

// The rank's part of a gradient of so many elements: all of it, where it is reduced to that. The
// norm counts no other, so that it is summed in the same order in all stages.
ElementRange StepRunner::OwnGradient(uint32_t unit, uint64_t num_elements) const {
  const LayoutOptions& options = parts_.layout->options;
  if (options.world_size == 1 || options.shards_gradients()) return {0, num_elements};
  return OwnElements(*parts_.layout, unit, parts_.communicator->rank());
}

Status StepRunner::RoundGradient(const OpPayload& payload, const prefetch::Operands& operands,
                                 const tiering::StreamContext& stream) const {
  const Blocks blocks = operands.blocks;
  if (payload.is_first) STRATA_RETURN_IF_ERROR(parts_.kernels->Zero(stream, blocks[2]));
  const std::span<const float> from = As<const float>(blocks[0]);
  const DType dtype = parts_.layout->options.precision;
  const ElementRange own = OwnGradient(payload.unit, from.size());
  const auto rounded = [&](uint64_t begin) { return blocks[1].data() + begin * SizeOf(dtype); };
  const auto round = [&](uint64_t begin, uint64_t end) {
    return parts_.kernels->Cast(
        stream, DenseMatrix(blocks[0].data() + begin * sizeof(float), DType::kF32, 1, end - begin),
        DenseMatrix(rounded(begin), dtype, 1, end - begin));
  };
  STRATA_RETURN_IF_ERROR(round(0, own.begin));
  STRATA_RETURN_IF_ERROR(round(own.end, from.size()));
  return parts_.kernels->RoundAndSumSquares(
      stream, from.subspan(own.begin, own.end - own.begin), rounded(own.begin), dtype,
      &As<double>(blocks[2])[payload.unit], operands.workspace);
}

Status StepRunner::AddNorm(const OpPayload& payload, const prefetch::Operands& operands,
                           const tiering::StreamContext& stream) const {
  const Blocks blocks = operands.blocks;
  if (payload.is_first) STRATA_RETURN_IF_ERROR(parts_.kernels->Zero(stream, blocks[1]));
  const DType dtype = parts_.layout->options.precision;
  const ElementRange own = OwnGradient(payload.unit, blocks[0].size() / SizeOf(dtype));
  return parts_.kernels->SumOfSquares(
      stream, blocks[0].subspan(own.begin * SizeOf(dtype), (own.end - own.begin) * SizeOf(dtype)),
      dtype, &As<double>(blocks[1])[payload.unit], operands.workspace);
}

// Of this rank's part of the gradients, as they are without the loss scale.
double StepRunner::SquaredNorm(std::span<const double> norms) const {
  return std::accumulate(norms.begin(), norms.end(), 0.0) /
         (inputs_.loss_scale * inputs_.loss_scale);
}

Status StepRunner::Clip(Blocks blocks) const {
  const std::span<double> norms = As<double>(blocks[0]);
  double squares = SquaredNorm(norms);
  STRATA_RETURN_IF_ERROR(
      parts_.communicator->channel(ChannelId::kCpuLane).AllReduceSum({&squares, 1}));
  if (!std::isfinite(squares) && !survives_not_finite()) return NotFinite(norms);
  double coefficient = ClipCoefficient(std::sqrt(squares), options_.gradient_clipping);
  // Not a number: nothing is to be applied.
  bool applies = std::isfinite(squares);
  As<double>(blocks[1])[0] = applies ? coefficient / inputs_.loss_scale : std::nan("");
  return OkStatus();
}

Status StepRunner::Update(const OpPayload& payload, Blocks b,
                          const tiering::StreamContext& stream) {
  const StateLayout& layout = *parts_.layout;
  const UnitState& unit = layout.units[payload.unit];
  const UnitState::Chunk& chunk = unit.chunks[payload.chunk];
  const double* scale = payload.is_scaled ? As<double>(b.back()).data() : nullptr;
  const uint64_t shard_start =
      layout.options.shards_optimizer() ? parts_.communicator->rank() * unit.shard_elements : 0;

  // One slice per tensor, as some are decayed and some are not, and of the padding behind it: its
  // gradient is zero, so it stays zero, also where weights are written to new memory.
  const std::vector<TensorSpec>& tensors = layout.unit_specs[payload.unit].tensors;
  const uint64_t chunk_begin = shard_start + chunk.first_element;
  const uint64_t chunk_end = chunk_begin + chunk.num_elements;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    const uint64_t tensor_end =
        i + 1 < tensors.size() ? tensors[i + 1].offset_elements : unit.whole_elements;
    const uint64_t begin = std::max(tensor.offset_elements, chunk_begin);
    const uint64_t end = std::min(tensor_end, chunk_end);
    if (begin >= end) continue;
    AdamHyperparameters hyper = options_.adam;
    if (tensor.is_norm && !options_.decays_norms) hyper.weight_decay = 0;
    AdamSlices slices = SlicesOf(layout.options, chunk, b, begin - shard_start, end - begin);
    slices.dither = DitherSeed(inputs_.update + 1, payload.unit) + static_cast<uint32_t>(begin);
    const AdamScalars scalars =
        MakeAdamScalars(hyper, inputs_.learning_rate, inputs_.update + 1, 1.0 / inputs_.loss_scale);
    STRATA_RETURN_IF_ERROR(payload.is_on_device
                               ? parts_.device_adam->Step(stream, scalars, slices, scale)
                               : UpdateOnHost(scalars, slices, scale));
  }
  return OkStatus();
}

Status StepRunner::UpdateOnHost(const AdamScalars& scalars, const AdamSlices& slices,
                                const double* scale) {
  AdamScalars scaled = scalars;
  if (scale != nullptr) {
    if (std::isnan(*scale)) {
      KeepWeights(slices);
      return OkStatus();
    }
    scaled.gradient_scale = static_cast<float>(*scale);
  }
  if (parts_.numa != nullptr) {
    AdamStepOnNodes(scaled, slices, pool_, *parts_.numa);
  } else {
    AdamStep(scaled, slices, pool_);
  }
  return OkStatus();
}

Status StepRunner::Report(Blocks blocks) {
  std::span<double> norms = As<double>(blocks[1]);
  std::array<double, 2> sums = {As<double>(blocks[0])[0], SquaredNorm(norms)};
  // Not beside the clip's on its channel, which may be on another lane.
  STRATA_RETURN_IF_ERROR(parts_.communicator->channel(ChannelId::kControl).AllReduceSum(sums));
  double tokens = static_cast<double>(options_.train_batch_size * parts_.model->batch().seq_len);
  result_.loss = sums[0] / tokens;
  result_.gradient_norm = std::sqrt(sums[1]);
  result_.clipped = ClipCoefficient(result_.gradient_norm, options_.gradient_clipping) < 1;
  if (std::isfinite(result_.loss) && std::isfinite(result_.gradient_norm)) return OkStatus();
  if (!survives_not_finite()) return NotFinite(norms);
  result_.not_finite = NotFinite(norms);
  return OkStatus();
}

Status StepRunner::NotFinite(std::span<const double> norms) const {
  for (size_t unit = norms.size(); unit-- > 0;)  // as backward goes, so where it began
    if (!std::isfinite(norms[unit])) return GradientNotFinite(parts_.layout->unit_specs[unit].name);
  return FailedPrecondition(fmt::format("the loss is not finite; {}", kAdvice));
}

}  // namespace strata::engine
