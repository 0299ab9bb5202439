// The backward of attention on tensor cores, recomputing probabilities from log_sum_exp.
//
// In two passes, so that every sum is made by one block: dk and dv by one that has 64 keys and
// walks the queries that see them, of all heads that share the keys; dq by one that has 64 queries
// and walks the keys. Both do the same with rows and columns exchanged: a strip of scores and one
// of the probabilities' gradients, 16 rows x 32 columns, and from them what is added.
#include "engine/kernels/cuda/attention_tiles.h"
#include "engine/kernels/cuda/dynamic_shared.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kCols = 32;  // of a tile that is walked
using Scores = Strip<kCols>;

// A block's shared memory: a tile of rows of two matrices, one of columns of two, two numbers per
// query, and a warp's two strips.
template <typename T, unsigned kDim>
struct BackwardMemory {
  static constexpr unsigned kStride = TileLayout<kDim>::kStride;
  static constexpr size_t kNumbers = kTileRows;  // as many queries as there may be
  static constexpr size_t kBytes = 2 * TileLayout<kDim>::template Bytes<kTileRows>() +
                                   2 * TileLayout<kDim>::template Bytes<kCols>() +
                                   2 * kNumbers * sizeof(float) + 2 * kWarps * Scores::kBytes;

  __device__ BackwardMemory()
      : rows1(DynamicShared<T>()),
        rows2(rows1 + kTileRows * kStride),
        cols1(rows2 + kTileRows * kStride),
        cols2(cols1 + kCols * kStride),
        log_sum_exp(reinterpret_cast<float*>(cols2 + kCols * kStride)),
        dots(log_sum_exp + kNumbers),
        scores(dots + kNumbers + threadIdx.x / 32 * 2 * (Scores::kBytes / sizeof(float))),
        gradients(scores + Scores::kBytes / sizeof(float)) {}

  T *rows1, *rows2, *cols1, *cols2;
  float *log_sum_exp, *dots;  // log_sum_exp: to the base 2
  float *scores, *gradients;
};

// By all threads of the block; of queries beyond `count` something finite.
template <typename Memory>
__device__ void LoadNumbers(const float* log_sum_exp, const float* dots, size_t count,
                            unsigned limit, const Memory& memory) {
  for (unsigned i = threadIdx.x; i < limit; i += kThreads) {
    memory.log_sum_exp[i] = i < count ? log_sum_exp[i] * kLog2E : 0.0f;
    memory.dots[i] = i < count ? dots[i] : 0.0f;
  }
}

// What a row and a column of a strip are.
enum class Rows { kKeys, kQueries };
struct Place {
  size_t first_row, first_col;  // of the strip, within the sequence
  size_t seq_len;
};

// Columns [begin, end) of a row of a strip, whose query sees the key.
struct Visible {
  unsigned begin, end;
};
template <Rows kRows>
__device__ Visible VisibleIn(const Place& place) {
  const size_t row = place.first_row + Scores::Row();
  const auto column = [&](size_t at) {  // within the strip
    return static_cast<unsigned>(min(at - min(at, place.first_col), size_t{kCols}));
  };
  if (kRows == Rows::kKeys) return {column(row), column(place.seq_len)};
  return {0, row < place.seq_len ? column(row + 1) : 0};
}

