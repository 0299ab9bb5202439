#include "tools/launch/binding.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>

#include "tools/launch/layout.h"

namespace strata::launch {
namespace {

using Core = std::vector<uint32_t>;  // its allowed hardware threads

struct Node {
  uint32_t index = 0;
  uint32_t os_index = 0;
  std::vector<Core> cores;
};
using Nodes = std::vector<Node>;

Nodes NodesWithCores(const tiering::Topology& topology, const std::vector<uint32_t>& allowed) {
  Nodes nodes;
  for (const tiering::NumaNode& numa_node : topology.numa_nodes()) {
    Node node{.index = numa_node.index, .os_index = numa_node.os_index, .cores = {}};
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

// "drive nvme0n1", "drives nvme0n1 and nvme1n1".
std::string Name(const std::vector<std::string>& drives) {
  return fmt::format("drive{} {}", drives.size() == 1 ? "" : "s", fmt::join(drives, " and "));
}

std::vector<std::string> DrivesOf(const Node& node, const Wishes& wishes) {
  std::vector<std::string> names;
  for (const NearDrive& drive : wishes.drives)
    if (drive.numa_node == node.os_index) names.push_back(drive.name);
  return names;
}

// The one node of [begin, end) where a rank has drives and cores enough, if there is one.
std::optional<size_t> NodeEnough(const Nodes& nodes, Range share, const Wishes& wishes) {
  for (size_t i = share.begin; i < share.end; ++i) {
    const bool is_enough = wishes.threads > 0 && wishes.threads <= nodes[i].cores.size();
    if (is_enough && !DrivesOf(nodes[i], wishes).empty()) return i;
  }
  return std::nullopt;
}

// With fewer slots than nodes, none of which has a wish that can be granted.
Binding WholeNodes(const Nodes& nodes, const Wishes& wishes, size_t slot) {
  Range share = Part(nodes.size(), slot, wishes.slots.size());
  const std::optional<size_t> enough = NodeEnough(nodes, share, wishes);
  if (enough) share = {*enough, *enough + 1};
  Binding binding;
  for (size_t i = share.begin; i < share.end; ++i) {
    Take(nodes[i], {0, nodes[i].cores.size()}, binding);
    const std::vector<std::string> drives = DrivesOf(nodes[i], wishes);
    if (drives.empty()) continue;
    binding.note += binding.note.empty() ? "" : ", ";
    binding.note += share.end - share.begin == 1
                        ? "near " + Name(drives)
                        : fmt::format("{} near node {}", Name(drives), nodes[i].index);
  }
  return binding;
}

// Puts every slot on one node.
class Placement {
 public:
  Placement(const Nodes& nodes, const Wishes& wishes)
      : nodes_(nodes), node_of_slot_(wishes.slots.size()), counts_(nodes.size()) {
    std::vector<std::optional<size_t>> wanted;
    for (const Wish& wish : wishes.slots) wanted.push_back(NodeOf(wish));
    for (size_t slot = 0; slot < wanted.size(); ++slot)
      if (wanted[slot] && HasRoom(*wanted[slot])) Put(slot, *wanted[slot]);
    has_granted_ = counts_ != std::vector<size_t>(nodes.size());
    for (size_t slot = 0; slot < wanted.size(); ++slot) {
      if (!wanted[slot] || node_of_slot_[slot]) continue;
      const size_t roomiest = Roomiest(counts_);
      Put(slot, HasRoom(roomiest) ? roomiest : *wanted[slot]);
    }
    PutTheOthers();
  }

  bool has_granted() const { return has_granted_; }
  size_t node_of(size_t slot) const { return *node_of_slot_[slot]; }
  // How many slots are there, and how many of these come before `slot`.
  size_t count_of(size_t node) const { return counts_[node]; }
  size_t PlaceOf(size_t slot) const {
    const auto end = node_of_slot_.begin() + static_cast<std::ptrdiff_t>(slot);
    return static_cast<size_t>(std::count(node_of_slot_.begin(), end, node_of_slot_[slot]));
  }

 private:
  std::optional<size_t> NodeOf(const Wish& wish) const {
    const auto node = std::find_if(nodes_.begin(), nodes_.end(),
                                   [&](const Node& one) { return wish.numa_node == one.os_index; });
    if (node == nodes_.end()) return std::nullopt;
    return static_cast<size_t>(node - nodes_.begin());
  }
  bool HasRoom(size_t node) const { return counts_[node] < nodes_[node].cores.size(); }
  void Put(size_t slot, size_t node) {
    node_of_slot_[slot] = node;
    ++counts_[node];
  }
  // Where one more slot has the most cores; has room if any has.
  size_t Roomiest(const std::vector<size_t>& counts) const {
    size_t best = 0;
    for (size_t node = 1; node < nodes_.size(); ++node) {
      if (nodes_[node].cores.size() * (counts[best] + 1) >
          nodes_[best].cores.size() * (counts[node] + 1))
        best = node;
    }
    return best;
  }
  // Those that have no wish: how many go where, and then neighbours to one node.
  void PutTheOthers() {
    std::vector<size_t> counts = counts_;
    for (const std::optional<size_t>& node : node_of_slot_)
      if (!node) ++counts[Roomiest(counts)];
    size_t node = 0;
    for (size_t slot = 0; slot < node_of_slot_.size(); ++slot) {
      if (node_of_slot_[slot]) continue;
      while (counts_[node] == counts[node]) ++node;
      Put(slot, node);
    }
  }

  const Nodes& nodes_;
  std::vector<std::optional<size_t>> node_of_slot_;
  std::vector<size_t> counts_;
  bool has_granted_ = false;
};

// As other numbers of nodes that are shown.
uint32_t LogicalIndex(const tiering::Topology& topology, uint32_t os_index) {
  for (const tiering::NumaNode& node : topology.numa_nodes())
    if (node.os_index == os_index) return node.index;
  return os_index;
}

// Of a rank that is where its wish did not come in, or was for a node; `has_wanted`: that one.
std::string NoteOf(const Wish& wish, bool has_wanted, const tiering::Topology& topology,
                   const Nodes& nodes) {
  if (wish.what.empty()) return wish.why_not_told;
  if (has_wanted || topology.numa_nodes().size() == 1) return "near " + wish.what;
  if (!wish.numa_node) return fmt::format("{}: {}", wish.what, wish.why_not_told);
  const bool has_cores = std::any_of(nodes.begin(), nodes.end(), [&](const Node& node) {
    return node.os_index == *wish.numa_node;
  });
  const uint32_t wanted = LogicalIndex(topology, *wish.numa_node);
  return fmt::format("not near {}: {}", wish.what,
                     has_cores
                         ? fmt::format("more ranks than cores want NUMA node {}", wanted)
                         : fmt::format("no core of NUMA node {} is for this process", wanted));
}

Binding OneNode(const Nodes& nodes, const Placement& placement, size_t slot) {
  const Node& node = nodes[placement.node_of(slot)];
  const size_t count = placement.count_of(placement.node_of(slot));
  Binding binding;
  binding.is_shared = count > node.cores.size();
  Take(node,
       binding.is_shared ? Range{0, node.cores.size()}
                         : Part(node.cores.size(), placement.PlaceOf(slot), count),
       binding);
  return binding;
}

}  // namespace

Result<std::vector<Binding>> BindSlots(const tiering::Topology& topology,
                                       const std::vector<uint32_t>& allowed, const Wishes& wishes) {
  const Nodes nodes = NodesWithCores(topology, allowed);
  if (nodes.empty()) return FailedPrecondition("hwloc knows no core that this process may use");
  const Placement placement(nodes, wishes);
  const bool is_whole = !placement.has_granted() && wishes.slots.size() < nodes.size();
  std::vector<Binding> bindings;
  for (size_t slot = 0; slot < wishes.slots.size(); ++slot) {
    Binding& binding = bindings.emplace_back(is_whole ? WholeNodes(nodes, wishes, slot)
                                                      : OneNode(nodes, placement, slot));
    const Wish& wish = wishes.slots[slot];
    const bool has_wanted = !is_whole && wish.numa_node == nodes[placement.node_of(slot)].os_index;
    const std::string note = NoteOf(wish, has_wanted, topology, nodes);
    if (!note.empty()) binding.note = note;
    std::sort(binding.cpus.begin(), binding.cpus.end());
  }
  return bindings;
}

std::string Describe(const Binding& binding) {
  return fmt::format("{} core{} (cpu {}) of NUMA node {}{}{}", binding.num_cores,
                     binding.num_cores == 1 ? "" : "s", FormatNumbers(binding.cpus),
                     FormatNumbers(binding.numa_nodes),
                     binding.is_shared ? ", shared: more ranks than cores" : "",
                     binding.note.empty() ? "" : ", " + binding.note);
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
