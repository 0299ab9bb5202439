// The backward of attention on tensor cores, recomputing probabilities from log_sum_exp.
//
// In two passes, so that every sum is made by one block: dk and dv by one that has a tile of keys
// and walks the queries that see them, of all heads that share the keys; dq by one that has a tile
// of queries and walks the keys. Both do the same with rows and columns exchanged: scores and the
// probabilities' gradients, of a warp's rows x 32 columns, and from them what is added. The next
// columns arrive meanwhile.
#include "engine/kernels/cuda/attention_tiles.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kCols = 32;  // of a tile that is walked

// A block's shared memory: a tile of rows of two matrices, and twice one of columns of two, with
// two numbers per column.
template <typename T, unsigned kDim, unsigned kRows>
struct BackwardMemory {
  static constexpr unsigned kColElements = kCols * kDim;
  static constexpr size_t kBytes =
      Tile<T, kDim>::template Bytes<2 * kRows + 4 * kCols>() + 4 * kCols * sizeof(float);
  using TileOf = Tile<T, kDim>;

  __device__ BackwardMemory()
      : rows1{DynamicShared<T>()},
        rows2{rows1.data + kRows * kDim},
        cols{rows2.data + kRows * kDim},
        numbers(reinterpret_cast<float*>(cols.data + 4 * kColElements)) {}

  // Of which turn: 0 or 1.
  __device__ TileOf Cols1(unsigned turn) const { return {cols.data + turn * 2 * kColElements}; }
  __device__ TileOf Cols2(unsigned turn) const { return {Cols1(turn).data + kColElements}; }
  __device__ float* LogSumExp(unsigned turn) const { return numbers + turn * 2 * kCols; }
  __device__ float* Dots(unsigned turn) const { return LogSumExp(turn) + kCols; }

  TileOf rows1, rows2, cols;
  float* numbers;
};

// From scores and d(loss)/d(probabilities) to probabilities and d(loss)/d(scores), which still have
// to be multiplied with the scale. numbers(strip, half, col) gives the query's log_sum_exp and dot;
// sees(strip, half, col) whether the query sees the key.
template <unsigned kStrips, typename Numbers, typename Sees>
__device__ void DifferentiateSoftmax(Sums<kStrips, kCols>& scores, Sums<kStrips, kCols>& gradients,
                                     float scale, const Numbers& numbers, const Sees& sees) {
  const float exponent = scale * kLog2E;
  scores.ForEach([&](float& score, unsigned strip, unsigned half, unsigned col) {
    const float2 of_query = numbers(strip, half, col);
    float& gradient = gradients.x[strip][col / 8][half * 2 + col % 2];
    const float p = ExpOfTwo(fmaf(score, exponent, -of_query.x * kLog2E));
    const bool counts = sees(strip, half, col);
    score = counts ? p : 0.0f;
    gradient = counts ? p * (gradient - of_query.y) : 0.0f;
  });
}

// Both for a warp's rows, from row_of_warp of the block's on, and the columns of a turn.
template <typename Memory, unsigned kStrips, typename Numbers, typename Sees>
__device__ void Differentiate(const Memory& memory, unsigned row_of_warp, unsigned turn,
                              float scale, const Numbers& numbers, bool all_see, const Sees& sees,
                              Sums<kStrips, kCols>& probabilities,
                              Sums<kStrips, kCols>& gradients) {
  MultiplyTransposed(memory.rows1, row_of_warp, memory.Cols1(turn), probabilities);
  MultiplyTransposed(memory.rows2, row_of_warp, memory.Cols2(turn), gradients);
  if (all_see) {
    DifferentiateSoftmax(probabilities, gradients, scale, numbers,
                         [](unsigned, unsigned, unsigned) { return true; });
  } else {
    DifferentiateSoftmax(probabilities, gradients, scale, numbers, sees);
  }
}

// The tiles of queries that see a tile of keys: of the first head that shares them, then the next.
struct QueryTile {
  size_t head, first_query;
};

// Fewer keys per warp where heads are wide: what a warp adds up is in its registers.
template <unsigned kDim>
constexpr unsigned kKeyStrips = kDim <= 64 ? 2 : 1;

