#include "tiering/topology.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwloc.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "aio/base/log.h"
#include "tiering/internal/drives.h"

namespace strata::tiering {
namespace {

struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using TopologyHandle = std::unique_ptr<hwloc_topology, DestroyTopology>;

Result<TopologyHandle> NewTopology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return Internal("hwloc_topology_init failed");
  return TopologyHandle(topology);
}

std::vector<hwloc_obj_t> ObjectsInside(hwloc_topology_t topology, hwloc_const_cpuset_t cpus,
                                       hwloc_obj_type_t type) {
  std::vector<hwloc_obj_t> objects;
  hwloc_obj_t object = nullptr;
  while ((object = hwloc_get_next_obj_inside_cpuset_by_type(topology, cpus, type, object)))
    objects.push_back(object);
  return objects;
}

// Some virtual machines show hardware threads and no cores.
hwloc_obj_type_t CoreType(hwloc_topology_t topology) {
  return hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

std::vector<uint32_t> CpusOf(hwloc_topology_t topology, hwloc_obj_t object) {
  if (object->type == HWLOC_OBJ_PU) return {object->os_index};
  std::vector<uint32_t> cpus;
  for (hwloc_obj_t cpu : ObjectsInside(topology, object->cpuset, HWLOC_OBJ_PU))
    cpus.push_back(cpu->os_index);
  return cpus;
}

NumaNode ReadNode(hwloc_topology_t topology, hwloc_obj_t object) {
  NumaNode node{.index = object->logical_index,
                .os_index = object->os_index,
                .cores = {},
                .cpus = {},
                .cpus_of_cores = {}};
  for (hwloc_obj_t core : ObjectsInside(topology, object->cpuset, CoreType(topology))) {
    node.cores.push_back(core->logical_index);
    node.cpus_of_cores.push_back(CpusOf(topology, core));
  }
  node.cpus = CpusOf(topology, object);
  return node;
}

using Bitmap = std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)>;
Bitmap NewBitmap() { return Bitmap(hwloc_bitmap_alloc(), &hwloc_bitmap_free); }

// "0-3,8": runs of neighbours.
std::string Ranges(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (end > i + 1) text += fmt::format("-{}", numbers[end - 1]);
    i = end;
  }
  return text;
}

std::string Count(size_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

std::string DescribeDrives(const std::string& path) {
  std::vector<std::string> names;
  for (const Drive& drive : DrivesBelow(path))
    names.push_back(drive.numa_node ? fmt::format("{} (node {})", drive.name, *drive.numa_node)
                                    : drive.name);
  if (names.empty()) return fmt::format("drives of {}: not told by sysfs\n", path);
  return fmt::format("drives of {}: {}\n", path, fmt::join(names, ", "));
}

}  // namespace

struct Topology::State {
  TopologyHandle topology;
  std::vector<NumaNode> nodes;
  bool synthetic = false;

  static std::unique_ptr<State> Read(TopologyHandle loaded, bool synthetic) {
    auto state = std::make_unique<State>();
    hwloc_obj_t object = nullptr;
    while ((object = hwloc_get_next_obj_by_type(loaded.get(), HWLOC_OBJ_NUMANODE, object)))
      state->nodes.push_back(ReadNode(loaded.get(), object));
    state->synthetic = synthetic;
    state->topology = std::move(loaded);
    return state;
  }

  uint32_t CountOf(hwloc_obj_type_t type) const {
    return static_cast<uint32_t>(hwloc_get_nbobjs_by_type(topology.get(), type));
  }
};

Topology::Topology(std::unique_ptr<State> state) : state_(std::move(state)) {}
Topology::Topology(Topology&&) noexcept = default;
Topology& Topology::operator=(Topology&&) noexcept = default;
Topology::~Topology() = default;

Result<Topology> Topology::Detect() {
  STRATA_ASSIGN_OR_RETURN(TopologyHandle topology, NewTopology());
  if (hwloc_topology_load(topology.get()) != 0)
    return ErrnoStatus(errno, "reading this machine's topology with hwloc");
  // HWLOC_SYNTHETIC and HWLOC_XMLFILE make hwloc describe another machine.
  bool synthetic = hwloc_topology_is_thissystem(topology.get()) == 0;
  return Topology(State::Read(std::move(topology), synthetic));
}

Result<Topology> Topology::Synthetic(const std::string& description) {
  STRATA_ASSIGN_OR_RETURN(TopologyHandle topology, NewTopology());
  if (hwloc_topology_set_synthetic(topology.get(), description.c_str()) != 0 ||
      hwloc_topology_load(topology.get()) != 0) {
    return InvalidArgument(fmt::format(
        "'{}' is no topology that hwloc knows: write one as in 'pack:2 numa:1 core:4 pu:2'",
        description));
  }
  return Topology(State::Read(std::move(topology), true));
}

const std::vector<NumaNode>& Topology::numa_nodes() const { return state_->nodes; }

uint32_t Topology::num_cores() const { return state_->CountOf(CoreType(state_->topology.get())); }

uint32_t Topology::num_cpus() const { return state_->CountOf(HWLOC_OBJ_PU); }

bool Topology::is_synthetic() const { return state_->synthetic; }

