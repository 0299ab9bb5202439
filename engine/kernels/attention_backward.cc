// The backward of attention, recomputing probabilities tile by tile from log_sum_exp. A task is one
// key-value head of one sequence; it walks its query heads in order, and for each the tiles of keys
// and of the queries that see them, so that every sum has one order. Sums are in fp32 and rounded
// once; probabilities and score gradients are rounded to the dtype of the inputs before products.
#include <algorithm>

#include "engine/kernels/internal/attention.h"

namespace strata::engine {
namespace {

struct BackwardTask {
  const Geometry& geometry;
  const RowKernels& rows;
  Multiplier& multiplier;
  const BackwardMemory& memory;

  // Of one query head: all of a sequence. dk and dv are summed over heads, dq is complete after.
  struct Head {
    Matrix q, k, v, out, dout;
    const float* log_sum_exp;
  };

  void AddHead(const Head& head) const {
    rows.row_dots(head.dout, head.out, memory.dots);
    std::fill_n(memory.dq, geometry.head_elements(), 0.0f);
    for (size_t key_tile = 0; key_tile < geometry.keys.count(); ++key_tile) {
      size_t query_tile = geometry.keys.begin(key_tile) / geometry.queries.piece;
      for (; query_tile < geometry.queries.count(); ++query_tile) {
        AddTile(head, query_tile, key_tile);
      }
    }
  }

  void AddTile(const Head& head, size_t query_tile, size_t key_tile) const {
    const size_t query = geometry.queries.begin(query_tile);
    const size_t key = geometry.keys.begin(key_tile);
    const Matrix q = Rows(head.q, query, geometry.queries.piece);
    const Matrix dout = Rows(head.dout, query, geometry.queries.piece);
    const Matrix k = Rows(head.k, key, geometry.keys.piece);
    const Matrix v = Rows(head.v, key, geometry.keys.piece);
    const TileMemory& scores = memory.scores;
    const TileMemory& gradients = memory.dprobabilities;
    const ScoreTile tile = geometry.Tile(scores.floats, query_tile, key_tile);
    const Matrix probabilities = RoundedTile(geometry, scores, tile);
    const Matrix dscores = RoundedTile(geometry, gradients, tile);
    multiplier.Run({q}, {k, Transpose::kYes}, ScoresOf(scores, tile), Output::kOverwrite);
    multiplier.Run({dout}, {v, Transpose::kYes}, ScoresOf(gradients, tile), Output::kOverwrite);
    rows.softmax_backward_tile(tile, gradients.floats, head.log_sum_exp + query,
                               memory.dots + query, probabilities, dscores);
    const auto add = [&](const ProductOperand& a, const Matrix& b, float* sums, size_t row) {
      multiplier.Run(a, {b}, SumsOf(geometry, sums, row, a.rows()), Output::kAccumulate);
    };
    add({probabilities, Transpose::kYes}, dout, memory.dv, key);
    add({dscores, Transpose::kYes}, q, memory.dk, key);
    add({dscores}, k, memory.dq, query);
  }
};

// What was summed in `sums` to the columns of one head.
void Store(const Geometry& geometry, const RowKernels& rows, float* sums, const Matrix& head) {
  rows.cast(DenseMatrix(reinterpret_cast<std::byte*>(sums), DType::kF32, geometry.shape.seq_len,
                        geometry.shape.head_dim),
            head);
}

}  // namespace

Status CpuKernels::AttentionBackward(const Stream&, const AttentionShape& shape, const Matrix& q,
                                     const Matrix& k, const Matrix& v, const Matrix& out,
                                     const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                                     const Matrix& dk, const Matrix& dv,
                                     std::span<std::byte> workspace) {
  CheckAttentionShapes(shape, q, k, v);
  CheckAttentionShapes(shape, out, k, v);
  CheckAttentionShapes(shape, dout, k, v);
  CheckAttentionShapes(shape, dq, dk, dv);
  CheckWorkspace(workspace, AttentionWorkspaceBytes(shape, q.dtype));
  const Geometry geometry(shape, q.dtype);
  pool_.ParallelFor(shape.batch * shape.num_kv_heads, [&](size_t i, uint32_t thread) {
    const size_t batch = i / shape.num_kv_heads, kv_head = i % shape.num_kv_heads;
    const BackwardMemory memory = MemoryOf<BackwardMemory>(geometry, workspace, thread);
    const BackwardTask task{geometry, rows_, multipliers_[thread], memory};
    const auto part = [&](const Matrix& matrix, size_t head) {
      return geometry.Head(matrix, batch, head, 0, shape.seq_len);
    };
    std::fill_n(memory.dk, geometry.head_elements(), 0.0f);
    std::fill_n(memory.dv, geometry.head_elements(), 0.0f);
    for (size_t j = 0; j < geometry.heads_per_kv_head(); ++j) {
      const size_t head = kv_head * geometry.heads_per_kv_head() + j;
      task.AddHead({part(q, head), part(k, kv_head), part(v, kv_head), part(out, head),
                    part(dout, head), log_sum_exp + geometry.RowOffset(batch, head)});
      Store(geometry, rows_, memory.dq, part(dq, head));
    }
    Store(geometry, rows_, memory.dk, part(dk, kv_head));
    Store(geometry, rows_, memory.dv, part(dv, kv_head));
  });
  return OkStatus();
}

}  // namespace strata::engine
