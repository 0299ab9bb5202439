#include "tools/launch/binding.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

#include "aio/base/units.h"
#include "tools/launch/layout.h"

namespace strata::launch {
namespace {

using Core = std::vector<uint32_t>;  // its allowed hardware threads

struct Node {
  uint32_t index = 0;
  std::vector<Core> cores;
};

std::vector<Node> NodesWithCores(const tiering::Topology& topology,
                                 const std::vector<uint32_t>& allowed) {
  std::vector<Node> nodes;
  for (const tiering::NumaNode& numa_node : topology.numa_nodes()) {
    Node node{.index = numa_node.index, .cores = {}};
    for (const std::vector<uint32_t>& cpus : numa_node.cpus_of_cores) {
      Core core;
      std::copy_if(cpus.begin(), cpus.end(), std::back_inserter(core), [&](uint32_t cpu) {
        return std::find(allowed.begin(), allowed.end(), cpu) != allowed.end();
      });
      if (!core.empty()) node.cores.push_back(std::move(core));
    }
    if (!node.cores.empty()) nodes.push_back(std::move(node));
  }
  return nodes;
}

// The `part`th of `num_parts` of `size`: [begin, end). Not empty where there are not more parts.
struct Range {
  size_t begin = 0;
  size_t end = 0;
};
Range Part(size_t size, size_t part, size_t num_parts) {
  return {part * size / num_parts, (part + 1) * size / num_parts};
}

void Take(const Node& node, Range cores, Binding& binding) {
  binding.numa_nodes.push_back(node.index);
  for (size_t i = cores.begin; i < cores.end; ++i) {
    binding.cpus.insert(binding.cpus.end(), node.cores[i].begin(), node.cores[i].end());
    ++binding.num_cores;
  }
}

}  // namespace

Result<Binding> BindingOf(const tiering::Topology& topology, const std::vector<uint32_t>& allowed,
                          uint32_t slot, uint32_t num_slots) {
  STRATA_CHECK(slot < num_slots);
  const std::vector<Node> nodes = NodesWithCores(topology, allowed);
  if (nodes.empty()) return FailedPrecondition("hwloc knows no core that this process may use");
  Binding binding;
  if (num_slots < nodes.size()) {
    const Range share = Part(nodes.size(), slot, num_slots);
    for (size_t i = share.begin; i < share.end; ++i)
      Take(nodes[i], {0, nodes[i].cores.size()}, binding);
  } else {
    const size_t index = size_t{slot} * nodes.size() / num_slots;
    // The slots whose node this is.
    const size_t first = CeilDiv(index * num_slots, nodes.size());
    const size_t last = CeilDiv((index + 1) * num_slots, nodes.size());
    const Node& node = nodes[index];
    binding.is_shared = last - first > node.cores.size();
    Take(node,
         binding.is_shared ? Range{0, node.cores.size()}
                           : Part(node.cores.size(), slot - first, last - first),
         binding);
  }
  std::sort(binding.cpus.begin(), binding.cpus.end());
  return binding;
}

std::string Describe(const Binding& binding) {
  return fmt::format("{} core{} (cpu {}) of NUMA node {}{}", binding.num_cores,
                     binding.num_cores == 1 ? "" : "s", FormatNumbers(binding.cpus),
                     FormatNumbers(binding.numa_nodes),
                     binding.is_shared ? ", shared: more ranks than cores" : "");
}

std::vector<uint32_t> AllowedCpus() {
  std::vector<uint32_t> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

}  // namespace strata::launch