std::string Topology::Describe(const std::string& path) const {
  std::string text;
  for (const NumaNode& node : state_->nodes)
    text += fmt::format("node {}: {} ({}), {} ({})\n", node.index, Count(node.cores.size(), "core"),
                        Ranges(node.cores), Count(node.cpus.size(), "cpu"), Ranges(node.cpus));
  if (!is_synthetic()) text += DescribeDrives(path);
  return text;
}

Status Topology::BindThisThread(uint32_t numa_node) const {
  hwloc_obj_t node = hwloc_get_obj_by_type(state_->topology.get(), HWLOC_OBJ_NUMANODE, numa_node);
  if (node == nullptr) {
    return InvalidArgument(fmt::format("NUMA node {} is not there: this machine has {}", numa_node,
                                       Count(state_->nodes.size(), "node")));
  }
  if (state_->synthetic) return OkStatus();
  if (hwloc_bitmap_iszero(node->cpuset))
    return FailedPrecondition(fmt::format("NUMA node {} has memory and no cores", numa_node));
  if (hwloc_set_cpubind(state_->topology.get(), node->cpuset, HWLOC_CPUBIND_THREAD) != 0)
    return ErrnoStatus(errno, fmt::format("binding a thread to NUMA node {}", numa_node));
  return OkStatus();
}

Status Topology::BindThisProcess(const std::vector<uint32_t>& cpus,
                                 const std::vector<uint32_t>& numa_nodes) const {
  const Bitmap cpuset = NewBitmap();
  for (uint32_t cpu : cpus) hwloc_bitmap_set(cpuset.get(), cpu);
  const Bitmap nodeset = NewBitmap();
  for (uint32_t index : numa_nodes) {
    hwloc_obj_t node = hwloc_get_obj_by_type(state_->topology.get(), HWLOC_OBJ_NUMANODE, index);
    if (node == nullptr) return InvalidArgument(fmt::format("NUMA node {} is not there", index));
    hwloc_bitmap_or(nodeset.get(), nodeset.get(), node->nodeset);
  }
  if (state_->synthetic) return OkStatus();
  if (hwloc_set_cpubind(state_->topology.get(), cpuset.get(), HWLOC_CPUBIND_THREAD) != 0)
    return ErrnoStatus(errno, fmt::format("binding this process to cpu {}", Ranges(cpus)));
  // Without STRICT memory comes from elsewhere when these nodes have no more. One node needs none.
  if (state_->nodes.size() < 2) return OkStatus();
  if (hwloc_set_membind(state_->topology.get(), nodeset.get(), HWLOC_MEMBIND_BIND,
                        HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) != 0) {
    return ErrnoStatus(errno, fmt::format("binding memory to NUMA node {}", Ranges(numa_nodes)));
  }
  return OkStatus();
}

Status Topology::WithMemoryOf(uint32_t os_index, const std::function<void()>& work) const {
  hwloc_topology_t topology = state_->topology.get();
  hwloc_obj_t node = hwloc_get_numanode_obj_by_os_index(topology, os_index);
  if (node == nullptr) return InvalidArgument(fmt::format("NUMA node {} is not there", os_index));
  if (!state_->synthetic) {
    constexpr int kThisThread = HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET;
    const Bitmap before = NewBitmap();
    hwloc_membind_policy_t policy = HWLOC_MEMBIND_DEFAULT;
    if (hwloc_get_membind(topology, before.get(), &policy, kThisThread) != 0)
      return ErrnoStatus(errno, "asking where a thread's memory comes from");
    if (hwloc_set_membind(topology, node->nodeset, HWLOC_MEMBIND_BIND, kThisThread) != 0)
      return ErrnoStatus(errno, fmt::format("taking memory of NUMA node {}", os_index));
    work();
    // hwloc calls the kernel's default first touch, too, and would set what is almost the same.
    if (policy == HWLOC_MEMBIND_FIRSTTOUCH) policy = HWLOC_MEMBIND_DEFAULT;
    if (hwloc_set_membind(topology, before.get(), policy, kThisThread) != 0) {
      Log(Severity::kWarning, "tiering", "a thread goes on taking memory of NUMA node {}: {}",
          os_index, std::strerror(errno));
    }
    return OkStatus();
  }
  work();
  return OkStatus();
}

Result<uint32_t> Topology::NodeOfMemory(std::span<const std::byte> memory) const {
  if (state_->synthetic) return Unimplemented("a synthetic topology has no memory");
  const Bitmap nodes = NewBitmap();
  if (hwloc_get_area_memlocation(state_->topology.get(), memory.data(), 1, nodes.get(),
                                 HWLOC_MEMBIND_BYNODESET) != 0) {
    return Unimplemented("the kernel does not tell which NUMA node memory is on");
  }
  const int os_index = hwloc_bitmap_first(nodes.get());
  for (uint32_t i = 0; i < state_->nodes.size(); ++i) {
    hwloc_obj_t node = hwloc_get_obj_by_type(state_->topology.get(), HWLOC_OBJ_NUMANODE, i);
    if (os_index >= 0 && node->os_index == static_cast<unsigned>(os_index)) return i;
  }
  return Unimplemented("the kernel does not tell which NUMA node memory is on");
}

}  // namespace strata::tiering