// From scores and d(loss)/d(probabilities) of a warp to rounded probabilities and d(loss)/d(scores)
// in the same memory; zeros where a query does not see a key, or is none. Query i of the tile has
// log_sum_exp[i] and dots[i].
template <Rows kRows, typename T, typename Memory>
__device__ void DifferentiateSoftmax(const Place& place, float scale, const Memory& memory) {
  float probabilities[Scores::kPerLane], gradients[Scores::kPerLane];
  Scores::Read(memory.scores, probabilities);
  Scores::Read(memory.gradients, gradients);
  const Visible visible = VisibleIn<kRows>(place);
  STRATA_UNROLL
  for (unsigned i = 0; i < Scores::kPerLane; ++i) {
    const unsigned col = Scores::Col(i);
    const unsigned query =
        kRows == Rows::kKeys ? col : threadIdx.x / 32 * kSide + Scores::Row();  // of the tile
    const bool sees = visible.begin <= col && col < visible.end;
    const float p = exp2f(fmaf(probabilities[i], scale * kLog2E, -memory.log_sum_exp[query]));
    const float ds = p * (gradients[i] - memory.dots[query]) * scale;
    probabilities[i] = sees ? p : 0.0f;
    gradients[i] = sees ? ds : 0.0f;
  }
  __syncwarp();  // all was read
  Scores::Write(probabilities, reinterpret_cast<T*>(memory.scores));
  Scores::Write(gradients, reinterpret_cast<T*>(memory.gradients));
  __syncwarp();
}

template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads) AttentionKeysBackwardKernel(AttentionArguments in) {
  constexpr unsigned kStride = TileLayout<kDim>::kStride;
  const BackwardMemory<T, kDim> memory;
  const AttentionShape& shape = in.shape;
  const unsigned first_of_warp = threadIdx.x / 32 * kSide;
  // The first keys are seen by the most queries.
  const AttentionTask task = TaskOf(blockIdx.x, shape.num_kv_heads, shape.batch);
  const size_t first_row = FirstRow(shape, task), first_key = task.tile * kTileRows;
  const size_t num_keys = min(size_t{kTileRows}, shape.seq_len - first_key);
  LoadTile<kTileRows, kDim>(RowsOfHead<const T>(in.k, shape, first_row + first_key, task.head),
                            num_keys, shape.head_dim, memory.rows1);
  LoadTile<kTileRows, kDim>(RowsOfHead<const T>(in.v, shape, first_row + first_key, task.head),
                            num_keys, shape.head_dim, memory.rows2);
  SumFragment dk[kDim / kSide], dv[kDim / kSide];
  STRATA_UNROLL
  for (unsigned n = 0; n < kDim / kSide; ++n) {
    wmma::fill_fragment(dk[n], 0.0f);
    wmma::fill_fragment(dv[n], 0.0f);
  }
  const size_t group = HeadsPerKvHead(shape);
  for (size_t head = task.head * group; head < (task.head + 1) * group; ++head) {
    const size_t numbers = FirstNumber(shape, head, task.batch);
    for (size_t first_query = first_key; first_query < shape.seq_len; first_query += kCols) {
      const size_t num_queries = min(size_t{kCols}, shape.seq_len - first_query);
      __syncthreads();  // nobody reads the tiles before
      LoadTile<kCols, kDim>(RowsOfHead<const T>(in.q, shape, first_row + first_query, head),
                            num_queries, shape.head_dim, memory.cols1);
      LoadTile<kCols, kDim>(RowsOfHead<const T>(in.dout, shape, first_row + first_query, head),
                            num_queries, shape.head_dim, memory.cols2);
      LoadNumbers(in.log_sum_exp + numbers + first_query, in.dots + numbers + first_query,
                  num_queries, kCols, memory);
      __syncthreads();
      MultiplyTransposed<kCols, kDim>(memory.rows1 + first_of_warp * kStride, memory.cols1,
                                      memory.scores);
      MultiplyTransposed<kCols, kDim>(memory.rows2 + first_of_warp * kStride, memory.cols2,
                                      memory.gradients);
      __syncwarp();
      DifferentiateSoftmax<Rows::kKeys, T>({first_key + first_of_warp, first_query, shape.seq_len},
                                           in.scale, memory);
      AddWeighted<kCols, kDim>(reinterpret_cast<const T*>(memory.scores), memory.cols2, dv);
      AddWeighted<kCols, kDim>(reinterpret_cast<const T*>(memory.gradients), memory.cols1, dk);
    }
  }
  const size_t key = first_key + first_of_warp;
  StoreSums<kCols, kDim>(dk, memory.scores, RowsOfHead<T>(in.dk, shape, first_row, task.head), key,
                         shape.seq_len, shape.head_dim);
  StoreSums<kCols, kDim>(dv, memory.scores, RowsOfHead<T>(in.dv, shape, first_row, task.head), key,
                         shape.seq_len, shape.head_dim);
}

