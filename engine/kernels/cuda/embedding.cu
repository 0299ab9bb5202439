// The embedding's rows, and the sums of their gradients. Bits are the host's: rows that share an id
// are added in ascending order.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"

namespace strata::engine::cuda {
namespace {

// A table with the rows of ids [first_id, first_id + rows).
template <typename T>
struct Table {
  View<T> values;
  size_t first_id, rows;

  __device__ bool Has(int32_t id) const {
    const size_t wide = static_cast<size_t>(id);
    return wide >= first_id && wide - first_id < rows;
  }
  __device__ T* At(int32_t id, size_t col) const {
    return values.At(static_cast<size_t>(id) - first_id, col);
  }
};
template <typename T>
Table<T> TableOf(const Matrix& matrix, size_t first_id) {
  return {ViewOf<T>(matrix), first_id, matrix.rows};
}

// T is as wide as an element: its bits are copied.
template <typename T>
struct LookUp {
  Table<const T> table;
  const int32_t* ids;
  View<T> out;

  template <size_t N>
  __device__ void Run(size_t row, size_t col, size_t count) const {
    const int32_t id = ids[row];
    if (!table.Has(id)) return;
    const T* from = table.At(id, col);
    T* to = out.At(row, col);
    if (count >= N) {
      *reinterpret_cast<Pack<T, N>*>(to) = *reinterpret_cast<const Pack<T, N>*>(from);
    } else {
      for (size_t i = 0; i < count; ++i) to[i] = from[i];
    }
  }
};

template <typename T>
Status LookUpRows(const Stream& stream, const Matrix& table, size_t first_id,
                  std::span<const int32_t> ids, const Matrix& out) {
  const LookUp<T> op{TableOf<const T>(table, first_id), ids.data(), ViewOf<T>(out)};
  return WithPackOf<kPackBytes / sizeof(T)>(
      {&table, &out}, [&]<size_t N>(std::integral_constant<size_t, N>) {
        return Launch(&ForPacksKernel<N, LookUp<T>>, ShapeOfItems(out.rows, (out.cols + N - 1) / N),
                      stream, op, out.rows, out.cols);
      });
}

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;
constexpr unsigned kIdsOfThread = 4;  // that a thread compares before the block looks at the result
constexpr unsigned kSegment = kThreads * kIdsOfThread;
constexpr unsigned kMasks = kWarps * kIdsOfThread;
constexpr unsigned kRowsInFlight = 4;

// Whether one of ids[0, end) is `id`. Of all threads of a block.
__device__ inline bool IsAmong(const int32_t* ids, size_t end, int32_t id, unsigned* of_warps) {
  int found = 0;
  for (size_t i = threadIdx.x; i < end; i += kThreads) found |= ids[i] == id;
  const int in_warp = __any_sync(0xffffffffu, found);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = in_warp != 0;
  __syncthreads();
  bool in_block = false;
  for (unsigned warp = 0; warp < kWarps; ++warp) in_block |= of_warps[warp] != 0;
  __syncthreads();
  return in_block;
}

struct Matches {
  unsigned masks[kMasks];  // a bit per row of a segment, in the order of rows
  unsigned places[kSegment];
};

// The places of `id` in ids[0, count), count <= kSegment, in ascending order; returns how many.
__device__ inline unsigned FindMatches(const int32_t* ids, size_t count, int32_t id,
                                       Matches& matches) {
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (unsigned i = 0; i < kIdsOfThread; ++i) {
    const unsigned place = i * kThreads + threadIdx.x;
    const unsigned mask = __ballot_sync(0xffffffffu, place < count && ids[place] == id);
    if (lane == 0) matches.masks[i * kWarps + warp] = mask;
  }
  __syncthreads();
  unsigned before = 0;
  for (unsigned i = 0; i < kMasks; ++i) {
    const unsigned mask = matches.masks[i];
    if (i % kWarps == warp && (mask >> lane & 1) != 0) {
      const unsigned place = i / kWarps * kThreads + threadIdx.x;
      matches.places[before + static_cast<unsigned>(__popc(mask & ((1u << lane) - 1)))] = place;
    }
    before += static_cast<unsigned>(__popc(mask));
  }
  __syncthreads();
  return before;
}

// A block has a row and some columns. If no row before it has the row's id, it adds all rows that
// have it.
template <typename T, size_t kPack>
__global__ void __launch_bounds__(kThreads)
    EmbeddingBackwardKernel(const int32_t* ids, View<const T> dout, Table<float> table, size_t rows,
                            size_t cols) {
  __shared__ unsigned of_warps[kWarps];
  __shared__ Matches matches;
  const size_t col = (size_t{blockIdx.y} * kThreads + threadIdx.x) * kPack;
  const size_t count = cols > col ? cols - col : 0;
  for (size_t first = blockIdx.x; first < rows; first += gridDim.x) {
    const int32_t id = ids[first];
    if (!table.Has(id) || IsAmong(ids, first, id, of_warps)) continue;
    float sums[kPack];
    LoadFloats(table.At(id, col), count, sums);
    for (size_t segment = first; segment < rows; segment += kSegment) {
      const unsigned found = FindMatches(ids + segment, rows - segment, id, matches);
      for (unsigned i = 0; i < found; i += kRowsInFlight) {
        float terms[kRowsInFlight][kPack];
        for (unsigned j = 0; j < kRowsInFlight; ++j) {
          const size_t row = segment + matches.places[i + j < found ? i + j : i];
          LoadFloats(dout.At(row, col), count, terms[j]);
        }
        for (unsigned j = 0; j < kRowsInFlight && i + j < found; ++j) {
          for (size_t k = 0; k < kPack; ++k) sums[k] += terms[j][k];
        }
      }
      __syncthreads();
    }
    StoreFloats(sums, count, table.At(id, col));
  }
}

}  // namespace

Status EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                        std::span<const int32_t> ids, const Matrix& out) {
  return SizeOf(table.dtype) == 4 ? LookUpRows<uint32_t>(stream, table, first_id, ids, out)
                                  : LookUpRows<uint16_t>(stream, table, first_id, ids, out);
}

Status EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids, const Matrix& dout,
                         size_t first_id, const Matrix& table_gradient) {
  const Table<float> table = TableOf<float>(table_gradient, first_id);
  return WithElementType(dout.dtype, [&]<typename T>(T) {
    constexpr size_t kPack = kPackBytes / sizeof(T);
    return WithPackOf<kPack>(
        {&dout, &table_gradient}, [&]<size_t N>(std::integral_constant<size_t, N>) {
          const dim3 grid(NumBlocks(dout.rows, 1), NumBlocks(dout.cols, kThreads * N, kMaxGridY));
          return Launch(&EmbeddingBackwardKernel<T, N>, {.grid = grid, .block = kThreads}, stream,
                        ids.data(), ViewOf<const T>(dout), table, dout.rows, dout.cols);
        });
  });
}

}  // namespace strata::engine::cuda
