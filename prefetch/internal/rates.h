// Hardware's numbers, put to a plan's nodes.
#pragma once

#include <algorithm>

#include "prefetch/hardware.h"
#include "prefetch/internal/node_bytes.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

// Seconds of a node alone: of an op, with op_threads.
inline double OpSeconds(const TraceOp& op, const Hardware& hardware) {
  const auto found = hardware.rates.find(op.kind);
  if (found != hardware.rates.end()) return op.work / found->second;
  if (op.lane == Lane::kCompute) return op.work / hardware.compute_default_per_s;
  return op.work /
         (op.lane == Lane::kComm ? hardware.comm_default_per_s : hardware.cpu_default_per_s);
}

inline double CopySeconds(const StepPlan& plan, const Node& node, const Hardware& hardware) {
  const double bytes = static_cast<double>(MovedBytes(plan, node));
  return bytes / (node.lane == Lane::kH2d ? hardware.h2d_bytes_per_s : hardware.d2h_bytes_per_s);
}

// Of a read or write of nvme, on one core.
inline double ChecksumSeconds(const StepPlan& plan, const Node& node, const Hardware& hardware) {
  if (hardware.checksum_bytes_per_s == 0) return 0;
  return static_cast<double>(MovedBytes(plan, node)) / hardware.checksum_bytes_per_s;
}

// Of a read or write of nvme: what the kernel and the ring do for it.
inline double NvmeCoreSeconds(double bytes, const Hardware& hardware) {
  return hardware.nvme_bytes_per_core_s == 0 ? 0 : bytes / hardware.nvme_bytes_per_core_s;
}

// What each direction gets while both are busy: half of the mixed rate, at most its own.
inline double MixedReadRate(const Hardware& hardware) {
  return std::min(hardware.nvme_read_bytes_per_s, hardware.nvme_mixed_bytes_per_s / 2);
}
inline double MixedWriteRate(const Hardware& hardware) {
  return std::min(hardware.nvme_write_bytes_per_s, hardware.nvme_mixed_bytes_per_s / 2);
}

}  // namespace strata::prefetch
