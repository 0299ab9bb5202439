// The forward of attention on tensor cores (Dao et al. 2022): a block has 64 queries of one head,
// each of its warps 16 of them, and walks the keys that they see in tiles of 64.
#include <limits>

#include "engine/kernels/cuda/attention_tiles.h"
#include "engine/kernels/cuda/dynamic_shared.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kKeys = 64;
using Scores = Strip<kKeys>;
// Behind the probabilities, which take half of the memory of the scores they were made of.
constexpr unsigned kFactorsAt = kSide * Scores::kStride / 2;  // floats
static_assert(kFactorsAt + kSide * kSide <= kSide * Scores::kStride);
static_assert(kFactorsAt % 8 == 0);  // fragments are aligned to 32 bytes

template <unsigned kDim>
constexpr size_t kForwardSharedBytes =
    2 * TileLayout<kDim>::template Bytes<kKeys>() + kWarps* Scores::kBytes;

// Of the two lanes of a row. Exponents are to the base 2.
struct RunningRow {
  float maximum = -std::numeric_limits<float>::infinity();  // of scores * factor of the exponent
  float sum = 0;  // of exponentials, of the columns that are this lane's
};

// Of the pair of lanes that share a row.
__device__ float MaximumOfPair(float value) {
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
}
__device__ float SumOfPair(float value) { return value + __shfl_xor_sync(0xffffffffu, value, 1); }

// Turns a strip of scores into probabilities, up to the row's sum, of columns below num_visible.
// Returns what the sums so far have to be multiplied with. `exponent`: of a score, to the base 2.
template <typename T>
__device__ float Soften(float* strip, unsigned num_visible, float exponent, RunningRow& row) {
  float values[Scores::kPerLane];
  Scores::Read(strip, values);
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  if (num_visible < kKeys) {  // of the last tile that a query sees
    STRATA_UNROLL
    for (unsigned i = 0; i < Scores::kPerLane; ++i)
      if (Scores::Col(i) >= num_visible) values[i] = kNever;
  }
  float maximum = values[0];
  STRATA_UNROLL
  for (unsigned i = 1; i < Scores::kPerLane; ++i) maximum = fmaxf(maximum, values[i]);
  maximum = fmaxf(row.maximum, MaximumOfPair(maximum) * exponent);
  const float factor = exp2f(row.maximum - maximum);
  row.maximum = maximum;
  row.sum *= factor;
  STRATA_UNROLL
  for (unsigned i = 0; i < Scores::kPerLane; ++i) {
    values[i] = exp2f(fmaf(values[i], exponent, -maximum));
    row.sum += values[i];
  }
  __syncwarp();  // all scores were read
  Scores::Write(values, reinterpret_cast<T*>(strip));
  return factor;
}

