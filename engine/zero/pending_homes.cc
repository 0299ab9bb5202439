#include "engine/zero/pending_homes.h"

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::engine {

using tiering::Tier;

PendingHomes AllPendingIn(Tier tier, const StateLayout& layout) {
  return PendingHomes(layout.units.size(), tier);
}

PendingHomes PlacePending(const PendingRoom& room, const StateLayout& layout) {
  PendingRoom left = room;
  PendingHomes homes = AllPendingIn(Tier::kNvme, layout);
  auto place = [&](uint32_t unit, Tier tier, uint64_t* left_bytes) {
    const uint64_t bytes = RoundUp(PendingBytes(layout, unit), tiering::kSlotAlignmentBytes);
    if (bytes > *left_bytes) return false;
    *left_bytes -= bytes;
    homes[unit] = tier;
    return true;
  };
  for (uint32_t unit = 0; unit < homes.size(); ++unit)
    if (!place(unit, Tier::kHost, &left.host_bytes)) place(unit, Tier::kDevice, &left.device_bytes);
  return homes;
}

uint64_t PendingBytes(const StateLayout& layout, uint32_t unit) {
  const UnitState& state = layout.units[unit];
  const uint64_t elements =
      layout.options.shards_gradients() ? state.shard_elements : state.whole_elements;
  return elements * SizeOf(layout.options.precision);
}

std::map<Tier, uint64_t> PendingBytesByTier(const PendingHomes& homes, const StateLayout& layout) {
  std::map<Tier, uint64_t> bytes;
  for (uint32_t unit = 0; unit < homes.size(); ++unit)
    bytes[homes[unit]] += PendingBytes(layout, unit);
  return bytes;
}

}  // namespace strata::engine
