#include "tests/prefetch/plan_rig.h"

#include <algorithm>

#include "aio/base/units.h"
#include "tests/or_die.h"

namespace strata::prefetch {
namespace {

using tiering::StoreBlock;

std::unique_ptr<tiering::Arena> MakeArena(const char* purpose, uint64_t bytes) {
  return std::make_unique<tiering::Arena>(OrDie(tiering::Arena::Create(purpose, bytes)));
}

bool StartsOnNvme(const TraceBlock& block) {
  return block.lifetime == Lifetime::kPersistent && block.home == Tier::kNvme;
}

}  // namespace

PlanRig::PlanRig(StepPlan plan, const ExecutorOptions& options, RunOp run,
                 const fakes::FaultOptions& faults)
    : plan_(std::move(plan)) {
  engine_ = std::make_unique<fakes::FaultEngine>(
      OrDie(aio::IoEngine::Create({.backend = aio::IoBackend::kPosix})), faults);
  device_ = OrDie(tiering::CreateCpuDevice(std::max(plan_.budgets.device_bytes, 4_KiB)));
  host_ = MakeArena("host", std::max(plan_.budgets.host_bytes, 4_KiB));
  CreateStore();
  FillHomes();
  if (!run) {
    run = [this](OpId op, const Operands& operands, const tiering::StreamContext&) {
      return RunStandIn(plan_.trace, op, operands);
    };
  }
  ExecutorParts parts{.device = device_.get(),
                      .host = host_.get(),
                      .store = store_.get(),
                      .store_blocks = {},
                      .run = std::move(run)};
  for (size_t i = 0; i < plan_.trace.blocks.size(); ++i)
    parts.store_blocks.push_back(StoreBlock(i));
  executor_ = std::make_unique<Executor>(plan_, std::move(parts), options);
}

void PlanRig::CreateStore() {
  std::vector<tiering::BlockDescription> blocks;
  uint64_t largest = 0;
  for (const TraceBlock& block : plan_.trace.blocks) {
    largest = std::max(largest, block.size_bytes);
    blocks.push_back({.name = block.name,
                      .size_bytes = block.size_bytes,
                      .durability = block.lifetime == Lifetime::kPersistent
                                        ? tiering::Durability::kDurable
                                        : tiering::Durability::kScratch});
  }
  buffer_ = MakeArena("test", RoundUp(std::max(largest, uint64_t{1}), 4_KiB));
  if (blocks.empty()) return;
  const tiering::BlockStoreOptions options{.directories = {directory_.path()}, .run_id = "test"};
  store_ = OrDie(tiering::BlockStore::Create(options, blocks, engine_.get()));
}

std::span<std::byte> PlanRig::BytesOf(const Slot& slot, BlockId block) {
  const std::span<std::byte> tier = slot.tier == Tier::kHost ? host_->bytes() : device_->memory();
  return tier.subspan(slot.offset_bytes, plan_.trace.blocks[Index(block)].size_bytes);
}

void PlanRig::FillHomes() {
  for (const Resident& resident : plan_.residents) {
    if (resident.is_home) FillRandom(Index(resident.block), BytesOf(resident.slot, resident.block));
  }
  for (size_t i = 0; i < plan_.trace.blocks.size(); ++i) {
    if (!StartsOnNvme(plan_.trace.blocks[i])) continue;
    FillRandom(i, buffer_->bytes().first(plan_.trace.blocks[i].size_bytes));
    STRATA_CHECK(store_->StartWrite(StoreBlock(i), buffer_->bytes()).Finish().ok());
  }
  if (store_) STRATA_CHECK(store_->Commit("start", /*pin=*/false).ok());
}

Status PlanRig::Run(int num_steps) {
  STRATA_RETURN_IF_ERROR(executor_->Prime());
  for (int step = 0; step < num_steps; ++step) {
    STRATA_ASSIGN_OR_RETURN(last_timeline_, executor_->RunStep());
    if (store_) STRATA_RETURN_IF_ERROR(store_->Commit("step", /*pin=*/false).status());
  }
  return OkStatus();
}

Status PlanRig::CompareTo(const TraceInterpreter& expected) {
  for (const Resident& resident : plan_.residents) {
    if (!std::ranges::equal(BytesOf(resident.slot, resident.block),
                            expected.ContentOf(resident.block))) {
      return Internal("resident " + plan_.trace.blocks[Index(resident.block)].name + " differs");
    }
  }
  for (size_t i = 0; i < plan_.trace.blocks.size(); ++i) {
    const TraceBlock& block = plan_.trace.blocks[i];
    if (!StartsOnNvme(block)) continue;
    STRATA_RETURN_IF_ERROR(store_->StartRead(StoreBlock(i), buffer_->bytes()).Finish());
    if (!std::ranges::equal(buffer_->bytes().first(block.size_bytes),
                            expected.ContentOf(BlockId(i)))) {
      return Internal(block.name + " on nvme differs");
    }
  }
  return OkStatus();
}

}  // namespace strata::prefetch
