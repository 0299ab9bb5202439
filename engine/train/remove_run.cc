#include "engine/train/run_directory.h"
#include "engine/train/session.h"
#include "tiering/block_store.h"

namespace strata::engine {

Status RemoveRun(const RunConfig& config) {
  const std::string& path = config.train.run_dir;
  if (!RunDirectory::HoldsRun(path)) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  STRATA_RETURN_IF_ERROR(
      tiering::BlockStore::Remove(StoreDirectoriesOf(config), directory.run_id(), /*rank=*/0));
  return directory.RemoveFiles();
}

}  // namespace strata::engine
