#include "engine/train/checkpoint_prune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/checkpoint/tensor_directory.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_stores.h"
#include "engine/train/saved_state.h"
#include "tiering/block_store.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

using Infos = std::vector<CheckpointInfo>;

// The newest state of a run that all its ranks have, and whatever is newer.
std::optional<uint64_t> FirstStepToStay(const Infos& all) {
  for (auto info = all.rbegin(); info != all.rend(); ++info) {
    if (info->kind != CheckpointKind::kPortable && info->is_complete()) return info->step;
  }
  return std::nullopt;
}

// `all`: the oldest first. Of those that may go, all but the last `keep` of all that count.
Infos OldestBut(const Infos& all, uint64_t keep, std::optional<uint64_t> stays_from) {
  Infos kept;
  for (const CheckpointInfo& info : all)
    if (info.kind != CheckpointKind::kCommitted) kept.push_back(info);
  kept.resize(kept.size() - std::min<size_t>(kept.size(), keep));
  std::erase_if(kept,
                [&](const CheckpointInfo& info) { return stays_from && info.step >= *stays_from; });
  return kept;
}

Result<Infos> OfSteps(const Infos& all, const std::vector<uint64_t>& steps,
                      std::optional<uint64_t> stays_from, const std::string& path) {
  Infos chosen;
  for (uint64_t step : steps) {
    if (stays_from && step >= *stays_from) {
      return FailedPrecondition(fmt::format(
          "the state of step {} stays: {} goes on from it; to remove the run, remove its "
          "directory and its blocks on nvme with 'strata train --overwrite', or by hand",
          step, path));
    }
    const size_t before = chosen.size();
    for (const CheckpointInfo& info : all)
      if (info.step == step) chosen.push_back(info);
    if (chosen.size() > before) continue;
    std::vector<uint64_t> there;
    for (const CheckpointInfo& info : all) there.push_back(info.step);
    return NotFound(fmt::format("{} has no checkpoint of step {}; it has those of steps: {}", path,
                                step, fmt::join(there, " ")));
  }
  return chosen;
}

// Every rank's store, held and open for writing: so nobody else has one of them.
Result<std::vector<std::unique_ptr<BlockStore>>> OpenStores(const RunDirectory& directory,
                                                            const StoreSet& stores,
                                                            const StateLayout& layout,
                                                            aio::IoEngine* engine) {
  std::vector<tiering::BlockDescription> blocks;
  for (const StateBlock& block : layout.blocks)
    blocks.push_back({.name = block.name, .size_bytes = block.size_bytes()});
  std::vector<std::unique_ptr<BlockStore>> opened;
  for (uint32_t rank = 0; rank < stores.world_size; ++rank) {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<BlockStore> store,
                            BlockStore::Open({.directories = stores.directories,
                                              .run_id = StoreIdOf(directory.run_id(), stores),
                                              .rank = rank},
                                             blocks, engine));
    opened.push_back(std::move(store));
  }
  return opened;
}

Status Release(BlockStore& store, uint64_t step) {
  const std::vector<tiering::Generation> generations = store.generations();
  for (const tiering::Generation& generation : generations) {
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    if (record.step == step && generation.pinned)
      STRATA_RETURN_IF_ERROR(store.Release(generation.number));
  }
  return OkStatus();
}

// The pins, then what is shown of them: a crash in between shows a checkpoint too many, which the
// next prune or resume takes away.
Status PruneRun(const std::string& path, const Infos& chosen) {
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  STRATA_ASSIGN_OR_RETURN(RunStores stores, LoadRunStores(directory));
  STRATA_ASSIGN_OR_RETURN(SavedRun run, OpenSavedRun(path, {}));
  STRATA_ASSIGN_OR_RETURN(
      std::vector<std::unique_ptr<BlockStore>> opened,
      OpenStores(directory, stores.current, run.state->layout(), run.engine.get()));
  for (const CheckpointInfo& info : chosen) {
    for (const std::unique_ptr<BlockStore>& store : opened)
      STRATA_RETURN_IF_ERROR(Release(*store, info.step));
    STRATA_RETURN_IF_ERROR(directory.RemoveCheckpoint(info.step));
  }
  return OkStatus();
}

Status PrunePortable(const Infos& chosen) {
  for (const CheckpointInfo& info : chosen)
    STRATA_RETURN_IF_ERROR(RemoveTensorDirectory(info.path));
  return OkStatus();
}

}  // namespace

Result<std::vector<CheckpointInfo>> PruneCheckpoints(const PruneOptions& options) {
  STRATA_CHECK(options.keep.has_value() != !options.steps.empty());
  STRATA_ASSIGN_OR_RETURN(Infos all, ListCheckpoints(options.path));
  const bool is_run = RunDirectory::HoldsRun(options.path);
  const std::optional<uint64_t> stays_from = is_run ? FirstStepToStay(all) : std::nullopt;
  if (is_run && !stays_from) {
    return FailedPrecondition(
        fmt::format("{} has no state that is complete here, so nothing of it is taken away: {}",
                    options.path, all.empty() ? "it never had one" : all.back().problem));
  }
  Infos chosen;
  if (options.keep) {
    chosen = OldestBut(all, *options.keep, stays_from);
  } else {
    STRATA_ASSIGN_OR_RETURN(chosen, OfSteps(all, options.steps, stays_from, options.path));
  }
  if (options.dry_run || chosen.empty()) return chosen;
  STRATA_RETURN_IF_ERROR(is_run ? PruneRun(options.path, chosen) : PrunePortable(chosen));
  return chosen;
}

}  // namespace strata::engine
