#include "engine/model/internal/head_unit.h"

#include <algorithm>

#include "aio/base/units.h"
#include "engine/model/internal/unit_ops.h"

namespace strata::engine {
namespace {

// Every chunk reads lm_head and reads and writes its fp32 gradient once.
uint64_t ChunkRows(uint64_t num_tokens, uint64_t vocab_size, DType dtype,
                   const RowsAtOnce& at_once) {
  const uint64_t row_bytes = vocab_size * (dtype == DType::kF32 ? 4 : 4 + SizeOf(dtype));
  return std::min(num_tokens,
                  std::max<uint64_t>(at_once.min_logits_rows, at_once.logits_bytes / row_bytes));
}

// The units that lm_head's parts are in: a tied one's are the embedding's.
std::vector<UnitSpec> PartSpecs(const LlamaConfig& config, uint64_t part_elements) {
  const UnitKind owner = config.tie_word_embeddings ? UnitKind::kEmbedding : UnitKind::kHead;
  std::vector<UnitSpec> specs = UnitsOf(config, owner, 0, part_elements);
  if (owner == UnitKind::kHead && specs.size() > 1) specs.erase(specs.begin());  // the norm's
  return specs;
}

}  // namespace

HeadUnit::HeadUnit(const LlamaConfig& config, uint64_t part_elements, DType dtype,
                   const BatchShape& batch, Kernels* kernels)
    : dtype_(dtype),
      kernels_(kernels),
      cut_(CutOf(config, UnitKind::kHead, part_elements)),
      specs_(UnitsOf(config, UnitKind::kHead, 0, part_elements)),
      part_specs_(PartSpecs(config, part_elements)),
      part_tensor_(part_specs_.front().tensors.size() - 1),
      num_tokens_(batch.num_tokens()),
      hidden_size_(config.hidden_size),
      chunk_rows_(ChunkRows(num_tokens_, config.vocab_size, dtype, kernels->rows_at_once())),
      eps_(static_cast<float>(config.rms_norm_eps)) {}

HeadUnit::Buffers HeadUnit::LayOut(WorkspaceLayout& layout, const Tile& tile, Pass pass,
                                   uint64_t rows) const {
  const bool is_backward = pass == Pass::kBackward;
  Buffers buffers;
  buffers.product_workspace = layout.Take(kernels_->MatMulWorkspaceBytes());
  if (is_backward) buffers.two_pass_workspace = layout.Take(kernels_->TwoPassWorkspaceBytes());
  buffers.h = layout.TakeMatrix(dtype_, rows, hidden_size_);
  buffers.dh = buffers.h;  // h itself has done its duty by then
  if (IsWhole(tile)) buffers.softmax = layout.Take(rows * sizeof(SoftmaxRow));
  if (IsWhole(tile) && is_backward && num_parts() > 1)
    buffers.dh = layout.TakeMatrix(DType::kF32, rows, hidden_size_);
  // Those of all parts are kept for the gradients where one pass does it all.
  const bool keeps_logits = IsWhole(tile) && is_backward;
  for (uint32_t i = 0; i < tile.num_parts; ++i) {
    const uint64_t cols = cut_.size(tile.first_part + i);
    if (i > 0 && !keeps_logits) {
      buffers.logits.push_back(DenseMatrix(buffers.logits[0].data, DType::kF32, rows, cols));
    } else {
      const uint64_t room = keeps_logits ? cols : cut_.step;
      Matrix logits = layout.TakeMatrix(DType::kF32, rows, room);
      buffers.logits.push_back(DenseMatrix(logits.data, DType::kF32, rows, cols));
    }
  }
  if (is_backward && dtype_ != DType::kF32)
    buffers.dlogits = layout.TakeMatrix(dtype_, rows, cut_.step);
  return buffers;
}

uint64_t HeadUnit::WorkspaceBytes(Pass pass, const Tile& tile) const {
  WorkspaceLayout layout;
  LayOut(layout, tile, pass, chunk_rows_);
  return layout.peak_bytes();
}

double HeadUnit::Flops(Pass pass, const Tile& tile) const {
  uint64_t columns = 0;
  for (uint32_t part = tile.first_part; part < tile.end_part(); ++part) columns += cut_.size(part);
  const double product = 2 * static_cast<double>(num_tokens_) * static_cast<double>(hidden_size_) *
                         static_cast<double>(columns);
  return pass == Pass::kForward ? product : 3 * product;
}

HeadUnit::Part HeadUnit::PartOf(const TileOperands& tile, uint32_t index) const {
  const uint32_t part = tile.first_part + index;
  const UnitMemory& memory = tile.parts[index];
  const Parameters parameters(part_specs_[part], dtype_, memory.weights, memory.gradient);
  return {cut_.begin(part), parameters.Weight(part_tensor_), parameters.Gradient(part_tensor_)};
}

Parameters HeadUnit::NormOf(const TileOperands& tile) const {
  return Parameters(specs_.front(), dtype_, tile.norm.weights, tile.norm.gradient);
}

HeadUnit::SoftmaxRows HeadUnit::RowsIn(const Buffers& buffers, uint64_t rows) const {
  return {reinterpret_cast<SoftmaxRow*>(buffers.softmax.data()), rows};
}

template <typename Visit>
Status HeadUnit::ForChunks(const RowsOf& all, Visit&& visit) const {
  for (uint64_t first = 0; first < num_tokens_; first += chunk_rows_) {
    const uint64_t count = std::min(chunk_rows_, num_tokens_ - first);
    auto some = [&](const Matrix& matrix) {
      return matrix.data == nullptr ? matrix : RowRange(matrix, first, count);
    };
    RowsOf rows{some(all.x), all.targets.subspan(first, count), {}, some(all.sum), some(all.d)};
    if (!all.softmax.empty()) rows.softmax = all.softmax.subspan(first, count);
    STRATA_RETURN_IF_ERROR(visit(rows));
  }
  return OkStatus();
}

Status HeadUnit::Normalize(const Stream& stream, const TileOperands& tile, const Matrix& x,
                           const Buffers& b) const {
  return kernels_->RmsNormForward(stream, x, NormOf(tile).norm(), eps_, b.h);
}

Status HeadUnit::StatisticsOfRows(const Stream& stream, const TileOperands& tile,
                                  const RowsOf& rows, const Buffers& b) const {
  const Products products{*kernels_, stream, b.product_workspace};
  for (uint32_t i = 0; i < tile.parts.size(); ++i) {
    const Part part = PartOf(tile, i);
    STRATA_RETURN_IF_ERROR(products.Linear(b.h, part.weight, b.logits[i]));
    const Output output = part.first_column == 0 ? Output::kOverwrite : Output::kAccumulate;
    STRATA_RETURN_IF_ERROR(kernels_->SoftmaxStatistics(stream, b.logits[i], rows.targets,
                                                       part.first_column, output, rows.softmax));
  }
  return OkStatus();
}

Status HeadUnit::GradientOfPart(const Stream& stream, const Part& part, bool is_last,
                                const RowsOf& rows, float gradient_scale, const Matrix& logits,
                                const Buffers& b) const {
  Matrix dlogits = logits;
  if (b.dlogits.data != nullptr)
    dlogits = DenseMatrix(b.dlogits.data, dtype_, logits.rows, logits.cols);
  STRATA_RETURN_IF_ERROR(kernels_->CrossEntropy(stream, logits, rows.targets, part.first_column,
                                                rows.softmax, gradient_scale, dlogits));
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(products.WeightGradient(dlogits, b.h, part.gradient));
  const Matrix& dh = rows.sum.data != nullptr ? rows.sum : b.dh;
  return products.InputGradient(dlogits, part.weight, dh,
                                is_last ? Output::kOverwrite : Output::kAccumulate);
}

Status HeadUnit::FinishRows(const Stream& stream, const TileOperands& tile, const RowsOf& rows,
                            double* loss_sum, const Buffers& b) const {
  STRATA_RETURN_IF_ERROR(kernels_->CrossEntropyLoss(stream, rows.targets, rows.softmax, loss_sum));
  const Matrix& dh = rows.sum.data != nullptr ? rows.sum : b.dh;
  return NormBackward(*kernels_, stream, NormOf(tile), eps_, rows.x, dh, b.h, rows.d,
                      b.two_pass_workspace);
}

Status HeadUnit::Loss(const Stream& stream, const TileOperands& head, const Matrix& x,
                      Targets targets, double* loss_sum, Bytes workspace) const {
  const RowsOf all{x, targets, {}, {}, {}};
  return ForChunks(all, [&](RowsOf rows) {
    WorkspaceLayout layout(workspace);
    const Buffers b = LayOut(layout, head.tile(), Pass::kForward, rows.x.rows);
    rows.softmax = RowsIn(b, rows.x.rows);
    STRATA_RETURN_IF_ERROR(Normalize(stream, head, rows.x, b));
    STRATA_RETURN_IF_ERROR(StatisticsOfRows(stream, head, rows, b));
    return kernels_->CrossEntropyLoss(stream, rows.targets, rows.softmax, loss_sum);
  });
}

Status HeadUnit::LossAndGradients(const Stream& stream, const TileOperands& head, const Matrix& x,
                                  Targets targets, float gradient_scale, const Matrix& d,
                                  double* loss_sum, Bytes workspace) const {
  // The norm's backward adds to d, and there is no gradient from further up.
  STRATA_RETURN_IF_ERROR(kernels_->Zero(stream, {d.data, d.size_bytes()}));
  const RowsOf all{x, targets, {}, {}, d};
  return ForChunks(all, [&](RowsOf rows) {
    WorkspaceLayout layout(workspace);
    const Buffers b = LayOut(layout, head.tile(), Pass::kBackward, rows.x.rows);
    rows.softmax = RowsIn(b, rows.x.rows);
    STRATA_RETURN_IF_ERROR(Normalize(stream, head, rows.x, b));
    STRATA_RETURN_IF_ERROR(StatisticsOfRows(stream, head, rows, b));
    for (uint32_t i = num_parts(); i-- > 0;) {
      STRATA_RETURN_IF_ERROR(GradientOfPart(stream, PartOf(head, i), i + 1 == num_parts(), rows,
                                            gradient_scale, b.logits[i], b));
    }
    return FinishRows(stream, head, rows, loss_sum, b);
  });
}

Status HeadUnit::Statistics(const Stream& stream, const TileOperands& tile, const Matrix& x,
                            Targets targets, SoftmaxRows softmax, Bytes workspace) const {
  const RowsOf all{x, targets, softmax, {}, {}};
  return ForChunks(all, [&](const RowsOf& rows) {
    WorkspaceLayout layout(workspace);
    const Buffers b = LayOut(layout, tile.tile(), Pass::kForward, rows.x.rows);
    STRATA_RETURN_IF_ERROR(Normalize(stream, tile, rows.x, b));
    return StatisticsOfRows(stream, tile, rows, b);
  });
}

Status HeadUnit::Gradients(const Stream& stream, const TileOperands& tile, const Matrix& x,
                           Targets targets, float gradient_scale, SoftmaxRows softmax,
                           const Matrix& sum, const Matrix& d, double* loss_sum,
                           Bytes workspace) const {
  const bool is_end = tile.first_part == 0;
  if (is_end) STRATA_RETURN_IF_ERROR(kernels_->Zero(stream, {d.data, d.size_bytes()}));
  const RowsOf all{x, targets, softmax, sum, d};
  return ForChunks(all, [&](const RowsOf& rows) {
    WorkspaceLayout layout(workspace);
    const Buffers b = LayOut(layout, tile.tile(), Pass::kBackward, rows.x.rows);
    const Products products{*kernels_, stream, b.product_workspace};
    STRATA_RETURN_IF_ERROR(Normalize(stream, tile, rows.x, b));
    for (uint32_t i = static_cast<uint32_t>(tile.parts.size()); i-- > 0;) {
      const Part part = PartOf(tile, i);
      STRATA_RETURN_IF_ERROR(products.Linear(b.h, part.weight, b.logits[i]));
      const bool is_last = tile.first_part + i + 1 == num_parts();
      STRATA_RETURN_IF_ERROR(
          GradientOfPart(stream, part, is_last, rows, gradient_scale, b.logits[i], b));
    }
    return is_end ? FinishRows(stream, tile, rows, loss_sum, b) : OkStatus();
  });
}

}  // namespace strata::engine
