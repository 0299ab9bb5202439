#include "tiering/arena_near.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "tiering/topology.h"

namespace strata::tiering {
namespace {

constexpr uint64_t kLooks = 16;  // at pages, evenly over the arena

uint64_t CountElsewhere(std::span<const std::byte> bytes, uint32_t node, const NumaMemory& numa,
                        uint64_t& unknown) {
  uint64_t elsewhere = 0;
  for (uint64_t look = 0; look < kLooks; ++look) {
    const uint64_t at = bytes.size() / kLooks * look;
    const Result<uint32_t> is_on = numa.node_of(bytes.subspan(at, 1));
    if (!is_on.ok()) ++unknown;
    if (is_on.ok() && *is_on != node) ++elsewhere;
  }
  return elsewhere;
}

void LookWhere(uint32_t node, const NumaMemory& numa, ArenaNear& made) {
  uint64_t unknown = 0;
  const uint64_t elsewhere = CountElsewhere(made.arena.bytes(), node, numa, unknown);
  if (elsewhere == 0) {
    made.where = fmt::format("on NUMA node {}, the device's{}", node,
                             unknown > 0 ? ", as far as the kernel tells" : "");
    return;
  }
  made.is_elsewhere = true;
  made.where = fmt::format(
      "{} of {} looks found it on another NUMA node than the device's, {}: that has too little "
      "free memory (numactl --hardware), and copies from there are slower",
      elsewhere, kLooks, node);
}

}  // namespace

Result<NumaMemory> NumaMemoryOfThisMachine() {
  STRATA_ASSIGN_OR_RETURN(Topology detected, Topology::Detect());
  // Shared by the two functions, which are copied with the struct.
  const auto topology = std::make_shared<const Topology>(std::move(detected));
  NumaMemory numa;
  numa.num_nodes = static_cast<uint32_t>(topology->numa_nodes().size());
  numa.prefer = [topology](uint32_t node, const std::function<void()>& work) {
    return topology->WithMemoryOf(node, work);
  };
  numa.node_of = [topology](std::span<const std::byte> memory) -> Result<uint32_t> {
    STRATA_ASSIGN_OR_RETURN(const uint32_t index, topology->NodeOfMemory(memory));
    return topology->numa_nodes()[index].os_index;
  };
  return numa;
}

Result<ArenaNear> CreateArenaNear(const std::string& purpose, uint64_t budget_bytes,
                                  std::optional<uint32_t> node, const NumaMemory& numa) {
  if (!node || numa.num_nodes < 2) {
    STRATA_ASSIGN_OR_RETURN(Arena arena, Arena::Create(purpose, budget_bytes));
    return ArenaNear{.arena = std::move(arena)};
  }
  std::optional<Result<Arena>> created;
  const Status preferred =
      numa.prefer(*node, [&] { created.emplace(Arena::Create(purpose, budget_bytes)); });
  if (!created) created.emplace(Arena::Create(purpose, budget_bytes));
  STRATA_RETURN_IF_ERROR(created->status());
  ArenaNear made{.arena = std::move(*created).value()};
  if (preferred.ok()) {
    LookWhere(*node, numa, made);
  } else {
    made.is_elsewhere = true;
    made.where = fmt::format("on any NUMA node: {}", preferred.message());
  }
  return made;
}

}  // namespace strata::tiering
