// Kernels on the host's cores.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// `num_threads` counts the calling thread; kResourceExhausted where the others cannot be started.
// One caller at a time. `instruction_set` is one of InstructionSets(); all give the same bits.
Result<std::unique_ptr<Kernels>> MakeCpuKernels(
    uint32_t num_threads, std::string_view instruction_set = InstructionSets().back());

}  // namespace strata::engine
