#include "engine/train/run_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/kernels/thread_pool.h"
#include "engine/train/checkpointer.h"
#include "engine/train/copy_state.h"
#include "engine/train/initial_state.h"
#include "engine/train/move_state.h"
#include "engine/train/ranks.h"
#include "engine/train/run_stores.h"
#include "engine/train/state_store.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

// A generation of this rank's store.
struct Committed {
  uint64_t number = 0;
  RunRecord record;
  bool is_newest = false;  // of this rank's
};

// Valid ones, oldest first; none where there is no store.
Result<std::vector<Committed>> CommittedOf(const RunStateParts& parts, const StoreSet& set) {
  Result<std::vector<tiering::Generation>> generations = BlockStore::List(
      set.directories, StoreIdOf(parts.directory->run_id(), set), parts.communicator->rank());
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
Result<std::optional<Committed>> NewestOfAllRanks(const RunStateParts& parts, const StoreSet& set) {
  Result<std::vector<Committed>> mine = CommittedOf(parts, set);
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

Result<RunState> OpenAt(const RunStateParts& parts, const StoreSet& set,
                        const Committed& committed) {
  RunState state;
  STRATA_RETURN_IF_ERROR(OpenStateStore(parts, set, committed.number, state));
  // The later ones that other ranks do not have end with the next commit, and so does the hold they
  // have on space: it is this one.
  if (!committed.is_newest)
    STRATA_RETURN_IF_ERROR(state.store->Commit(ToJson(committed.record), /*pin=*/true).status());
  state.progress = committed.record.progress;
  STRATA_RETURN_IF_ERROR(state.access->LoadMemoryHomes());
  return state;
}

// Whether the ranks that wrote it have what this job's ranks would have.
bool HasSameBlocks(const RunStateParts& parts, const RunRecord& record) {
  const LayoutOptions& now = parts.run->layout.options;
  const LayoutOptions before{.world_size = static_cast<uint32_t>(record.world_size),
                             .stage = static_cast<uint32_t>(record.stage)};
  return before.shards_weights() == now.shards_weights() &&
         before.shards_optimizer() == now.shards_optimizer();
}

// Of stores that are where this job's would be, one for each of its ranks.
Result<std::optional<RunState>> OpenInPlace(const RunStateParts& parts, const RunStores& stores) {
  STRATA_ASSIGN_OR_RETURN(std::optional<Committed> newest, NewestOfAllRanks(parts, stores.current));
  if (!newest) return std::optional<RunState>();
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, CheckMayGoOn(parts, newest->record)));
  if (!HasSameBlocks(parts, newest->record)) return MoveState(parts, stores);
  if (!stores.leftovers.empty()) {
    STRATA_ASSIGN_OR_RETURN(auto holds, HoldStores(parts, stores.current));
    STRATA_RETURN_IF_ERROR(RemoveLeftovers(parts, stores));
  }
  Result<RunState> state = OpenAt(parts, stores.current, *newest);
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, state.status()));
  return std::optional<RunState>(std::move(state).value());
}

}  // namespace

Result<std::optional<RunState>> OpenRunState(const RunStateParts& parts) {
  STRATA_ASSIGN_OR_RETURN(std::optional<RunStores> stores, StoresOfRun(parts));
  if (!stores) stores = RunStores{.current = NextStores(parts, {})};  // where they would be
  const bool is_in_place = stores->current.world_size == parts.communicator->world_size() &&
                           stores->current.directories == parts.run->store_directories;
  return is_in_place ? OpenInPlace(parts, *stores) : MoveState(parts, *stores);
}

namespace {

Status WriteFirstState(const RunStateParts& parts, WeightSource& weights, RunState& state) {
  Result<ThreadPool> pool = ThreadPool::Create(parts.run->threads);
  Status written = pool.status();
  if (pool.ok()) {
    written =
        WriteInitialState(parts.run->layout, parts.communicator->rank(), weights, *state.access,
                          *pool, [&](uint64_t done, uint64_t total) {
                            parts.observer->OnProgress("writing the first state", done, total);
                          });
  }
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, written));
  state.progress = FirstProgress(parts.run->config);
  RunRecord record = MakeRunRecord(parts.run->config, parts.data_fingerprint, state.progress);
  return Checkpointer(parts.run->config, parts.run->commits_every_step, {}, *parts.directory,
                      *state.store, *state.behind, *parts.communicator)
      .AfterStep(record, Checkpointer::Force::kYes);
}

Status CopyFirstState(const RunStateParts& parts, SavedState& saved, RunState& state) {
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator,
                                 CopyState(parts, saved, "copying the checkpoint", *state.access)));
  state.progress = saved.record().progress;
  return CommitCopiedState(parts, state.progress, state);
}

// Whatever stands there has no state: the run was killed before, or is new.
Result<StoreSet> MakeRoom(const RunStateParts& parts) {
  STRATA_ASSIGN_OR_RETURN(std::optional<RunStores> before, StoresOfRun(parts));
  RunStores stores{.current = NextStores(parts, before)};
  if (before) {
    stores.leftovers = std::move(before->leftovers);
    stores.leftovers.push_back(std::move(before->current));
  }
  STRATA_RETURN_IF_ERROR(SaveStoresOfRun(parts, stores));
  STRATA_RETURN_IF_ERROR(RemoveLeftovers(parts, stores));
  return stores.current;
}

}  // namespace

Result<RunState> CreateRunState(const RunStateParts& parts, const FirstState& first) {
  STRATA_ASSIGN_OR_RETURN(StoreSet set, MakeRoom(parts));
  RunState state;
  Status status = CreateStateStore(parts, set, state);
  const bool has_store = state.store != nullptr;
  status = AgreeOn(*parts.communicator, status);
  if (status.ok()) {
    status = first.saved != nullptr ? CopyFirstState(parts, *first.saved, state)
                                    : WriteFirstState(parts, *first.weights, state);
  }
  if (status.ok()) return state;
  state = {};
  if (!has_store) return status;
  Status removed = BlockStore::Remove(set.directories, StoreIdOf(parts.directory->run_id(), set),
                                      parts.communicator->rank());
  return removed.ok() ? status : status.With("(and cleaning up: " + removed.message() + ")");
}

}  // namespace strata::engine
