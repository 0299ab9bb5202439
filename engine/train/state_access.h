// Whole state blocks where they are at home: device, host or nvme. To write them: state_writer.h.
//
// Between steps only, but for Outgoing(): for the first weights, checkpoints, resuming and hashing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "aio/base/status.h"
#include "engine/zero/state_layout.h"
#include "prefetch/step_plan.h"
#include "tiering/arena.h"
#include "tiering/block_store.h"
#include "tiering/device.h"

namespace strata::engine {

struct StateAccessParts {
  const StateLayout* layout = nullptr;
  const prefetch::StepPlan* plan = nullptr;
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  tiering::BlockStore* store = nullptr;  // block i of the layout is block i of the store
};

// Thread-compatible. The parts outlive it.
class StateAccess {
 public:
  using Bytes = std::span<std::byte>;

  explicit StateAccess(const StateAccessParts& parts);

  // Where a block that is not in host memory passes through: host memory of at least its size
  // rounded up to tiering::kSlotAlignmentBytes. Before a plan is primed, after the last step: all
  // of the arena above the homes. While the plan's cached copies matter: the plan's own reserve.
  void SetStaging(Bytes staging) { staging_ = staging; }
  // The arena above the homes of this plan.
  Bytes FreeHostMemory() const;

  // Shows the content to `use`, which may read further blocks: they stage behind this one.
  Status Read(uint32_t block, const std::function<Status(Bytes)>& use);

  // Blocks at home in memory, from the store: a resume.
  Status LoadMemoryHomes();
  // The content of a block at home in memory, padded, on its way to the store: where it is in host
  // memory, or a copy in the staging, until that is used again. Beside a step, too, if the step
  // leaves that block alone meanwhile.
  Result<Bytes> Outgoing(uint32_t block);

 private:
  friend class StateWriter;

  const StateBlock& BlockAt(uint32_t block) const { return parts_.layout->blocks[block]; }
  Bytes HomeSlot(uint32_t block) const;
  uint64_t StageBytes(uint32_t block) const;
  Result<Bytes> Stage(uint32_t block) const;
  Status CopyToDevice(Bytes to, Bytes from);
  Status CopyFromDevice(Bytes to, Bytes from);

  StateAccessParts parts_;
  std::vector<prefetch::Slot> homes_;  // by block; size 0 when at home on nvme
  std::unique_ptr<tiering::DeviceStream> stream_;
  Bytes staging_;
};

}  // namespace strata::engine
