// A run's first state: weights from a source, masters equal to them, m and v zero.
#pragma once

#include <cstdint>
#include <functional>

#include "aio/base/status.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/kernels/thread_pool.h"
#include "engine/train/state_access.h"
#include "engine/zero/state_layout.h"

namespace strata::engine {

// `rank` picks the shard. In bf16 the master keeps the source's fp32 value and the weight is its
// cast. Memory: the state's staging and a small buffer per thread.
Status WriteInitialState(const StateLayout& layout, uint32_t rank, WeightSource& source,
                         StateAccess& state, ThreadPool& pool,
                         const std::function<void(uint64_t done, uint64_t total)>& on_progress);

}  // namespace strata::engine
