#include "engine/train/run_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/kernels/thread_pool.h"
#include "engine/train/checkpointer.h"
#include "engine/train/initial_state.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

tiering::BlockStoreOptions StoreOptions(const RunStateParts& parts) {
  tiering::BlockStoreOptions options;
  options.directories = parts.run->store_directories;
  options.run_id = parts.directory->run_id();
  options.rank = parts.rank;
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

Status CheckStoreIsWhereItWas(const RunStateParts& parts, const RunConfig& saved) {
  std::vector<std::string> before = StoreDirectoriesOf(saved);
  const std::vector<std::string>& now = parts.run->store_directories;
  if (before == now) return OkStatus();
  return FailedPrecondition(
      fmt::format("cannot resume: the run's state is in {}, this configuration looks in {}; set "
                  "nvme_path back (it may stand beside device = \"cpu\", too)",
                  fmt::join(before, ", "), fmt::join(now, ", ")));
}

// What the newest generation says, before anything is opened for writing.
Result<RunRecord> NewestRecord(const RunStateParts& parts) {
  Result<std::vector<tiering::Generation>> generations =
      BlockStore::List(parts.run->store_directories, parts.directory->run_id(), parts.rank);
  if (generations.ok() && !generations->empty())
    return ParseRunRecord(generations->back().metadata);
  if (!generations.ok() && generations.status().code() != Code::kNotFound) {
    return generations.status();
  }
  return FailedPrecondition(fmt::format(
      "{} is a run with committed state, but no valid generation was found in {}: is a drive not "
      "mounted? To give the state up and start anew, use --overwrite",
      parts.directory->path(), fmt::join(parts.run->store_directories, ", ")));
}

}  // namespace

Result<std::optional<RunState>> OpenRunState(const RunStateParts& parts) {
  if (!parts.directory->HasConfig()) {
    // Killed before or in its first commit: there may be a first state all the same.
    Result<std::vector<tiering::Generation>> found =
        BlockStore::List(parts.run->store_directories, parts.directory->run_id(), parts.rank);
    if (!found.ok() || found->empty()) return std::optional<RunState>();
  } else {
    STRATA_ASSIGN_OR_RETURN(RunConfig saved, LoadRunConfig(parts.directory->ConfigPath()));
    STRATA_RETURN_IF_ERROR(CheckStoreIsWhereItWas(parts, saved));
  }
  STRATA_ASSIGN_OR_RETURN(RunRecord record, NewestRecord(parts));
  STRATA_RETURN_IF_ERROR(CheckResumable(
      record, MakeRunRecord(parts.run->config, parts.data_fingerprint, record.progress)));
  STRATA_ASSIGN_OR_RETURN(
      std::unique_ptr<BlockStore> store,
      BlockStore::Open(StoreOptions(parts), parts.run->store_blocks, parts.engine));
  RunState state;
  STRATA_RETURN_IF_ERROR(GiveAccess(parts, std::move(store), state));
  state.progress = record.progress;
  STRATA_RETURN_IF_ERROR(state.access->LoadMemoryHomes());
  return std::optional<RunState>(std::move(state));
}

namespace {

Status WriteFirstState(const RunStateParts& parts, WeightSource& weights, ThreadPool& pool,
                       RunState& state) {
  STRATA_RETURN_IF_ERROR(WriteInitialState(parts.run->layout, parts.rank, weights, *state.access,
                                           pool, [&](uint64_t done, uint64_t total) {
                                             parts.observer->OnProgress("writing the first state",
                                                                        done, total);
                                           }));
  RunRecord record =
      MakeRunRecord(parts.run->config, parts.data_fingerprint, FirstProgress(parts.run->config));
  return Checkpointer(parts.run->config, parts.run->commits_every_step, {}, *parts.directory,
                      *state.store, *state.behind)
      .AfterStep(record, Checkpointer::Force::kYes);
}

}  // namespace

Result<RunState> CreateRunState(const RunStateParts& parts, WeightSource& weights) {
  STRATA_ASSIGN_OR_RETURN(ThreadPool pool, ThreadPool::Create(parts.run->threads));
  STRATA_RETURN_IF_ERROR(MakeOwnStoreDirectories(*parts.run));
  STRATA_ASSIGN_OR_RETURN(
      std::unique_ptr<BlockStore> store,
      BlockStore::Create(StoreOptions(parts), parts.run->store_blocks, parts.engine));
  RunState state;
  Status written = GiveAccess(parts, std::move(store), state);
  if (written.ok()) written = WriteFirstState(parts, weights, pool, state);
  state.progress = FirstProgress(parts.run->config);
  if (written.ok()) return state;
  state = {};
  Status removed =
      BlockStore::Remove(parts.run->store_directories, parts.directory->run_id(), parts.rank);
  return removed.ok() ? written : written.With("(and cleaning up: " + removed.message() + ")");
}

}  // namespace strata::engine
