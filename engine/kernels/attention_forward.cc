// Softmax attention by tiles of queries x keys (Dao et al. 2022). A task is a tile of queries of
// one head; it walks the keys it may see. Probabilities are rounded to the dtype of the inputs
// before they are multiplied with values, as flash attention does; their sum is of the unrounded
// ones.
#include <algorithm>
#include <limits>

#include "engine/kernels/internal/attention.h"

namespace strata::engine {
namespace {

struct ForwardTask {
  const Geometry& geometry;
  const RowKernels& rows;
  Multiplier& multiplier;
  Matrix q, k, v, out;  // of one head: q and out of one tile, k and v whole
  size_t query_tile;
  float* log_sum_exp;

  void Run(const ForwardMemory& memory) const {
    std::fill_n(memory.maximum, q.rows, -std::numeric_limits<float>::infinity());
    std::fill_n(memory.sum, q.rows, 0.0f);
    std::fill_n(memory.out, q.rows * geometry.shape.head_dim, 0.0f);
    const RunningSoftmax running{memory.maximum, memory.sum, memory.out, geometry.shape.head_dim};
    for (size_t i = 0; i < geometry.VisibleKeyTiles(query_tile); ++i) AddKeys(i, memory, running);
    rows.softmax_finish(running, out, log_sum_exp);
  }

  void AddKeys(size_t key_tile, const ForwardMemory& memory, const RunningSoftmax& running) const {
    const Matrix keys = Rows(k, geometry.keys.begin(key_tile), geometry.keys.piece);
    const Matrix values = Rows(v, geometry.keys.begin(key_tile), geometry.keys.piece);
    const ScoreTile tile = geometry.Tile(memory.scores.floats, query_tile, key_tile);
    multiplier.Run({q}, {keys, Transpose::kYes}, ScoresOf(memory.scores, tile), Output::kOverwrite);
    const Matrix probabilities = RoundedTile(geometry, memory.scores, tile);
    rows.softmax_tile(tile, probabilities, running);
    multiplier.Run({probabilities}, {values}, SumsOf(geometry, memory.out, 0, q.rows),
                   Output::kAccumulate);
  }
};

}  // namespace

Status CpuKernels::AttentionForward(const Stream&, const AttentionShape& shape, const Matrix& q,
                                    const Matrix& k, const Matrix& v, const Matrix& out,
                                    float* log_sum_exp, std::span<std::byte> workspace) {
  CheckAttentionShapes(shape, q, k, v);
  CheckAttentionShapes(shape, out, k, v);
  CheckWorkspace(workspace, AttentionWorkspaceBytes(shape, q.dtype));
  const Geometry geometry(shape, q.dtype);
  const size_t num_sequences = shape.batch * shape.num_heads;
  pool_.ParallelFor(num_sequences * geometry.queries.count(), [&](size_t i, uint32_t thread) {
    // The last tiles see the most keys: first, so that the threads end together.
    const size_t query_tile = geometry.queries.count() - 1 - i / num_sequences;
    const size_t batch = i % num_sequences / shape.num_heads;
    const size_t head = i % shape.num_heads;
    const size_t kv_head = head / geometry.heads_per_kv_head();
    const size_t begin = geometry.queries.begin(query_tile);
    const size_t count = geometry.queries.size(query_tile);
    const ForwardTask task{geometry,
                           rows_,
                           multipliers_[thread],
                           geometry.Head(q, batch, head, begin, count),
                           geometry.Head(k, batch, kv_head, 0, shape.seq_len),
                           geometry.Head(v, batch, kv_head, 0, shape.seq_len),
                           geometry.Head(out, batch, head, begin, count),
                           query_tile,
                           log_sum_exp + geometry.RowOffset(batch, head) + begin};
    task.Run(MemoryOf<ForwardMemory>(geometry, workspace, thread));
  });
  return OkStatus();
}

}  // namespace strata::engine
