#include <algorithm>

#include "engine/comm/nccl/rank_sum.h"
#include "engine/kernels/cuda/elements.h"
#include "engine/kernels/cuda/launch.h"

namespace strata::engine {
namespace {

using cuda::LoadFloats;
using cuda::StoreFloats;

constexpr unsigned kThreads = 256;
// Enough for every GPU there is; more would only take turns.
constexpr size_t kMostBlocks = 1024;

template <typename T>
__device__ const T* TermsOf(const RankTerms& terms, uint32_t rank) {
  const std::byte* at = rank == terms.rank ? terms.own : terms.arrived + rank * terms.stride_bytes;
  return reinterpret_cast<const T*>(at);
}

// N elements per thread and round, each in the order of the ranks.
template <size_t N, typename T, typename Out>
__global__ void RankSumKernel(RankTerms terms, size_t num_elements, Out* out) {
  const size_t first = (size_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  const size_t step = size_t{gridDim.x} * kThreads * N;
  for (size_t i = first; i < num_elements; i += step) {
    const size_t count = num_elements - i;
    float sums[N];
    const bool has_partial = terms.partial != nullptr;
    if (has_partial)
      LoadFloats(reinterpret_cast<const float*>(terms.partial) + i, count, sums);
    else
      LoadFloats(TermsOf<T>(terms, 0) + i, count, sums);
    for (uint32_t rank = has_partial ? 0 : 1; rank < terms.world_size; ++rank) {
      float term[N];
      LoadFloats(TermsOf<T>(terms, rank) + i, count, term);
      for (size_t k = 0; k < N; ++k) sums[k] += term[k];
    }
    StoreFloats(sums, count, out + i);
  }
}

bool IsPackAligned(const void* at) {
  return reinterpret_cast<uintptr_t>(at) % cuda::kPackBytes == 0;
}

template <size_t N, typename T, typename Out>
Status Launch(const tiering::StreamContext& stream, const RankTerms& terms, size_t num_elements,
              std::byte* out) {
  const size_t blocks = (num_elements + kThreads * N - 1) / (kThreads * N);
  return cuda::Launch(
      &RankSumKernel<N, T, Out>,
      {.grid = static_cast<unsigned>(std::min(blocks, kMostBlocks)), .block = kThreads}, stream,
      terms, num_elements, reinterpret_cast<Out*>(out));
}

}  // namespace

Status SumInRankOrder(const tiering::StreamContext& stream, const RankTerms& terms, DType dtype,
                      size_t num_elements, std::byte* out) {
  const bool is_aligned = IsPackAligned(terms.own) && IsPackAligned(terms.arrived) &&
                          IsPackAligned(terms.partial) &&
                          terms.stride_bytes % cuda::kPackBytes == 0 && IsPackAligned(out);
  return cuda::WithElementType(dtype, [&](auto zero) -> Status {
    using T = decltype(zero);
    constexpr size_t kPack = cuda::kPackBytes / sizeof(T);
    if (terms.is_partial) {
      if (!is_aligned) return Launch<1, T, float>(stream, terms, num_elements, out);
      return Launch<kPack, T, float>(stream, terms, num_elements, out);
    }
    if (!is_aligned) return Launch<1, T, T>(stream, terms, num_elements, out);
    return Launch<kPack, T, T>(stream, terms, num_elements, out);
  });
}

}  // namespace strata::engine
