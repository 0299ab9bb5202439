// The arithmetic of collectives: copies, and sums in rank order; one source, compiled for each
// instruction set.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "engine/kernels/dtype.h"

namespace strata::engine {

// Whether what is written is read again soon (it may stay in the caches), or is so large that it
// would only drive other things out.
enum class Writes { kThroughCaches, kPastCaches };

// to[i] = cast(((partial[i] + source0[i]) + source1[i]) + ...), all in fp32, rounded once.
struct SumArguments {
  const float* partial = nullptr;  // of the ranks before; may be null
  std::span<const std::byte* const> sources = {};
  DType source_dtype = DType::kF32;
  std::byte* to = nullptr;  // may be one of the sources
  DType to_dtype = DType::kF32;
  size_t num_elements = 0;
  Writes writes = Writes::kThroughCaches;
};

struct ReduceKernels {
  void (*copy)(std::byte* to, const std::byte* from, size_t size_bytes, Writes writes);
  void (*sum)(const SumArguments& arguments);
};

// nullptr when this build has none for the instruction set.
const ReduceKernels* FindReduceKernels(std::string_view instruction_set);
const ReduceKernels& BestReduceKernels();

}  // namespace strata::engine