template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads) AttentionQueriesBackwardKernel(AttentionArguments in) {
  constexpr unsigned kStride = TileLayout<kDim>::kStride;
  const BackwardMemory<T, kDim> memory;
  const AttentionShape& shape = in.shape;
  const unsigned first_of_warp = threadIdx.x / 32 * kSide;
  // The last queries see the most keys.
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task), first_query = task.tile * kTileRows;
  const size_t num_queries = min(size_t{kTileRows}, shape.seq_len - first_query);
  LoadTile<kTileRows, kDim>(RowsOfHead<const T>(in.q, shape, first_row + first_query, task.head),
                            num_queries, shape.head_dim, memory.rows1);
  LoadTile<kTileRows, kDim>(RowsOfHead<const T>(in.dout, shape, first_row + first_query, task.head),
                            num_queries, shape.head_dim, memory.rows2);
  const size_t numbers = FirstNumber(shape, task.head, task.batch) + first_query;
  LoadNumbers(in.log_sum_exp + numbers, in.dots + numbers, num_queries, kTileRows, memory);
  SumFragment dq[kDim / kSide];
  STRATA_UNROLL
  for (unsigned n = 0; n < kDim / kSide; ++n) wmma::fill_fragment(dq[n], 0.0f);
  for (size_t first_key = 0; first_key < first_query + num_queries; first_key += kCols) {
    const size_t num_keys = min(size_t{kCols}, shape.seq_len - first_key);
    __syncthreads();  // nobody reads the tiles before
    LoadTile<kCols, kDim>(RowsOfHead<const T>(in.k, shape, first_row + first_key, kv_head),
                          num_keys, shape.head_dim, memory.cols1);
    LoadTile<kCols, kDim>(RowsOfHead<const T>(in.v, shape, first_row + first_key, kv_head),
                          num_keys, shape.head_dim, memory.cols2);
    __syncthreads();
    MultiplyTransposed<kCols, kDim>(memory.rows1 + first_of_warp * kStride, memory.cols1,
                                    memory.scores);
    MultiplyTransposed<kCols, kDim>(memory.rows2 + first_of_warp * kStride, memory.cols2,
                                    memory.gradients);
    __syncwarp();
    DifferentiateSoftmax<Rows::kQueries, T>({first_query + first_of_warp, first_key, shape.seq_len},
                                            in.scale, memory);
    AddWeighted<kCols, kDim>(reinterpret_cast<const T*>(memory.gradients), memory.cols1, dq);
  }
  StoreSums<kCols, kDim>(dq, memory.scores, RowsOfHead<T>(in.dq, shape, first_row, task.head),
                         first_query + first_of_warp, shape.seq_len, shape.head_dim);
}

}  // namespace

Status TensorCoreBackward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  return WithTileWidth(
      arguments.q.dtype, shape.head_dim,
      [&]<typename T, unsigned kDim>(T, std::integral_constant<unsigned, kDim>) -> Status {
        constexpr size_t kBytes = BackwardMemory<T, kDim>::kBytes;
        STRATA_ASSIGN_OR_RETURN(const LaunchShape keys, ShapeOfTasks(shape, shape.num_kv_heads,
                                                                     kTileRows, kThreads, kBytes));
        STRATA_ASSIGN_OR_RETURN(const LaunchShape queries,
                                ShapeOfTasks(shape, shape.num_heads, kTileRows, kThreads, kBytes));
        STRATA_RETURN_IF_ERROR(
            Launch(&AttentionKeysBackwardKernel<T, kDim>, keys, stream, arguments));
        return Launch(&AttentionQueriesBackwardKernel<T, kDim>, queries, stream, arguments);
      });
}

}  // namespace strata::engine::cuda
