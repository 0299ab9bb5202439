// How attention is cut into tiles of queries x keys, and the memory and products of a tile.
#pragma once

#include <algorithm>
#include <cmath>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {

inline constexpr size_t kQueriesPerTile = 128;
inline constexpr size_t kKeysPerTile = 128;
inline constexpr size_t kAlignmentBytes = 64;

// Hands out parts of the workspace, or only counts what they need.
class Parts {
 public:
  explicit Parts(std::byte* base) : base_(base) {}
  std::byte* Bytes(size_t size_bytes) {
    std::byte* part = base_ == nullptr ? nullptr : base_ + used_bytes_;
    used_bytes_ += RoundUp(size_bytes, kAlignmentBytes);
    return part;
  }
  float* Floats(size_t count) { return reinterpret_cast<float*>(Bytes(count * sizeof(float))); }
  size_t used_bytes() const { return used_bytes_; }

 private:
  std::byte* base_;
  size_t used_bytes_ = 0;
};

// How a shape is cut, and where its heads are in the packed matrices.
struct Geometry {
  Geometry(const AttentionShape& shape_in, DType dtype_in)
      : shape(shape_in),
        dtype(dtype_in),
        queries{shape.seq_len, std::min(kQueriesPerTile, shape.seq_len)},
        keys{shape.seq_len, std::min(kKeysPerTile, shape.seq_len)},
        scale(static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)))) {}

  size_t heads_per_kv_head() const { return shape.num_heads / shape.num_kv_heads; }
  // Rows [begin, begin + count) of sequence `batch`, the columns of one head.
  Matrix Head(const Matrix& matrix, size_t batch, size_t head, size_t begin, size_t count) const {
    return Part(matrix, batch * shape.seq_len + begin, count, head * shape.head_dim,
                shape.head_dim);
  }
  // Where log_sum_exp, or whatever is laid out like it, starts for one sequence's head.
  size_t RowOffset(size_t batch, size_t head) const {
    return (head * shape.batch + batch) * shape.seq_len;
  }
  // How many tiles of keys a tile of queries sees.
  size_t VisibleKeyTiles(size_t query_tile) const {
    return CeilDiv(queries.begin(query_tile) + queries.size(query_tile), keys.piece);
  }
  ScoreTile Tile(const float* scores, size_t query_tile, size_t key_tile) const {
    return {.scores = scores,
            .rows = queries.size(query_tile),
            .cols = keys.size(key_tile),
            .stride = keys.piece,
            .diagonal = static_cast<ptrdiff_t>(queries.begin(query_tile)) -
                        static_cast<ptrdiff_t>(keys.begin(key_tile)),
            .scale = scale};
  }
  size_t tile_elements() const { return queries.piece * keys.piece; }
  size_t head_elements() const { return shape.seq_len * shape.head_dim; }

  AttentionShape shape;
  DType dtype;
  Cuts queries, keys;
  float scale;
};

// One thread's memory for scores and what is made of them. In fp32 one replaces the other in place.
struct TileMemory {
  TileMemory(const Geometry& geometry, Parts& parts)
      : floats(parts.Floats(geometry.tile_elements())),
        rounded(geometry.dtype == DType::kF32
                    ? reinterpret_cast<std::byte*>(floats)
                    : parts.Bytes(geometry.tile_elements() * SizeOf(geometry.dtype))) {}
  float* floats;
  std::byte* rounded;
};

// A tile's scores in fp32: a product's output.
inline Matrix ScoresOf(const TileMemory& memory, const ScoreTile& tile) {
  return {reinterpret_cast<std::byte*>(memory.floats), DType::kF32, tile.rows, tile.cols,
          tile.stride};
}
// Where a tile's probabilities, or gradients, go.
inline Matrix RoundedTile(const Geometry& geometry, const TileMemory& memory,
                          const ScoreTile& tile) {
  return {memory.rounded, geometry.dtype, tile.rows, tile.cols, tile.stride};
}

struct ForwardMemory {
  ForwardMemory(const Geometry& geometry, Parts& parts)
      : scores(geometry, parts),
        maximum(parts.Floats(geometry.queries.piece)),
        sum(parts.Floats(geometry.queries.piece)),
        out(parts.Floats(geometry.queries.piece * geometry.shape.head_dim)) {}
  TileMemory scores;
  float *maximum, *sum, *out;
};

struct BackwardMemory {
  BackwardMemory(const Geometry& geometry, Parts& parts)
      : scores(geometry, parts),
        dprobabilities(geometry, parts),
        dq(parts.Floats(geometry.shape.seq_len * geometry.shape.head_dim)),
        dk(parts.Floats(geometry.shape.seq_len * geometry.shape.head_dim)),
        dv(parts.Floats(geometry.shape.seq_len * geometry.shape.head_dim)),
        dots(parts.Floats(geometry.shape.seq_len)) {}
  TileMemory scores, dprobabilities;
  float *dq, *dk, *dv, *dots;
};

template <typename Memory>
size_t BytesPerThread(const Geometry& geometry) {
  Parts parts(nullptr);
  Memory memory(geometry, parts);
  return parts.used_bytes();
}

template <typename Memory>
Memory MemoryOf(const Geometry& geometry, std::span<std::byte> workspace, uint32_t thread) {
  Parts parts(workspace.data() + thread * BytesPerThread<Memory>(geometry));
  return Memory(geometry, parts);
}

// Sums of a head in fp32, from row `row` on.
inline Matrix SumsOf(const Geometry& geometry, float* sums, size_t row, size_t rows) {
  const size_t head_dim = geometry.shape.head_dim;
  return DenseMatrix(reinterpret_cast<std::byte*>(sums + row * head_dim), DType::kF32, rows,
                     head_dim);
}

inline void CheckWorkspace(std::span<std::byte> workspace, size_t needed_bytes) {
  STRATA_CHECK(workspace.size() >= needed_bytes);
  STRATA_CHECK(reinterpret_cast<uintptr_t>(workspace.data()) % kAlignmentBytes == 0);
}

void CheckAttentionShapes(const AttentionShape& shape, const Matrix& q, const Matrix& k,
                          const Matrix& v);

}  // namespace strata::engine
