// Attention in fp32 on any shape and format: tiles of 32 queries x 32 keys, of which a thread has
// two by two. Heads are walked in pieces of 32 columns; outputs wider than kSlabCols are made slab
// by slab, each by blocks of its own that make the scores again.
#include <algorithm>
#include <limits>

#include "engine/kernels/cuda/attention_arguments.h"
#include "engine/kernels/cuda/dynamic_shared.h"
#include "engine/kernels/cuda/for_packs.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kSide = 32;  // of a tile
constexpr unsigned kThreads = 256;
constexpr unsigned kHalf = kSide / 2;  // a thread has rows y and y + 16, columns x and x + 16
constexpr unsigned kSlabCols = 128;
constexpr size_t kTileElements = kSide * (kSide + 1);  // rows end one apart: no bank twice

struct Tile {
  float* data;
  __device__ float& At(unsigned row, unsigned col) const { return data[row * (kSide + 1) + col]; }
};

// Two by two of a tile, by thread.
struct Quad {
  float values[2][2] = {};
  __device__ static unsigned Row(unsigned i) { return threadIdx.x / kHalf + i * kHalf; }
  __device__ static unsigned Col(unsigned j) { return threadIdx.x % kHalf + j * kHalf; }
};

// Rows of a head: the first num_rows of a tile are there, and num_cols of its columns.
template <typename T>
struct Part {
  HeadRows<const T> rows;
  size_t num_rows, num_cols;
};

// Columns [first_col, first_col + 32) of a part, zeros where it ends. By all threads of the block.
template <typename T>
__device__ void Load(const Part<T>& part, size_t first_col, const Tile& tile) {
  for (unsigned i = threadIdx.x; i < kSide * kSide; i += kThreads) {
    const unsigned row = i / kSide, col = i % kSide;
    const bool is_there = row < part.num_rows && first_col + col < part.num_cols;
    tile.At(row, col) = is_there ? ToFloat(part.rows.Row(row)[first_col + col]) : 0.0f;
  }
}

// a * b^T over all columns of a head; a and b are memory for a piece of each.
template <typename T>
__device__ Quad DotRows(const Part<T>& rows, const Part<T>& cols, const Tile& a, const Tile& b) {
  Quad sums;
  for (size_t first = 0; first < rows.num_cols; first += kSide) {
    __syncthreads();
    Load(rows, first, a);
    Load(cols, first, b);
    __syncthreads();
    for (unsigned d = 0; d < kSide; ++d)
      for (unsigned i = 0; i < 2; ++i)
        for (unsigned j = 0; j < 2; ++j)
          sums.values[i][j] = fmaf(a.At(Quad::Row(i), d), b.At(Quad::Col(j), d), sums.values[i][j]);
  }
  return sums;
}

// What a block adds up: 32 rows of a slab of columns, in shared memory.
struct Sums {
  float* data;
  unsigned num_cols;  // rounded up to whole pieces
  __device__ float& At(unsigned row, unsigned col) const { return data[row * num_cols + col]; }
  __device__ void Zero() const {
    for (unsigned i = threadIdx.x; i < kSide * num_cols; i += kThreads) data[i] = 0.0f;
  }
};

enum class Weights { kAsTheyAre, kTransposed };

// sums += weights * rows, of the slab's columns. `piece` is memory for a piece of the rows.
template <Weights kWeights, typename T>
__device__ void AddWeighted(const Tile& weights, const Part<T>& rows, size_t first_col,
                            const Tile& piece, const Sums& sums) {
  for (unsigned first = 0; first < sums.num_cols; first += kSide) {
    __syncthreads();
    Load(rows, first_col + first, piece);
    __syncthreads();
    for (unsigned i = 0; i < 2; ++i) {
      for (unsigned j = 0; j < 2; ++j) {
        const unsigned row = Quad::Row(i), col = Quad::Col(j);
        float sum = sums.At(row, first + col);
        for (unsigned k = 0; k < kSide; ++k) {
          const float weight =
              kWeights == Weights::kTransposed ? weights.At(k, row) : weights.At(row, k);
          sum = fmaf(weight, piece.At(k, col), sum);
        }
        sums.At(row, first + col) = sum;
      }
    }
  }
}

// Rounds sums * factor(row) to the rows of a head.
template <typename T, typename Factor>
__device__ void Store(const Sums& sums, size_t num_rows, size_t first_col, size_t head_dim,
                      const HeadRows<T>& to, Factor factor) {
  __syncthreads();
  for (unsigned i = threadIdx.x; i < kSide * sums.num_cols; i += kThreads) {
    const unsigned row = i / sums.num_cols, col = i % sums.num_cols;
    if (row < num_rows && first_col + col < head_dim)
      to.Row(row)[first_col + col] = FromFloat<T>(sums.At(row, col) * factor(row));
  }
}

