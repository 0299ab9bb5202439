// The forward of attention on tensor cores (Dao et al. 2022, 2023): a block has 128 queries of one
// head, each of its warps 32 of them, and walks the keys that they see in tiles of 64. Keys of the
// next tile arrive while this one's values are added up, values while scores are made.
#include <limits>

#include "engine/kernels/cuda/attention_tiles.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kStrips = 2, kRowsOfWarp = kStrips * kSide;
constexpr unsigned kQueries = kWarps * kRowsOfWarp, kKeys = 64;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Of the four lanes that share a row.
__device__ float MaximumOfFour(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ float SumOfFour(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

// Of a lane's rows. Exponents are to the base 2.
struct RunningRows {
  float maxima[kStrips][2];  // of scores * exponent, of the whole row
  float totals[kStrips][2];  // of exponentials, of the columns that are this lane's
};

// Turns scores into probabilities, up to the row's sum. `exponent`: of a score, to the base 2.
// factors: what the sums so far have to be multiplied with. Tells whether that is anything but one
// in any lane.
__device__ bool Soften(Sums<kStrips, kKeys>& scores, float exponent, RunningRows& rows,
                       float (&factors)[kStrips][2]) {
  float maxima[kStrips][2];
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) maxima[i / 2][i % 2] = kNever;
  scores.ForEach([&](float& score, unsigned strip, unsigned half, unsigned) {
    maxima[strip][half] = fmaxf(maxima[strip][half], score);
  });
  bool scales = false;
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) {
    float& maximum = rows.maxima[i / 2][i % 2];
    const float before = maximum;
    maximum = fmaxf(maximum, MaximumOfFour(maxima[i / 2][i % 2]) * exponent);
    factors[i / 2][i % 2] = ExpOfTwo(before - maximum);
    scales |= factors[i / 2][i % 2] != 1.0f;
    rows.totals[i / 2][i % 2] *= factors[i / 2][i % 2];
  }
  scores.ForEach([&](float& score, unsigned strip, unsigned half, unsigned) {
    score = ExpOfTwo(fmaf(score, exponent, -rows.maxima[strip][half]));
    rows.totals[strip][half] += score;
  });
  return __any_sync(0xffffffffu, scales) != 0;
}

template <typename T, unsigned kDim>
constexpr size_t kForwardSharedBytes = Tile<T, kDim>::template Bytes<kQueries + 2 * kKeys>();

template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads, 2) AttentionForwardKernel(AttentionArguments in) {
  const Tile<T, kDim> queries{DynamicShared<T>()}, keys{queries.data + kQueries * kDim},
      values{keys.data + kKeys * kDim};
  const AttentionShape& shape = in.shape;
  // The last tiles see the most keys: first, so that the blocks end together.
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task);
  const unsigned first_query = static_cast<unsigned>(task.tile) * kQueries;
  const unsigned seq_len = static_cast<unsigned>(shape.seq_len);
  const unsigned num_queries = min(kQueries, seq_len - first_query);
  const unsigned end_key = first_query + num_queries;
  const auto k = RowsOfHead<const T>(in.k, shape, first_row, kv_head);
  const auto v = RowsOfHead<const T>(in.v, shape, first_row, kv_head);
  const auto start_load = [&](const HeadRows<const T>& from, unsigned row, const auto& tile) {
    StartLoad<kKeys, kDim, T>({from.Row(row), from.stride}, end_key - row, shape.head_dim, tile);
    EndCopyGroup();
  };
  StartLoad<kQueries, kDim, T>(RowsOfHead<const T>(in.q, shape, first_row + first_query, task.head),
                               num_queries, shape.head_dim, queries);
  start_load(k, 0, keys);

  Sums<kStrips, kDim> out;
  out.Zero();
  RunningRows rows;
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) {
    rows.maxima[i / 2][i % 2] = kNever;
    rows.totals[i / 2][i % 2] = 0.0f;
  }
  const float exponent = in.scale * kLog2E;
  const unsigned row_of_warp = Warp() * kRowsOfWarp;
  for (unsigned first_key = 0; first_key < end_key; first_key += kKeys) {
    WaitForCopyGroups<0>();
    __syncthreads();  // keys are there, and nobody reads the values before
    start_load(v, first_key, values);
    // Of the warp's first query, within the tile: less than 0 where it sees none of the keys.
    const int place = static_cast<int>(first_query + row_of_warp - first_key);
    const bool sees = place + static_cast<int>(kRowsOfWarp) > 0 && row_of_warp < num_queries;
    Sums<kStrips, kKeys> scores;
    if (sees) MultiplyTransposed(queries, row_of_warp, keys, scores);
    WaitForCopyGroups<0>();
    __syncthreads();  // values are there, and nobody reads these keys
    if (first_key + kKeys < end_key) start_load(k, first_key + kKeys, keys);
    if (!sees) continue;
    if (place < static_cast<int>(kKeys)) {
      scores.ForEach([&](float& score, unsigned strip, unsigned half, unsigned col) {
        const unsigned row = strip * kSide + half * 8 + RowOfLane();
        if (static_cast<int>(col) > place + static_cast<int>(row)) score = kNever;
      });
    }
    float factors[kStrips][2];
    // Maxima seldom grow after the first tiles; times one is nothing to do.
    if (Soften(scores, exponent, rows, factors)) {
      out.ForEach([&](float& sum, unsigned strip, unsigned half, unsigned) {
        sum *= factors[strip][half];
      });
    }
    AddWeighted(scores, values, out);
  }

  float* log_sum_exp = in.log_sum_exp + FirstNumber(shape, task.head, task.batch) + first_query;
  float factors[kStrips][2];
  STRATA_UNROLL
  for (unsigned i = 0; i < kStrips * 2; ++i) {
    const float total = SumOfFour(rows.totals[i / 2][i % 2]);
    const unsigned row = row_of_warp + i * 8 + RowOfLane();
    factors[i / 2][i % 2] = 1.0f / total;
    if (row < num_queries && ColOfLane() == 0)
      log_sum_exp[row] = fmaf(rows.maxima[i / 2][i % 2], kLn2, logf(total));
  }
  StoreRows(out, factors, queries, row_of_warp,
            RowsOfHead<T>(in.out, shape, first_row + first_query, task.head), num_queries,
            shape.head_dim);
}

}  // namespace

Status TensorCoreForward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  return WithTileWidth(
      arguments.q.dtype, shape.head_dim,
      [&]<typename T, unsigned kDim>(T, std::integral_constant<unsigned, kDim>) -> Status {
        STRATA_ASSIGN_OR_RETURN(
            const LaunchShape launch,
            ShapeOfTasks(shape, shape.num_heads, kQueries, kThreads, kForwardSharedBytes<T, kDim>));
        return Launch(&AttentionForwardKernel<T, kDim>, launch, stream, arguments);
      });
}

}  // namespace strata::engine::cuda