// Three or four blocks at once hide each other's loads; that costs a few registers.
template <typename T, unsigned kDim>
__global__ void __launch_bounds__(kThreads, kDim == 64 ? 4 : 3)
    AttentionForwardKernel(AttentionArguments in) {
  constexpr unsigned kStride = TileLayout<kDim>::kStride;
  T* keys = reinterpret_cast<T*>(DynamicShared<std::byte>());
  T* values = keys + kKeys * kStride;
  const unsigned warp = threadIdx.x / 32;
  float* strip = reinterpret_cast<float*>(values + kKeys * kStride) + warp * (Scores::kBytes / 4);
  const AttentionShape& shape = in.shape;
  // The last tiles see the most keys: first, so that the blocks end together.
  const AttentionTask task = TaskOf(gridDim.x - 1 - blockIdx.x, shape.num_heads, shape.batch);
  const size_t kv_head = task.head / HeadsPerKvHead(shape);
  const size_t first_row = FirstRow(shape, task), first_query = task.tile * kTileRows;
  const size_t end_key = min(first_query + kTileRows, shape.seq_len);
  const auto k = RowsOfHead<const T>(in.k, shape, first_row, kv_head);
  const auto v = RowsOfHead<const T>(in.v, shape, first_row, kv_head);
  const auto q = RowsOfHead<const T>(in.q, shape, first_row + first_query, task.head);

  LoadTile<kTileRows, kDim>(q, end_key - first_query, shape.head_dim, keys);
  __syncthreads();
  RowsFragment<T> queries[kDim / kSide];
  STRATA_UNROLL
  for (unsigned n = 0; n < kDim / kSide; ++n)
    LoadFragment(queries[n], Native(keys + warp * kSide * kStride + n * kSide), kStride);

  SumFragment out[kDim / kSide];
  STRATA_UNROLL
  for (unsigned n = 0; n < kDim / kSide; ++n) wmma::fill_fragment(out[n], 0.0f);
  RunningRow row;
  const float exponent = in.scale * kLog2E;
  const size_t query = first_query + warp * kSide + Scores::Row();
  for (size_t first_key = 0; first_key < end_key; first_key += kKeys) {
    const size_t num_keys = min(size_t{kKeys}, shape.seq_len - first_key);
    __syncthreads();  // nobody reads the tiles before
    LoadTile<kKeys, kDim>({k.Row(first_key), k.stride}, num_keys, shape.head_dim, keys);
    LoadTile<kKeys, kDim>({v.Row(first_key), v.stride}, num_keys, shape.head_dim, values);
    __syncthreads();
    STRATA_UNROLL
    for (unsigned n = 0; n < kKeys / kSide; ++n) {
      SumFragment scores;
      wmma::fill_fragment(scores, 0.0f);
      STRATA_UNROLL
      for (unsigned d = 0; d < kDim / kSide; ++d) {
        TransposedFragment<T> b;
        LoadFragment(b, Native(keys + n * kSide * kStride + d * kSide), kStride);
        wmma::mma_sync(scores, queries[d], b, scores);
      }
      wmma::store_matrix_sync(strip + n * kSide, scores, Scores::kStride, wmma::mem_row_major);
    }
    __syncwarp();
    // Queries beyond the last see keys, too: zeros. They are not stored.
    const size_t visible = query + 1 - min(query + 1, first_key);
    const float factor =
        Soften<T>(strip, static_cast<unsigned>(min(visible, size_t{kKeys})), exponent, row);
    __syncwarp();
    // Maxima seldom grow after the first tiles; times one is nothing to do.
    if (__any_sync(0xffffffffu, factor != 1.0f)) ScaleRows(factor, strip + kFactorsAt, out);
    AddWeighted<kKeys, kDim>(reinterpret_cast<const T*>(strip), values, out);
  }

  const float sum = SumOfPair(row.sum);
  ScaleRows(1.0f / sum, strip + kFactorsAt, out);
  const auto to = RowsOfHead<T>(in.out, shape, first_row, task.head);
  StoreSums<kKeys, kDim>(out, strip, to, first_query + warp * kSide, shape.seq_len, shape.head_dim);
  if (query < shape.seq_len && threadIdx.x % 2 == 0) {
    in.log_sum_exp[FirstNumber(shape, task.head, task.batch) + query] =
        fmaf(row.maximum, kLn2, logf(sum));
  }
}

}  // namespace

Status TensorCoreForward(const Kernels::Stream& stream, const AttentionArguments& arguments) {
  const AttentionShape& shape = arguments.shape;
  return WithTileWidth(
      arguments.q.dtype, shape.head_dim,
      [&]<typename T, unsigned kDim>(T, std::integral_constant<unsigned, kDim>) -> Status {
        STRATA_ASSIGN_OR_RETURN(
            const LaunchShape launch,
            ShapeOfTasks(shape, shape.num_heads, kTileRows, kThreads, kForwardSharedBytes<kDim>));
        return Launch(&AttentionForwardKernel<T, kDim>, launch, stream, arguments);
      });
}

}  // namespace strata::engine::cuda