// Numbers as the product with them takes them: rounded to T.
template <typename T>
__device__ float Rounded(float value) {
  return ToFloat(FromFloat<T>(value));
}

__device__ inline size_t RowsFrom(size_t first, size_t seq_len) {
  return min(size_t{kSide}, seq_len - first);
}
template <typename T>
__device__ Part<T> PartOf(const Matrix& matrix, const AttentionShape& shape, size_t first_row,
                          size_t row, size_t head) {
  return {RowsOfHead<const T>(matrix, shape, first_row + row, head), RowsFrom(row, shape.seq_len),
          shape.head_dim};
}

// A block's shared memory, from its begin on.
struct Memory {
  __device__ explicit Memory(unsigned num_cols)
      : a{DynamicShared<float>()},
        b{a.data + kTileElements},
        first{b.data + kTileElements},
        second{first.data + kTileElements},
        sums1{second.data + kTileElements, num_cols},
        sums2{sums1.data + kSide * num_cols, num_cols} {}
  static size_t Bytes(unsigned num_cols, unsigned num_sums) {
    return (4 * kTileElements + num_sums * kSide * num_cols) * sizeof(float);
  }
  Tile a, b;           // pieces
  Tile first, second;  // made of scores
  Sums sums1, sums2;
};

// The slab that is blockIdx.y's.
struct Slab {
  size_t first_col;
  unsigned num_cols;
};
__host__ __device__ inline Slab SlabOf(size_t head_dim, size_t index) {
  const size_t first = index * kSlabCols, left = head_dim - first;
  const size_t cols = left < kSlabCols ? left : kSlabCols;
  return {first, static_cast<unsigned>((cols + kSide - 1) / kSide * kSide)};
}

template <typename T>
__global__ void __launch_bounds__(kThreads) PlainForwardKernel(AttentionArguments in) {
  __shared__ float maxima[kSide], totals[kSide], factors[kSide];
  const AttentionShape& shape = in.shape;
  const Slab slab = SlabOf(shape.head_dim, blockIdx.y);
  const Memory memory(slab.num_cols);
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task), first_query = task.tile * kSide;
  const Part<T> queries = PartOf<T>(in.q, shape, first_row, first_query, task.head);
  memory.sums1.Zero();
  if (threadIdx.x < kSide) {
    maxima[threadIdx.x] = -std::numeric_limits<float>::infinity();
    totals[threadIdx.x] = 0.0f;
  }
  for (size_t first_key = 0; first_key < first_query + queries.num_rows; first_key += kSide) {
    const Part<T> keys = PartOf<T>(in.k, shape, first_row, first_key, kv_head);
    const Part<T> values = PartOf<T>(in.v, shape, first_row, first_key, kv_head);
    const Quad scores = DotRows(queries, keys, memory.a, memory.b);
    for (unsigned i = 0; i < 2; ++i)
      for (unsigned j = 0; j < 2; ++j)
        memory.first.At(Quad::Row(i), Quad::Col(j)) = scores.values[i][j] * in.scale;
    __syncthreads();
    // Eight lanes share a row of scores.
    const unsigned row = threadIdx.x / 8, lane = threadIdx.x % 8;
    const size_t visible = first_query + row + 1 - min(first_query + row + 1, first_key);
    float maximum = maxima[row], total = 0;
    for (unsigned col = lane; col < kSide && col < visible; col += 8)
      maximum = fmaxf(maximum, memory.first.At(row, col));
    for (int step = 1; step < 8; step *= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, step));
    for (unsigned col = lane; col < kSide; col += 8) {
      const float p = col < visible ? expf(memory.first.At(row, col) - maximum) : 0.0f;
      total += p;
      memory.first.At(row, col) = Rounded<T>(p);
    }
    for (int step = 1; step < 8; step *= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    if (lane == 0) {
      factors[row] = expf(maxima[row] - maximum);
      totals[row] = totals[row] * factors[row] + total;
      maxima[row] = maximum;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < kSide * slab.num_cols; i += kThreads)
      memory.sums1.At(i / slab.num_cols, i % slab.num_cols) *= factors[i / slab.num_cols];
    AddWeighted<Weights::kAsTheyAre>(memory.first, values, slab.first_col, memory.a, memory.sums1);
  }
  const auto to = RowsOfHead<T>(in.out, shape, first_row + first_query, task.head);
  Store(memory.sums1, queries.num_rows, slab.first_col, shape.head_dim, to,
        [&](unsigned row) { return 1.0f / totals[row]; });
  if (blockIdx.y == 0 && threadIdx.x < queries.num_rows) {
    in.log_sum_exp[FirstNumber(shape, task.head, task.batch) + first_query + threadIdx.x] =
        maxima[threadIdx.x] + logf(totals[threadIdx.x]);
  }
}