template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads, 2) AttentionKeysBackwardKernel(AttentionArguments in) {
  constexpr unsigned kStrips = kKeyStrips<kDim>, kRowsOfWarp = kStrips * kSide;
  constexpr unsigned kKeys = kWarps * kRowsOfWarp;
  const BackwardMemory<T, kDim, kKeys> memory;
  const AttentionShape& shape = in.shape;
  // The first keys are seen by the most queries.
  const AttentionTask task = TaskOf(blockIdx.x, shape.num_kv_heads, shape.batch);
  const size_t first_row = FirstRow(shape, task), first_key = task.tile * kKeys;
  const size_t num_keys = min(size_t{kKeys}, shape.seq_len - first_key);
  const size_t end_head = (task.head + 1) * HeadsPerKvHead(shape);
  const auto start_load = [&](const QueryTile& at, unsigned turn) {
    const size_t row = first_row + at.first_query;
    const size_t num_queries = min(size_t{kCols}, shape.seq_len - at.first_query);
    StartLoad<kCols, kDim, T>(RowsOfHead<const T>(in.q, shape, row, at.head), num_queries,
                              shape.head_dim, memory.Cols1(turn));
    StartLoad<kCols, kDim, T>(RowsOfHead<const T>(in.dout, shape, row, at.head), num_queries,
                              shape.head_dim, memory.Cols2(turn));
    // Of queries beyond the last: zeros, as all that is theirs.
    const size_t numbers = FirstNumber(shape, at.head, task.batch) + at.first_query;
    const unsigned col = threadIdx.x % kCols;
    const size_t number = numbers + (col < num_queries ? col : 0);
    if (Warp() == 0)
      StartCopy<4>(memory.LogSumExp(turn) + col, in.log_sum_exp + number, col < num_queries);
    if (Warp() == 1) StartCopy<4>(memory.Dots(turn) + col, in.dots + number, col < num_queries);
    EndCopyGroup();
  };
  StartLoad<kKeys, kDim, T>(RowsOfHead<const T>(in.k, shape, first_row + first_key, task.head),
                            num_keys, shape.head_dim, memory.rows1);
  StartLoad<kKeys, kDim, T>(RowsOfHead<const T>(in.v, shape, first_row + first_key, task.head),
                            num_keys, shape.head_dim, memory.rows2);
  QueryTile next{task.head * HeadsPerKvHead(shape), first_key};
  start_load(next, 0);

  Sums<kStrips, kDim> dk, dv;
  dk.Zero();
  dv.Zero();
  const unsigned row_of_warp = Warp() * kRowsOfWarp;
  for (unsigned turn = 0; next.head < end_head; turn ^= 1) {
    const size_t first_query = next.first_query;
    next.first_query += kCols;
    if (next.first_query >= shape.seq_len) next = {next.head + 1, first_key};
    WaitForCopyGroups<0>();
    __syncthreads();  // columns are there, and nobody reads the ones before
    if (next.head < end_head) start_load(next, turn ^ 1);
    // Of the first query, from the warp's first key on.
    const int place = static_cast<int>(first_query - first_key) - static_cast<int>(row_of_warp);
    // None of these queries sees a key of the warp, or it has none.
    if (place + static_cast<int>(kCols) <= 0 || row_of_warp >= num_keys) continue;
    Sums<kStrips, kCols> probabilities, gradients;
    const float *log_sum_exp = memory.LogSumExp(turn), *dots = memory.Dots(turn);
    const auto numbers = [&](unsigned, unsigned, unsigned col) {
      return make_float2(log_sum_exp[col], dots[col]);
    };
    const auto sees = [&](unsigned strip, unsigned half, unsigned col) {
      const unsigned row = strip * kSide + half * 8 + RowOfLane();
      return place + static_cast<int>(col) >= static_cast<int>(row);
    };
    Differentiate(memory, row_of_warp, turn, in.scale, numbers,
                  place >= static_cast<int>(kRowsOfWarp), sees, probabilities, gradients);
    AddWeighted(probabilities, memory.Cols2(turn), dv);
    AddWeighted(gradients, memory.Cols1(turn), dk);
  }
  float factors[kStrips][2];
  const auto store = [&](const Sums<kStrips, kDim>& sums, float factor, const Matrix& to,
                         const Tile<T, kDim>& tile) {
    STRATA_UNROLL
    for (unsigned i = 0; i < kStrips * 2; ++i) factors[i / 2][i % 2] = factor;
    StoreRows(sums, factors, tile, row_of_warp,
              RowsOfHead<T>(to, shape, first_row + first_key, task.head), num_keys, shape.head_dim);
  };
  store(dk, in.scale, in.dk, memory.rows1);
  store(dv, 1.0f, in.dv, memory.rows2);
}

constexpr unsigned kQueryStrips = 2;

