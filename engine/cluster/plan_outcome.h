// A run, planned: whether it fits, by how much it does not, and what it would be like.
#pragma once

#include <cstdint>
#include <string>

#include "aio/base/status.h"
#include "engine/cluster/cluster.h"
#include "engine/train/planning.h"

namespace strata::engine {

struct PlanOutcome {
  ZeroChoice choice;
  // Of one rank, beyond its budgets; all 0: it fits. What only other memory would do (an op whose
  // operands are too large for the device) is in the device's figure.
  uint64_t device_short_bytes = 0;
  uint64_t host_short_bytes = 0;
  uint64_t nvme_short_bytes = 0;
  // Of one rank: the planned peaks, or where it does not fit the least that would do.
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;
  uint64_t nvme_bytes = 0;  // of the block store, all versions
  // Where memory suffices.
  double step_s = 0;
  double tokens_per_s = 0;
  double bound_s = 0;
  std::string bound_resource = {};
  uint64_t nvme_bytes_read = 0;  // per step and rank
  uint64_t nvme_bytes_written = 0;
  uint64_t comm_bytes_sent = 0;  // to other ranks, and as many from them; per step and rank

  bool fits_memory() const { return device_short_bytes == 0 && host_short_bytes == 0; }
  bool fits() const { return fits_memory() && nvme_short_bytes == 0; }
};

// Drives of which nobody said how large they are: all fits.
inline constexpr uint64_t kUnknownCapacity = UINT64_MAX;

// `nvme_capacity_bytes`: of one rank; 0: there are no drives, so nothing may spill to them either.
// An error is one of the run itself (say, an offload that its stage does not have), never that it
// does not fit.
Result<PlanOutcome> TryPlan(const RunConfig& config, const prefetch::Hardware& hardware,
                            uint64_t nvme_capacity_bytes);

// Whether it fits, without looking for its best plan.
Result<bool> Fits(const RunConfig& config, uint64_t nvme_capacity_bytes);

}  // namespace strata::engine
