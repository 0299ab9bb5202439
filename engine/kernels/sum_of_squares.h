// Sums of squares of gradients, for their global norm.
//
// In fp64, and in an order that depends on the number of elements alone: pieces of fixed size, in
// each of them element i goes to sum i % 16. So any number of threads and every instruction set
// gives the same bits. Not finite if any element is not; nothing that is finite overflows.
//
// Kernels::RoundAndSumSquares() has the same order, and rounds in the same pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/kernels/dtype.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/thread_pool.h"

namespace strata::engine {

double SumOfSquares(const std::byte* gradient, DType dtype, uint64_t num_elements, ThreadPool& pool,
                    std::string_view instruction_set = InstructionSets().back());

}  // namespace strata::engine
