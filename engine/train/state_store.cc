#include "engine/train/state_store.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "engine/train/ranks.h"
#include "engine/train/remove_run.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

tiering::BlockStoreOptions StoreOptions(const RunStateParts& parts, const StoreSet& set) {
  tiering::BlockStoreOptions options;
  options.directories = set.directories;
  options.run_id = StoreIdOf(parts.directory->run_id(), set);
  options.rank = parts.communicator->rank();
  options.num_generations = parts.run->num_generations;
  options.verify = parts.run->config.aio.verify;
  options.on_initialise = [observer = parts.observer, where = options.directories.front()](
                              uint64_t done, uint64_t total) {
    observer->OnProgress("initialising " + where, done, total);
  };
  return options;
}

// A path inside the run's own directory is ours to make. Any other must be there: a drive that is
// not mounted is an error, not a folder on the root file system.
Status MakeOwnStoreDirectories(const PlannedRun& run) {
  for (const std::string& directory : run.store_directories) {
    if (!directory.starts_with(run.config.train.run_dir + "/")) continue;
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return ErrnoStatus(error.value(), "create " + directory);
  }
  return OkStatus();
}

Status GiveAccess(const RunStateParts& parts, std::unique_ptr<BlockStore> store, RunState& state) {
  state.store = std::move(store);
  state.access = std::make_unique<StateAccess>(StateAccessParts{
      &parts.run->layout, &parts.run->plan, parts.device, parts.host, state.store.get()});
  // No plan is primed yet: everything above the homes is free.
  state.access->SetStaging(state.access->FreeHostMemory());
  STRATA_ASSIGN_OR_RETURN(
      state.behind,
      WriteBehind::Create(parts.run->layout, parts.run->program.trace, *state.access));
  return OkStatus();
}

}  // namespace

Status CreateStateStore(const RunStateParts& parts, const StoreSet& set, RunState& state) {
  STRATA_RETURN_IF_ERROR(MakeOwnStoreDirectories(*parts.run));
  STRATA_ASSIGN_OR_RETURN(
      std::unique_ptr<BlockStore> store,
      BlockStore::Create(StoreOptions(parts, set), parts.run->store_blocks, parts.engine));
  return GiveAccess(parts, std::move(store), state);
}

Status OpenStateStore(const RunStateParts& parts, const StoreSet& set, uint64_t generation,
                      RunState& state) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<BlockStore> store,
                          BlockStore::Open(StoreOptions(parts, set), parts.run->store_blocks,
                                           parts.engine, generation));
  return GiveAccess(parts, std::move(store), state);
}

Status CheckMayGoOn(const RunStateParts& parts, const RunRecord& record) {
  return CheckResumable(record,
                        MakeRunRecord(parts.run->config, parts.data_fingerprint, record.progress));
}

Result<std::optional<RunStores>> StoresOfRun(const RunStateParts& parts) {
  Communicator& communicator = *parts.communicator;
  std::string text;
  Status status;
  if (communicator.rank() == 0) {
    Result<RunStores> stores = LoadRunStores(*parts.directory);
    if (stores.ok()) text = ToJson(*stores);
    if (stores.status().code() != Code::kNotFound) status = stores.status();
  }
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator, status));
  STRATA_ASSIGN_OR_RETURN(text, FromRankZero(communicator, text));
  if (text.empty()) return std::optional<RunStores>();
  STRATA_ASSIGN_OR_RETURN(RunStores stores, ParseRunStores(text));
  return std::optional(std::move(stores));
}

Status SaveStoresOfRun(const RunStateParts& parts, const RunStores& stores) {
  const bool is_first = parts.communicator->rank() == 0;
  return AgreeOn(*parts.communicator,
                 is_first ? SaveRunStores(*parts.directory, stores) : OkStatus());
}

StoreSet NextStores(const RunStateParts& parts, const std::optional<RunStores>& stores) {
  StoreSet next{.number = 1,
                .world_size = parts.run->config.train.world_size,
                .directories = parts.run->store_directories};
  if (!stores) return next;
  next.number = stores->current.number + 1;
  for (const StoreSet& set : stores->leftovers) next.number = std::max(next.number, set.number + 1);
  return next;
}

Result<std::vector<tiering::StoreHold>> HoldStores(const RunStateParts& parts,
                                                   const StoreSet& set) {
  const uint32_t world_size = parts.communicator->world_size();
  std::vector<tiering::StoreHold> holds;
  Status status;
  for (auto rank = parts.communicator->rank(); rank < set.world_size && status.ok();
       rank += world_size) {
    Result<tiering::StoreHold> hold = tiering::StoreHold::Acquire(
        set.directories, StoreIdOf(parts.directory->run_id(), set), rank);
    status = hold.status();
    if (hold.ok()) holds.push_back(std::move(hold).value());
  }
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, status));
  return holds;
}

Status RemoveLeftovers(const RunStateParts& parts, RunStores stores) {
  if (stores.leftovers.empty()) return OkStatus();
  STRATA_RETURN_IF_ERROR(OnEachMachine(*parts.communicator, [&] {
    return RemoveStores(parts.directory->run_id(), stores.leftovers);
  }));
  stores.leftovers.clear();
  return SaveStoresOfRun(parts, stores);
}

}  // namespace strata::engine
