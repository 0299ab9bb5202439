// The instruction sets that kernels are compiled for, and which of them this machine runs.
//
// A kernel is one plain C++ source compiled once per instruction set (cmake/isa.cmake) into a
// namespace named like it; the best one is chosen at start. All give the same bits.
#pragma once

#include <span>
#include <string_view>

#include "aio/base/status.h"

// STRATA_ISAS(X) is X(name) for each, worst first.
#if defined(__x86_64__)
#define STRATA_ISAS(X) X(baseline) X(avx2) X(avx512)
#else
#define STRATA_ISAS(X) X(baseline)
#endif

namespace strata::engine {

// Those this build has and this machine runs, worst first; none better than the one that
// environment variable STRATA_MAX_ISA names, if it names one of them.
std::span<const std::string_view> InstructionSets();

// kInvalidArgument where STRATA_MAX_ISA names none.
Status CheckInstructionSetLimit();

}  // namespace strata::engine