// Rounded probabilities and gradients of scores of a tile of queries x keys, in memory.first and
// .second; zeros where a query does not see a key, or is none.
template <typename T>
__device__ void Differentiate(const AttentionArguments& in, const AttentionTask& task, size_t head,
                              size_t first_query, size_t first_key, const Memory& memory) {
  const AttentionShape& shape = in.shape;
  const size_t first_row = FirstRow(shape, task), kv_head = head / HeadsPerKvHead(shape);
  const auto part = [&](const Matrix& matrix, size_t row, size_t of_head) {
    return PartOf<T>(matrix, shape, first_row, row, of_head);
  };
  const Quad scores =
      DotRows(part(in.q, first_query, head), part(in.k, first_key, kv_head), memory.a, memory.b);
  const Quad gradients =
      DotRows(part(in.dout, first_query, head), part(in.v, first_key, kv_head), memory.a, memory.b);
  const size_t numbers = FirstNumber(shape, head, task.batch);
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned j = 0; j < 2; ++j) {
      const unsigned row = Quad::Row(i), col = Quad::Col(j);
      const size_t query = first_query + row;
      float p = 0, ds = 0;
      if (first_key + col <= query && query < shape.seq_len) {
        p = expf(scores.values[i][j] * in.scale - in.log_sum_exp[numbers + query]);
        ds = p * (gradients.values[i][j] - in.dots[numbers + query]) * in.scale;
      }
      memory.first.At(row, col) = Rounded<T>(p);
      memory.second.At(row, col) = Rounded<T>(ds);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) PlainKeysBackwardKernel(AttentionArguments in) {
  const AttentionShape& shape = in.shape;
  const Slab slab = SlabOf(shape.head_dim, blockIdx.y);
  const Memory memory(slab.num_cols);
  const AttentionTask task = TaskOf(blockIdx.x, shape.num_kv_heads, shape.batch);
  const size_t first_row = FirstRow(shape, task), first_key = task.tile * kSide;
  memory.sums1.Zero();
  memory.sums2.Zero();
  const size_t group = HeadsPerKvHead(shape);
  for (size_t head = task.head * group; head < (task.head + 1) * group; ++head) {
    for (size_t first_query = first_key; first_query < shape.seq_len; first_query += kSide) {
      Differentiate<T>(in, task, head, first_query, first_key, memory);
      const Part<T> q = PartOf<T>(in.q, shape, first_row, first_query, head);
      const Part<T> dout = PartOf<T>(in.dout, shape, first_row, first_query, head);
      AddWeighted<Weights::kTransposed>(memory.second, q, slab.first_col, memory.a, memory.sums1);
      AddWeighted<Weights::kTransposed>(memory.first, dout, slab.first_col, memory.b, memory.sums2);
    }
  }
  const size_t num_keys = RowsFrom(first_key, shape.seq_len);
  const auto one = [](unsigned) { return 1.0f; };
  Store(memory.sums1, num_keys, slab.first_col, shape.head_dim,
        RowsOfHead<T>(in.dk, shape, first_row + first_key, task.head), one);
  Store(memory.sums2, num_keys, slab.first_col, shape.head_dim,
        RowsOfHead<T>(in.dv, shape, first_row + first_key, task.head), one);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) PlainQueriesBackwardKernel(AttentionArguments in) {
  const AttentionShape& shape = in.shape;
  const Slab slab = SlabOf(shape.head_dim, blockIdx.y);
  const Memory memory(slab.num_cols);
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task), first_query = task.tile * kSide;
  const size_t num_queries = RowsFrom(first_query, shape.seq_len);
  memory.sums1.Zero();
  for (size_t first_key = 0; first_key < first_query + num_queries; first_key += kSide) {
    Differentiate<T>(in, task, task.head, first_query, first_key, memory);
    const Part<T> keys = PartOf<T>(in.k, shape, first_row, first_key, kv_head);
    AddWeighted<Weights::kAsTheyAre>(memory.second, keys, slab.first_col, memory.a, memory.sums1);
  }
  Store(memory.sums1, num_queries, slab.first_col, shape.head_dim,
        RowsOfHead<T>(in.dq, shape, first_row + first_query, task.head),
        [](unsigned) { return 1.0f; });
}

