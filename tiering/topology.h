// The machine as hwloc sees it: NUMA nodes, cores, and who is near whom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"

namespace strata::tiering {

struct NumaNode {
  uint32_t index = 0;                                // logical: 0 and so on
  uint32_t os_index = 0;                             // as the kernel and sysfs count
  std::vector<uint32_t> cores;                       // logical indices of its cores
  std::vector<uint32_t> cpus;                        // OS indices of its hardware threads
  std::vector<std::vector<uint32_t>> cpus_of_cores;  // the same, by core
};

// Thread-compatible.
class Topology {
 public:
  static Result<Topology> Detect();
  // hwloc's synthetic syntax: "pack:2 numa:1 core:4 pu:2". Binding on it is decided, not done.
  static Result<Topology> Synthetic(const std::string& description);

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  const std::vector<NumaNode>& numa_nodes() const;
  uint32_t num_cores() const;
  uint32_t num_cpus() const;
  bool is_synthetic() const;
  // One line per node, "node 0: 2 cores (0-1), 4 cpus (0-3)", and one for the drives below the file
  // system of `path` and the node each is near, where sysfs tells: "drives of /: vda (node 0)".
  std::string Describe(const std::string& path = "/") const;

  // Binds the calling thread to a node's hardware threads; a no-op on a synthetic topology.
  Status BindThisThread(uint32_t numa_node) const;

  // Binds this process, which has one thread, and what it starts: to hardware threads (OS indices),
  // and memory, while there is some, to NUMA nodes. A no-op on a synthetic topology.
  Status BindThisProcess(const std::vector<uint32_t>& cpus,
                         const std::vector<uint32_t>& numa_nodes) const;

  // Runs `work` on the calling thread; pages that it is the first to touch are of the memory of
  // NUMA node `os_index` while that has some. Fails, and has not run it, where there is no such
  // node or the kernel does not let (containers may forbid set_mempolicy); on a synthetic topology
  // it just runs.
  Status WithMemoryOf(uint32_t os_index, const std::function<void()>& work) const;

  // The node whose memory the first page of `memory` is in. kUnimplemented on a synthetic topology
  // and where the kernel does not tell.
  Result<uint32_t> NodeOfMemory(std::span<const std::byte> memory) const;

 private:
  struct State;
  explicit Topology(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace strata::tiering
