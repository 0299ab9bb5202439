#include "engine/train/run_directory.h"
#include "engine/train/session.h"
#include "tiering/block_store.h"

namespace strata::engine {

using tiering::BlockStore;

Status RemoveBlocksOf(const RunConfig& config, uint32_t rank) {
  const std::string& path = config.train.run_dir;
  if (!RunDirectory::HoldsRun(path)) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  // Where the run says that its blocks are, and where it would be looked for now.
  Result<RunConfig> saved = LoadRunConfig(directory.ConfigPath());
  if (saved.ok()) {
    STRATA_RETURN_IF_ERROR(
        BlockStore::Remove(StoreDirectoriesOf(*saved), directory.run_id(), rank));
  }
  return BlockStore::Remove(StoreDirectoriesOf(config), directory.run_id(), rank);
}

Status RemoveRun(const RunConfig& config) {
  const std::string& path = config.train.run_dir;
  if (!RunDirectory::HoldsRun(path)) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  // Of as many ranks as it had, whatever this job has.
  Result<RunConfig> saved = LoadRunConfig(directory.ConfigPath());
  const uint64_t ranks = saved.ok() ? saved->train.world_size : 1;
  for (uint32_t rank = 0; rank < ranks; ++rank)
    STRATA_RETURN_IF_ERROR(RemoveBlocksOf(config, rank));
  return directory.RemoveFiles();
}

}  // namespace strata::engine