// A row of a head by as many lanes as read it well: packs of 16 bytes need fewer.
template <typename T, size_t kPack>
__global__ void __launch_bounds__(kThreads) AttentionDotsKernel(AttentionArguments in) {
  constexpr unsigned kLanes = kPack > 1 ? 8 : 32, kRowsOfWarp = 32 / kLanes;
  const AttentionShape& shape = in.shape;
  const size_t rows = shape.batch * shape.seq_len, num_dots = rows * shape.num_heads;
  const size_t warp = (size_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  const unsigned lane = threadIdx.x % kLanes;
  for (size_t first = warp * kRowsOfWarp; first < num_dots;
       first += size_t{gridDim.x} * kThreads / 32 * kRowsOfWarp) {
    const size_t i = first + threadIdx.x % 32 / kLanes;
    const size_t row = i / shape.num_heads, head = i % shape.num_heads;
    float sum = 0;
    if (i < num_dots) {
      const T* out = RowsOfHead<const T>(in.out, shape, row, head).data;
      const T* dout = RowsOfHead<const T>(in.dout, shape, row, head).data;
      for (size_t col = lane * kPack; col < shape.head_dim; col += kLanes * kPack) {
        float a[kPack], b[kPack];
        LoadFloats(out + col, shape.head_dim - col, a);
        LoadFloats(dout + col, shape.head_dim - col, b);
        for (size_t j = 0; j < kPack; ++j) sum = fmaf(a[j], b[j], sum);
      }
    }
    for (unsigned step = kLanes / 2; step > 0; step /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, static_cast<int>(step));
    if (i < num_dots && lane == 0) in.dots[head * rows + row] = sum;
  }
}

// Blocks for all tiles of 32 rows, of all slabs.
Result<LaunchShape> ShapeOfBlocks(const AttentionShape& shape, size_t num_heads,
                                  unsigned num_sums) {
  const unsigned num_cols = SlabOf(shape.head_dim, 0).num_cols;  // the first is the widest
  STRATA_ASSIGN_OR_RETURN(LaunchShape launch, ShapeOfTasks(shape, num_heads, kSide, kThreads,
                                                           Memory::Bytes(num_cols, num_sums)));
  launch.grid.y = static_cast<unsigned>(CeilDiv(shape.head_dim, size_t{kSlabCols}));
  return launch;
}

}  // namespace

Status AttentionDots(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  const size_t num_dots = shape.batch * shape.seq_len * shape.num_heads;
  const auto launch = [&]<typename T, size_t kPack>(T, std::integral_constant<size_t, kPack>) {
    constexpr size_t kDotsOfBlock = kThreads / (kPack > 1 ? 8 : 32);
    return Launch(&AttentionDotsKernel<T, kPack>,
                  {.grid = NumBlocks(num_dots, kDotsOfBlock), .block = kThreads}, stream,
                  arguments);
  };
  return WithElementType(arguments.q.dtype, [&]<typename T>(T) {
    constexpr size_t kPack = kPackBytes / sizeof(T);
    if (shape.head_dim % kPack != 0) return launch(T(), std::integral_constant<size_t, 1>());
    return WithPackOf<kPack>({&arguments.out, &arguments.dout},
                             [&](auto pack) { return launch(T(), pack); });
  });
}

Status PlainForward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  STRATA_ASSIGN_OR_RETURN(const LaunchShape launch,
                          ShapeOfBlocks(arguments.shape, arguments.shape.num_heads, 1));
  return WithElementType(arguments.q.dtype, [&]<typename T>(T) {
    return Launch(&PlainForwardKernel<T>, launch, stream, arguments);
  });
}

Status PlainBackward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  STRATA_ASSIGN_OR_RETURN(const LaunchShape keys, ShapeOfBlocks(shape, shape.num_kv_heads, 2));
  STRATA_ASSIGN_OR_RETURN(const LaunchShape queries, ShapeOfBlocks(shape, shape.num_heads, 1));
  return WithElementType(arguments.q.dtype, [&]<typename T>(T) -> Status {
    STRATA_RETURN_IF_ERROR(Launch(&PlainKeysBackwardKernel<T>, keys, stream, arguments));
    return Launch(&PlainQueriesBackwardKernel<T>, queries, stream, arguments);
  });
}

}  // namespace strata::engine::cuda
