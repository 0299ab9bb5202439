// The cores and NUMA nodes of each rank of a machine.
#pragma once

#include <cstdint>
#include <optional>
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
  // What it is near, or why it is not: "near GPU 0000:17:00.0". Empty: there was nothing to ask.
  std::string note = {};

  bool operator==(const Binding&) const = default;
};

// What the rank of a slot should be near.
struct Wish {
  std::string what = {};                   // "GPU 0000:17:00.0"; empty: nothing
  std::optional<uint32_t> numa_node = {};  // as the OS counts; none: not told
  std::string why_not_told = {};
};

// A drive that all ranks of a machine use.
struct NearDrive {
  std::string name;        // "nvme0n1"
  uint32_t numa_node = 0;  // as the OS counts
};

struct Wishes {
  std::vector<Wish> slots;  // as many as the machine has
  std::vector<NearDrive> drives = {};
  uint64_t threads = 0;  // that each rank computes with; 0: as many as it has cores
};

// The shares of all slots. `allowed` are the hardware threads that this process may use; a core
// none of whose threads is allowed is nobody's.
//
// A slot with a wish has cores of that node, as many as the others there or one more. Of more slots
// than a node has cores the first stay; the others, as slots without a wish, go where they have the
// most cores, and none is without a core while there is one left. With fewer slots than nodes, and
// no wish, each has whole nodes; of these the one alone that is near a drive, if the rank does not
// compute with more threads than that has cores.
Result<std::vector<Binding>> BindSlots(const tiering::Topology& topology,
                                       const std::vector<uint32_t>& allowed, const Wishes& wishes);

// "4 cores (cpu 0-7) of NUMA node 0, near GPU 0000:17:00.0".
std::string Describe(const Binding& binding);

// The hardware threads that this process may use.
std::vector<uint32_t> AllowedCpus();

}  // namespace strata::launch