template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads, 2)
    AttentionQueriesBackwardKernel(AttentionArguments in) {
  constexpr unsigned kStrips = kQueryStrips, kRowsOfWarp = kStrips * kSide;
  constexpr unsigned kQueries = kWarps * kRowsOfWarp;
  const BackwardMemory<T, kDim, kQueries> memory;
  const AttentionShape& shape = in.shape;
  // The last queries see the most keys.
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task), first_query = task.tile * kQueries;
  const size_t num_queries = min(size_t{kQueries}, shape.seq_len - first_query);
  const size_t end_key = first_query + num_queries;
  const auto start_load = [&](size_t first_key, unsigned turn) {
    const size_t row = first_row + first_key, num_keys = end_key - first_key;
    StartLoad<kCols, kDim, T>(RowsOfHead<const T>(in.k, shape, row, kv_head), num_keys,
                              shape.head_dim, memory.Cols1(turn));
    StartLoad<kCols, kDim, T>(RowsOfHead<const T>(in.v, shape, row, kv_head), num_keys,
                              shape.head_dim, memory.Cols2(turn));
    EndCopyGroup();
  };
  StartLoad<kQueries, kDim, T>(RowsOfHead<const T>(in.q, shape, first_row + first_query, task.head),
                               num_queries, shape.head_dim, memory.rows1);
  StartLoad<kQueries, kDim, T>(
      RowsOfHead<const T>(in.dout, shape, first_row + first_query, task.head), num_queries,
      shape.head_dim, memory.rows2);
  start_load(0, 0);
  const unsigned row_of_warp = Warp() * kRowsOfWarp;
  // Of the lane's rows; zeros of rows beyond the last, as all that is theirs.
  float2 of_rows[kStrips][2];
  const size_t first_number = FirstNumber(shape, task.head, task.batch) + first_query;
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) {
    const unsigned row = row_of_warp + i * 8 + RowOfLane();
    of_rows[i / 2][i % 2] = row < num_queries ? make_float2(in.log_sum_exp[first_number + row],
                                                            in.dots[first_number + row])
                                              : make_float2(0.0f, 0.0f);
  }

  Sums<kStrips, kDim> dq;
  dq.Zero();
  unsigned turn = 0;
  for (size_t first_key = 0; first_key < end_key; first_key += kCols, turn ^= 1) {
    WaitForCopyGroups<0>();
    __syncthreads();  // columns are there, and nobody reads the ones before
    if (first_key + kCols < end_key) start_load(first_key + kCols, turn ^ 1);
    // Of the warp's first query, from the first key on.
    const int place = static_cast<int>(first_query + row_of_warp - first_key);
    // The warp sees none of these keys, or has no query.
    if (place + static_cast<int>(kRowsOfWarp) <= 0 || row_of_warp >= num_queries) continue;
    Sums<kStrips, kCols> probabilities, gradients;
    const auto numbers = [&](unsigned strip, unsigned half, unsigned) {
      return of_rows[strip][half];
    };
    const auto sees = [&](unsigned strip, unsigned half, unsigned col) {
      const unsigned row = strip * kSide + half * 8 + RowOfLane();
      return place + static_cast<int>(row) >= static_cast<int>(col);
    };
    Differentiate(memory, row_of_warp, turn, in.scale, numbers, place >= static_cast<int>(kCols),
                  sees, probabilities, gradients);
    AddWeighted(gradients, memory.Cols1(turn), dq);
  }
  float factors[kStrips][2];
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) factors[i / 2][i % 2] = in.scale;
  StoreRows(dq, factors, memory.rows1, row_of_warp,
            RowsOfHead<T>(in.dq, shape, first_row + first_query, task.head), num_queries,
            shape.head_dim);
}

}  // namespace

Status TensorCoreBackward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  return WithTileWidth(
      arguments.q.dtype, shape.head_dim,
      [&]<typename T, unsigned kDim>(T, std::integral_constant<unsigned, kDim>) -> Status {
        constexpr unsigned kKeys = kWarps * kKeyStrips<kDim> * kSide;
        constexpr unsigned kQueries = kWarps * kQueryStrips * kSide;
        STRATA_ASSIGN_OR_RETURN(const LaunchShape keys,
                                ShapeOfTasks(shape, shape.num_kv_heads, kKeys, kThreads,
                                             BackwardMemory<T, kDim, kKeys>::kBytes));
        STRATA_ASSIGN_OR_RETURN(const LaunchShape queries,
                                ShapeOfTasks(shape, shape.num_heads, kQueries, kThreads,
                                             BackwardMemory<T, kDim, kQueries>::kBytes));
        STRATA_RETURN_IF_ERROR(
            Launch(&AttentionKeysBackwardKernel<T, kDim>, keys, stream, arguments));
        return Launch(&AttentionQueriesBackwardKernel<T, kDim>, queries, stream, arguments);
      });
}

}  // namespace strata::engine::cuda
