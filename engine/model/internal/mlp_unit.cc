#include "engine/model/internal/mlp_unit.h"

#include <algorithm>

#include "engine/model/internal/unit_ops.h"

namespace strata::engine {
namespace {

enum Tensor : size_t { kGate, kUp, kDown };  // of a part

Matrix ColumnRange(const Matrix& matrix, uint64_t cols) {
  Matrix range = matrix;
  range.cols = range.stride = cols;
  return range;
}

}  // namespace

MlpUnit::MlpUnit(const LlamaConfig& config, uint64_t part_elements, DType dtype,
                 const BatchShape& batch, Kernels* kernels)
    : dtype_(dtype),
      kernels_(kernels),
      cut_(CutOf(config, UnitKind::kMlp, part_elements)),
      specs_(UnitsOf(config, UnitKind::kMlp, 0, part_elements)),
      num_tokens_(batch.num_tokens()),
      hidden_size_(config.hidden_size),
      chunk_rows_(std::min<uint64_t>(num_tokens_, kernels->rows_at_once().rows)),
      eps_(static_cast<float>(config.rms_norm_eps)) {}

std::vector<MlpUnit::Gates> MlpUnit::TakeGates(WorkspaceLayout& layout, const Tile& tile,
                                               uint64_t rows) const {
  std::vector<Gates> gates(tile.num_parts);
  for (uint32_t i = 0; i < tile.num_parts; ++i) {
    const uint64_t cols = cut_.size(tile.first_part + i);
    gates[i].gate = layout.TakeMatrix(dtype_, rows, cols);
    gates[i].up = layout.TakeMatrix(dtype_, rows, cols);
  }
  return gates;
}

MlpUnit::Buffers MlpUnit::LayOut(WorkspaceLayout& layout, const Tile& tile, Pass pass,
                                 const RowsOf& operands) const {
  const uint64_t rows = operands.x.rows;
  const bool is_forward = pass == Pass::kForward;
  Buffers buffers;
  buffers.product_workspace = layout.Take(kernels_->MatMulWorkspaceBytes());
  if (!is_forward) buffers.two_pass_workspace = layout.Take(kernels_->TwoPassWorkspaceBytes());
  buffers.gates = operands.kept;
  if (buffers.gates.empty()) {  // one part's after the other's, in the same place
    Gates first{layout.TakeMatrix(dtype_, rows, cut_.step),
                layout.TakeMatrix(dtype_, rows, cut_.step)};
    for (uint32_t part = tile.first_part; part < tile.end_part(); ++part) {
      buffers.gates.push_back(
          {ColumnRange(first.gate, cut_.size(part)), ColumnRange(first.up, cut_.size(part))});
    }
  }
  buffers.sum = operands.sum;
  if (num_parts() > 1 && IsWhole(tile))
    buffers.sum = layout.TakeMatrix(DType::kF32, rows, hidden_size_);
  // Forward makes h in y's memory, where there is a y.
  buffers.h = operands.out;
  if (!is_forward || !HasLast(tile)) buffers.h = layout.TakeMatrix(dtype_, rows, hidden_size_);
  const uint64_t mark = layout.used_bytes();
  buffers.act = layout.TakeMatrix(dtype_, rows, cut_.step);
  if (is_forward) return buffers;
  buffers.dh = buffers.sum;
  if (num_parts() > 1) return buffers;
  layout.Rewind(mark);  // once the gradients of gate and up are there, act is not needed for dh
  buffers.dh = layout.TakeMatrix(DType::kF32, rows, hidden_size_);
  return buffers;
}

uint64_t MlpUnit::KeptBytes(const Tile& tile) const {
  WorkspaceLayout layout;
  TakeGates(layout, tile, num_tokens_);
  return layout.peak_bytes();
}

uint64_t MlpUnit::WorkspaceBytes(Pass pass, Intermediates intermediates, const Tile& tile) const {
  RowsOf operands;
  operands.x.rows = chunk_rows_;
  if (intermediates == Intermediates::kKeep) operands.kept.resize(tile.num_parts);
  WorkspaceLayout layout;
  LayOut(layout, tile, pass, operands);
  return layout.peak_bytes();
}

double MlpUnit::Flops(Pass pass, Intermediates intermediates, const Tile& tile) const {
  uint64_t columns = 0;
  for (uint32_t part = tile.first_part; part < tile.end_part(); ++part) columns += cut_.size(part);
  const double product = 2 * static_cast<double>(num_tokens_) * static_cast<double>(hidden_size_) *
                         static_cast<double>(columns);
  if (pass == Pass::kForward) return 3 * product;
  return intermediates == Intermediates::kRecompute ? (2 + 6) * product : 6 * product;
}

MlpUnit::Tensors MlpUnit::TensorsOf(const TileOperands& tile, uint32_t index) const {
  const bool is_cut = num_parts() > 1;
  const size_t spec = is_cut ? 1 + tile.first_part + index : 0;
  const size_t first = is_cut ? 0 : 1;  // after the norm
  const UnitMemory& memory = tile.parts[index];
  const Parameters parameters(specs_[spec], dtype_, memory.weights, memory.gradient);
  return {parameters.Weight(first + kGate), parameters.Weight(first + kUp),
          parameters.Weight(first + kDown), parameters.Gradient(first + kGate),
          parameters.Gradient(first + kUp), parameters.Gradient(first + kDown)};
}

Parameters MlpUnit::NormOf(const TileOperands& tile) const {
  return Parameters(specs_.front(), dtype_, tile.norm.weights, tile.norm.gradient);
}

template <typename Visit>
Status MlpUnit::ForChunks(const RowsOf& operands, Visit&& visit) const {
  for (uint64_t first = 0; first < num_tokens_; first += chunk_rows_) {
    const uint64_t count = std::min(chunk_rows_, num_tokens_ - first);
    auto some = [&](const Matrix& matrix) {
      return matrix.data == nullptr ? matrix : RowRange(matrix, first, count);
    };
    RowsOf rows{some(operands.x), some(operands.out), some(operands.sum), {}};
    for (const Gates& gates : operands.kept)
      rows.kept.push_back({some(gates.gate), some(gates.up)});
    STRATA_RETURN_IF_ERROR(visit(rows));
  }
  return OkStatus();
}

Status MlpUnit::Project(const Products& products, const Tensors& tensors, const Matrix& h,
                        const Gates& gates) const {
  STRATA_RETURN_IF_ERROR(products.Linear(h, tensors.gate, gates.gate));
  return products.Linear(h, tensors.up, gates.up);
}

Status MlpUnit::ForwardPart(const Stream& stream, const Tensors& tensors, uint32_t part,
                            const RowsOf& rows, const Buffers& b, const Gates& gates) const {
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(Project(products, tensors, b.h, gates));
  const Matrix act = ColumnRange(b.act, cut_.size(part));
  STRATA_RETURN_IF_ERROR(kernels_->SwiGluForward(stream, gates.gate, gates.up, act));
  const Matrix& out = num_parts() == 1 ? rows.out : b.sum;
  return products.Linear(act, tensors.down, out,
                         part == 0 ? Output::kOverwrite : Output::kAccumulate);
}

Status MlpUnit::ForwardRows(const Stream& stream, const TileOperands& operands, const RowsOf& rows,
                            Bytes workspace) const {
  WorkspaceLayout layout(workspace);
  const Tile tile = operands.tile();
  const Buffers b = LayOut(layout, tile, Pass::kForward, rows);
  STRATA_RETURN_IF_ERROR(
      kernels_->RmsNormForward(stream, rows.x, NormOf(operands).norm(), eps_, b.h));
  for (uint32_t i = 0; i < tile.num_parts; ++i) {
    STRATA_RETURN_IF_ERROR(
        ForwardPart(stream, TensorsOf(operands, i), tile.first_part + i, rows, b, b.gates[i]));
  }
  if (!HasLast(tile)) return OkStatus();
  if (num_parts() > 1) STRATA_RETURN_IF_ERROR(kernels_->Cast(stream, b.sum, rows.out));
  return kernels_->Add(stream, rows.x, rows.out, rows.out);
}

Status MlpUnit::Forward(const Stream& stream, const TileOperands& operands, const Matrix& x,
                        const Matrix& y, const Matrix& sum, Bytes kept, Bytes workspace) const {
  RowsOf all{x, y, sum, {}};
  WorkspaceLayout layout(kept);
  if (!kept.empty()) all.kept = TakeGates(layout, operands.tile(), num_tokens_);
  return ForChunks(
      all, [&](const RowsOf& rows) { return ForwardRows(stream, operands, rows, workspace); });
}

Status MlpUnit::ActivateBackward(const Products& products, const Tensors& tensors, const Matrix& dy,
                                 const Matrix& act, const Gates& gates) const {
  STRATA_RETURN_IF_ERROR(products.WeightGradient(dy, act, tensors.down_gradient));
  const Matrix& dact = act;  // act itself has done its duty
  STRATA_RETURN_IF_ERROR(products.InputGradient(dy, tensors.down, dact, Output::kOverwrite));
  return kernels_->SwiGluBackward(products.stream, gates.gate, gates.up, dact, gates.gate,
                                  gates.up);
}

Status MlpUnit::BackwardPart(const Stream& stream, const Tensors& tensors, uint32_t part,
                             const Matrix& dy, const Buffers& b, const Gates& gates) const {
  const Matrix act = ColumnRange(b.act, cut_.size(part));
  STRATA_RETURN_IF_ERROR(kernels_->SwiGluForward(stream, gates.gate, gates.up, act));
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(ActivateBackward(products, tensors, dy, act, gates));
  STRATA_RETURN_IF_ERROR(products.WeightGradient(gates.gate, b.h, tensors.gate_gradient));
  STRATA_RETURN_IF_ERROR(products.WeightGradient(gates.up, b.h, tensors.up_gradient));
  const bool is_first = part + 1 == num_parts();
  STRATA_RETURN_IF_ERROR(products.InputGradient(
      gates.gate, tensors.gate, b.dh, is_first ? Output::kOverwrite : Output::kAccumulate));
  return products.InputGradient(gates.up, tensors.up, b.dh, Output::kAccumulate);
}

Status MlpUnit::BackwardRows(const Stream& stream, const TileOperands& operands, const RowsOf& rows,
                             Bytes workspace) const {
  WorkspaceLayout layout(workspace);
  const Tile tile = operands.tile();
  const Buffers b = LayOut(layout, tile, Pass::kBackward, rows);
  const Parameters norm = NormOf(operands);
  const Products products{*kernels_, stream, b.product_workspace};
  STRATA_RETURN_IF_ERROR(kernels_->RmsNormForward(stream, rows.x, norm.norm(), eps_, b.h));
  for (uint32_t i = tile.num_parts; i-- > 0;) {
    const Tensors tensors = TensorsOf(operands, i);
    if (rows.kept.empty()) STRATA_RETURN_IF_ERROR(Project(products, tensors, b.h, b.gates[i]));
    STRATA_RETURN_IF_ERROR(
        BackwardPart(stream, tensors, tile.first_part + i, rows.out, b, b.gates[i]));
  }
  if (tile.first_part > 0) return OkStatus();
  return NormBackward(*kernels_, stream, norm, eps_, rows.x, b.dh, b.h, rows.out,
                      b.two_pass_workspace);
}

Status MlpUnit::Backward(const Stream& stream, const TileOperands& operands, const Matrix& x,
                         const Matrix& d, const Matrix& sum, Bytes kept, Bytes workspace) const {
  RowsOf all{x, d, sum, {}};
  WorkspaceLayout layout(kept);
  if (!kept.empty()) all.kept = TakeGates(layout, operands.tile(), num_tokens_);
  return ForChunks(
      all, [&](const RowsOf& rows) { return BackwardRows(stream, operands, rows, workspace); });
}

}  // namespace strata::engine
