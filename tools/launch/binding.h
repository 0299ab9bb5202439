// The cores and NUMA nodes of each rank of a machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tiering/topology.h"

namespace strata::launch {

struct Binding {
  std::vector<uint32_t> numa_nodes;  // logical indices
  std::vector<uint32_t> cpus;        // OS indices of hardware threads
  size_t num_cores = 0;
  // More ranks than cores: others have these cores, too.
  bool is_shared = false;

  bool operator==(const Binding&) const = default;
};

// The share of slot `slot` of `num_slots`. With at least as many slots as NUMA nodes, each has
// cores of one node, as many as the others there or one more; with fewer, each has whole nodes.
// `allowed` are the hardware threads that this process may use; a core none of whose threads is
// allowed is nobody's.
Result<Binding> BindingOf(const tiering::Topology& topology, const std::vector<uint32_t>& allowed,
                          uint32_t slot, uint32_t num_slots);

// "cores 4 (cpus 0-7) of NUMA node 0".
std::string Describe(const Binding& binding);

// The hardware threads that this process may use.
std::vector<uint32_t> AllowedCpus();

}  // namespace strata::launch
