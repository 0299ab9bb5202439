#include "prefetch/internal/prime.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "prefetch/internal/node_bytes.h"

namespace strata::prefetch {
namespace {

// The longest run of host bytes between the blocks that are at home there.
Slot LongestFreeHostRun(const StepPlan& plan) {
  std::vector<Slot> taken;
  for (const Resident& resident : plan.residents) {
    if (resident.is_home && resident.slot.tier == Tier::kHost) taken.push_back(resident.slot);
  }
  std::sort(taken.begin(), taken.end(),
            [](const Slot& a, const Slot& b) { return a.offset_bytes < b.offset_bytes; });
  taken.push_back({.tier = Tier::kHost, .offset_bytes = plan.budgets.host_bytes, .size_bytes = 0});
  Slot longest;
  uint64_t free_from = 0;
  for (const Slot& slot : taken) {
    const uint64_t free_bytes = slot.offset_bytes - free_from;
    if (free_bytes > longest.size_bytes) {
      longest = {.tier = Tier::kHost, .offset_bytes = free_from, .size_bytes = free_bytes};
    }
    free_from = slot.offset_bytes + slot.size_bytes;
  }
  return longest;
}

class Primer {
 public:
  Primer(const StepPlan& plan, const ExecutorParts& parts, const NodeMemory& memory)
      : plan_(plan), parts_(parts), memory_(memory) {}

  // Before the host's: their slots are used on the way.
  Status LoadDevice() {
    const Slot way = LongestFreeHostRun(plan_);
    std::unique_ptr<tiering::DeviceStream> stream;
    for (const Resident& resident : plan_.residents) {
      if (resident.is_home || resident.slot.tier != Tier::kDevice) continue;
      if (!stream) stream = parts_.device->CreateStream("prime");
      STRATA_RETURN_IF_ERROR(LoadOnDevice(resident, way, *stream).With(NameOf(resident)));
    }
    return OkStatus();
  }

  Status LoadHost(uint32_t reads_in_flight) {
    std::deque<std::pair<const Resident*, tiering::StoreTicket>> window;
    const auto finish_oldest = [&] {
      auto [resident, ticket] = std::move(window.front());
      window.pop_front();
      return ticket.Finish().With(NameOf(*resident));
    };
    for (const Resident& resident : plan_.residents) {
      if (resident.is_home || resident.slot.tier != Tier::kHost) continue;
      if (window.size() == reads_in_flight) STRATA_RETURN_IF_ERROR(finish_oldest());
      window.emplace_back(&resident, StartRead(resident, resident.slot));
    }
    while (!window.empty()) STRATA_RETURN_IF_ERROR(finish_oldest());
    return OkStatus();
  }

 private:
  Status LoadOnDevice(const Resident& resident, const Slot& way, tiering::DeviceStream& stream) {
    const TraceBlock& block = plan_.trace.blocks[Index(resident.block)];
    if (way.size_bytes < PaddedBytes(block)) {
      return ResourceExhausted(fmt::format(
          "needs {} bytes of host memory on its way to the device, and only {} in a row are free: "
          "raise the host budget",
          PaddedBytes(block), way.size_bytes));
    }
    STRATA_RETURN_IF_ERROR(StartRead(resident, way).Finish());
    stream.CopyIn(memory_.Bytes(resident.slot, block.size_bytes),
                  memory_.Bytes(way, block.size_bytes));
    return stream.Record().Wait();
  }

  tiering::StoreTicket StartRead(const Resident& resident, const Slot& to) {
    const uint64_t bytes = PaddedBytes(plan_.trace.blocks[Index(resident.block)]);
    return parts_.store->StartRead(parts_.store_blocks[Index(resident.block)],
                                   memory_.Bytes(to, bytes));
  }

  std::string NameOf(const Resident& resident) const {
    return "load cached " + plan_.trace.blocks[Index(resident.block)].name;
  }

  const StepPlan& plan_;
  const ExecutorParts& parts_;
  const NodeMemory& memory_;
};

}  // namespace

Status PrimeResidents(const StepPlan& plan, const ExecutorParts& parts, const NodeMemory& memory,
                      uint32_t reads_in_flight) {
  Primer primer(plan, parts, memory);
  STRATA_RETURN_IF_ERROR(primer.LoadDevice());
  return primer.LoadHost(reads_in_flight);
}

}  // namespace strata::prefetch
