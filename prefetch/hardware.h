// What a machine can do, as numbers: the input of the simulator and of the bound.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace strata::prefetch {

struct Hardware {
  // Bytes per second. Mixed is the total of both directions when both are busy.
  double nvme_read_bytes_per_s = 3.5e9;
  double nvme_write_bytes_per_s = 5e9;
  double nvme_mixed_bytes_per_s = 4e9;
  double h2d_bytes_per_s = 1e10;  // one copy alone, on one core for the cpu device
  double d2h_bytes_per_s = 1e10;
  double checksum_bytes_per_s = 1.5e10;  // XXH3 on one core; 0: no checksums
  // That one core of the kernel and the rings moves to or from nvme; 0: they take no core's time.
  double nvme_bytes_per_core_s = 0;

  uint32_t cores = 2;
  uint32_t op_threads = 2;  // cores that a compute, comm or cpu op keeps busy
  // The cpu device: the lanes compute, comm, cpu, h2d and d2h and the checksums share the cores.
  bool device_shares_cores = true;

  // By TraceOp::kind: units of TraceOp::work per second, measured alone with op_threads. A kind
  // that is missing goes by its lane's default.
  std::map<std::string, double> rates;
  double compute_default_per_s = 5e11;  // flop/s
  // Bytes per second of ops on the compute lane whose work is bytes (rounding, an update there).
  double device_memory_bytes_per_s = 2e10;
  double comm_default_per_s = 1e10;  // bytes/s
  double cpu_default_per_s = 2e10;   // bytes/s

  double node_latency_s = 20e-6;  // from a node's dependencies being done to its start
};

}  // namespace strata::prefetch
