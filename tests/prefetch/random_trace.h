// Random steps, for tests that hold for all of them.
#pragma once

#include <cstdint>
#include <random>

#include "prefetch/compile.h"
#include "prefetch/trace.h"

namespace strata::prefetch {

// A valid trace of `num_ops` ops on all three lanes over blocks of one to four pages of all
// lifetimes and homes. A seed gives the same trace on every machine.
Trace RandomTrace(uint32_t seed, uint32_t num_ops = 40);

// Its plan under tight budgets: the first that compile of a series that grows from too little by an
// eighth at a time, times `slack`. `prefetch_ops` as in CompileOptions.
StepPlan CompileTightly(const Trace& trace, uint32_t prefetch_ops, double slack = 1);

}  // namespace strata::prefetch
