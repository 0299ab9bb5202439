// Host memory near a device: copies between a GPU and memory of another socket cross both.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "tiering/arena.h"

namespace strata::tiering {

// What a machine with several NUMA nodes can be asked; nodes as the kernel counts them.
struct NumaMemory {
  uint32_t num_nodes = 1;
  // Runs `work`, which takes memory of that node while there is some. Fails where the kernel does
  // not let it, and has not run it then.
  std::function<Status(uint32_t node, const std::function<void()>& work)> prefer;
  // Of the first page.
  std::function<Result<uint32_t>(std::span<const std::byte>)> node_of;
};
// This one's. Asked anew by each call.
Result<NumaMemory> NumaMemoryOfThisMachine();

struct ArenaNear {
  Arena arena;
  std::string where = {};     // for people; empty where there is no choice
  bool is_elsewhere = false;  // not on that node, or nobody knows: `where` is worth a warning
};

// An arena like Arena::Create(), on NUMA node `node` if that is known, while it has memory. Never
// fails for want of a place.
Result<ArenaNear> CreateArenaNear(const std::string& purpose, uint64_t budget_bytes,
                                  std::optional<uint32_t> node, const NumaMemory& numa);

}  // namespace strata::tiering
