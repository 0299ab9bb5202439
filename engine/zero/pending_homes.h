// Where gradients that outlive their step are at home, unit by unit.
//
// In memory one costs no traffic with the drive; on nvme it is written in each step, and read where
// it is applied in the next.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/zero/state_layout.h"
#include "tiering/tier.h"

namespace strata::engine {

using PendingHomes = std::vector<tiering::Tier>;  // by unit

PendingHomes AllPendingIn(tiering::Tier tier, const StateLayout& layout);

// What memory may hold of them; the rest is at home on nvme.
struct PendingRoom {
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;
};
// Units in forward's order, each in host memory if there is room left, else on the device, else on
// nvme.
PendingHomes PlacePending(const PendingRoom& room, const StateLayout& layout);

// Of a unit's gradient as the optimizer reads it.
uint64_t PendingBytes(const StateLayout& layout, uint32_t unit);
std::map<tiering::Tier, uint64_t> PendingBytesByTier(const PendingHomes& homes,
                                                     const StateLayout& layout);

}  // namespace strata::engine
