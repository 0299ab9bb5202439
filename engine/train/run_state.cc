#include "engine/train/run_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/kernels/thread_pool.h"
#include "engine/train/checkpointer.h"
#include "engine/train/initial_state.h"
#include "engine/train/ranks.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

tiering::BlockStoreOptions StoreOptions(const RunStateParts& parts) {
  tiering::BlockStoreOptions options;
  options.directories = parts.run->store_directories;
  options.run_id = parts.directory->run_id();
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

// Before its blocks are looked for: with other ranks some are not found, or not missed.
Status CheckSameRanks(const RunStateParts& parts, const RunConfig& saved) {
  const uint64_t before = saved.train.world_size;
  const uint64_t now = parts.run->config.train.world_size;
  if (before == now) return OkStatus();
  return FailedPrecondition(
      fmt::format("cannot resume: the run has world_size = {}, and this job has {} ranks; start {} "
                  "of them, or a new run with another [train] run_dir",
                  before, now, before));
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

// A generation of this rank's store.
struct Committed {
  uint64_t number = 0;
  RunRecord record;
  bool is_newest = false;  // of this rank's
};

// Valid ones, oldest first; none where there is no store.
Result<std::vector<Committed>> CommittedOf(const RunStateParts& parts) {
  Result<std::vector<tiering::Generation>> generations = BlockStore::List(
      parts.run->store_directories, parts.directory->run_id(), parts.communicator->rank());
  if (!generations.ok() && generations.status().code() != Code::kNotFound)
    return generations.status();
  std::vector<Committed> all;
  if (!generations.ok()) return all;
  for (const tiering::Generation& generation : *generations) {
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    all.push_back({generation.number, std::move(record)});
  }
  if (!all.empty()) all.back().is_newest = true;
  return all;
}

Status NothingFound(const RunStateParts& parts, const std::string& what) {
  return FailedPrecondition(fmt::format(
      "{} is a run with committed state, but {} was found in {}: is a drive not mounted? To give "
      "the state up and start anew, use --overwrite",
      parts.directory->path(), what, fmt::join(parts.run->store_directories, ", ")));
}

// A commit is valid once every rank has it, so a rank that has a later one forgets it.
Result<std::optional<Committed>> NewestOfAllRanks(const RunStateParts& parts) {
  Result<std::vector<Committed>> mine = CommittedOf(parts);
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, mine.status()));
  std::vector<uint64_t> steps;
  for (const Committed& one : *mine) steps.push_back(one.record.step);
  STRATA_ASSIGN_OR_RETURN(std::vector<std::vector<uint64_t>> of_ranks,
                          FromAllRanks(*parts.communicator, steps));
  bool any_has_one = false;
  for (const std::vector<uint64_t>& of_rank : of_ranks) any_has_one |= !of_rank.empty();
  for (size_t i = mine->size(); i-- > 0;) {
    const bool all_have_it = std::ranges::all_of(of_ranks, [&](const auto& of_rank) {
      return std::ranges::find(of_rank, steps[i]) != of_rank.end();
    });
    if (all_have_it) return std::optional<Committed>((*mine)[i]);
  }
  // Killed before or in its first commit, a run has no configuration, and nothing to lose.
  STRATA_ASSIGN_OR_RETURN(const bool had_state,
                          OnAnyRank(*parts.communicator, parts.directory->HasConfig()));
  if (!had_state) return std::optional<Committed>();
  for (size_t rank = 0; any_has_one && rank < of_ranks.size(); ++rank) {
    if (of_ranks[rank].empty())
      return NothingFound(parts, fmt::format("no valid generation of rank {}", rank));
  }
  return NothingFound(parts,
                      any_has_one ? "no generation that all ranks have" : "no valid generation");
}

Status CheckMayGoOn(const RunStateParts& parts, const RunRecord& record) {
  return CheckResumable(record,
                        MakeRunRecord(parts.run->config, parts.data_fingerprint, record.progress));
}

Result<RunState> OpenAt(const RunStateParts& parts, const Committed& committed) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<BlockStore> store,
                          BlockStore::Open(StoreOptions(parts), parts.run->store_blocks,
                                           parts.engine, committed.number));
  // The later ones that other ranks do not have end with the next commit, and so does the hold they
  // have on space: it is this one.
  if (!committed.is_newest)
    STRATA_RETURN_IF_ERROR(store->Commit(ToJson(committed.record), /*pin=*/true).status());
  RunState state;
  STRATA_RETURN_IF_ERROR(GiveAccess(parts, std::move(store), state));
  state.progress = committed.record.progress;
  STRATA_RETURN_IF_ERROR(state.access->LoadMemoryHomes());
  return state;
}

Status CheckStoreIsWhereItWas(const RunStateParts& parts) {
  if (!parts.directory->HasConfig()) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(RunConfig saved, LoadRunConfig(parts.directory->ConfigPath()));
  STRATA_RETURN_IF_ERROR(CheckSameRanks(parts, saved));
  return CheckStoreIsWhereItWas(parts, saved);
}

}  // namespace

Result<std::optional<RunState>> OpenRunState(const RunStateParts& parts) {
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, CheckStoreIsWhereItWas(parts)));
  STRATA_ASSIGN_OR_RETURN(std::optional<Committed> newest, NewestOfAllRanks(parts));
  if (!newest) return std::optional<RunState>();
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, CheckMayGoOn(parts, newest->record)));
  Result<RunState> state = OpenAt(parts, *newest);
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, state.status()));
  return std::optional<RunState>(std::move(state).value());
}

namespace {

Status WriteFirstState(const RunStateParts& parts, WeightSource& weights, ThreadPool& pool,
                       RunState& state) {
  Status written =
      WriteInitialState(parts.run->layout, parts.communicator->rank(), weights, *state.access, pool,
                        [&](uint64_t done, uint64_t total) {
                          parts.observer->OnProgress("writing the first state", done, total);
                        });
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, written));
  RunRecord record =
      MakeRunRecord(parts.run->config, parts.data_fingerprint, FirstProgress(parts.run->config));
  return Checkpointer(parts.run->config, parts.run->commits_every_step, {}, *parts.directory,
                      *state.store, *state.behind, *parts.communicator)
      .AfterStep(record, Checkpointer::Force::kYes);
}

// Until the first state is written, which all ranks do together.
Status PrepareStore(const RunStateParts& parts, RunState& state) {
  STRATA_RETURN_IF_ERROR(MakeOwnStoreDirectories(*parts.run));
  STRATA_ASSIGN_OR_RETURN(
      std::unique_ptr<BlockStore> store,
      BlockStore::Create(StoreOptions(parts), parts.run->store_blocks, parts.engine));
  Status status = GiveAccess(parts, std::move(store), state);
  return status;
}

}  // namespace

Result<RunState> CreateRunState(const RunStateParts& parts, WeightSource& weights) {
  Result<ThreadPool> pool = ThreadPool::Create(parts.run->threads);
  RunState state;
  Status status = pool.ok() ? PrepareStore(parts, state) : pool.status();
  const bool has_store = state.store != nullptr;
  status = AgreeOn(*parts.communicator, status);
  if (status.ok()) status = WriteFirstState(parts, weights, *pool, state);
  state.progress = FirstProgress(parts.run->config);
  if (status.ok()) return state;
  state = {};
  if (!has_store) return status;
  Status removed = BlockStore::Remove(parts.run->store_directories, parts.directory->run_id(),
                                      parts.communicator->rank());
  return removed.ok() ? status : status.With("(and cleaning up: " + removed.message() + ")");
}

}  // namespace strata::engine
