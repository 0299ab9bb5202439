#include "engine/train/remove_run.h"

#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "tiering/block_store.h"

namespace strata::engine {

std::vector<StoreSet> AllStoresOf(const RunConfig& config) {
  std::vector<StoreSet> sets = {{.directories = StoreDirectoriesOf(config)}};
  Result<RunDirectory> directory = RunDirectory::Open(config.train.run_dir);
  if (!directory.ok()) return sets;
  Result<RunStores> stores = LoadRunStores(*directory);
  if (!stores.ok()) return sets;
  sets.push_back(stores->current);
  sets.insert(sets.end(), stores->leftovers.begin(), stores->leftovers.end());
  return sets;
}

Status RemoveStores(std::string_view run_id, const std::vector<StoreSet>& sets) {
  for (const StoreSet& set : sets) {
    STRATA_RETURN_IF_ERROR(tiering::BlockStore::RemoveAll(set.directories, StoreIdOf(run_id, set)));
  }
  return OkStatus();
}

Status RemoveRun(const RunConfig& config, const std::vector<StoreSet>& sets) {
  if (!RunDirectory::HoldsRun(config.train.run_dir)) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(config.train.run_dir));
  STRATA_RETURN_IF_ERROR(RemoveStores(directory.run_id(), sets));
  return directory.RemoveFiles();
}

}  // namespace strata::engine
