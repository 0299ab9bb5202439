#include "engine/train/move_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/log.h"
#include "engine/train/copy_state.h"
#include "engine/train/ranks.h"
#include "engine/train/saved_state.h"
#include "engine/train/state_store.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

// What is moved, and kept from other jobs meanwhile.
struct OldState {
  std::vector<tiering::StoreHold> holds;
  std::unique_ptr<SavedState> saved;
};

Result<std::unique_ptr<SavedState>> Open(const RunStateParts& parts, const StoreSet& set) {
  return SavedState::Open(
      parts.run->config,
      {.run_id = parts.directory->run_id(), .stores = set, .verify = parts.run->config.aio.verify},
      parts.engine);
}

// Whether there is one: killed before or in its first commit, a run has no configuration, and
// nothing to lose.
Result<bool> HasState(const RunStateParts& parts, const StoreSet& set) {
  Communicator& communicator = *parts.communicator;
  Status found = Open(parts, set).status();
  const bool is_missing = found.code() == Code::kNotFound;
  STRATA_ASSIGN_OR_RETURN(const bool had_state,
                          OnAnyRank(communicator, parts.directory->HasConfig()));
  if (is_missing && had_state) {
    found = FailedPrecondition(
        fmt::format("cannot resume: {}; to give the state up and start anew, use --overwrite",
                    found.message()));
  } else if (is_missing) {
    found = OkStatus();
  }
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator, found));
  STRATA_ASSIGN_OR_RETURN(const bool is_missing_anywhere, OnAnyRank(communicator, is_missing));
  return !is_missing_anywhere;
}

// None where the run never had a state.
Result<std::optional<OldState>> OpenOld(const RunStateParts& parts, const StoreSet& set) {
  STRATA_ASSIGN_OR_RETURN(const bool has_state, HasState(parts, set));
  if (!has_state) return std::optional<OldState>();
  OldState old;
  STRATA_ASSIGN_OR_RETURN(old.holds, HoldStores(parts, set));
  // Only now: nobody else commits any more.
  Result<std::unique_ptr<SavedState>> saved = Open(parts, set);
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, saved.status()));
  old.saved = std::move(saved).value();
  return std::optional(std::move(old));
}

std::string Describe(const RunStateParts& parts, const RunRecord& record) {
  const auto ranks = [](uint64_t world_size, uint64_t stage) {
    return world_size == 1 ? std::string("1 rank")
                           : fmt::format("{} ranks at stage {}", world_size, stage);
  };
  return fmt::format("from {} to {}", ranks(record.world_size, record.stage),
                     ranks(parts.run->config.train.world_size, parts.run->config.zero.stage));
}

// The checksums are those of the old ranks' blocks: each is looked at by one rank, before any is
// used.
Status CheckTogether(const RunStateParts& parts, SavedState& saved) {
  if (parts.run->config.aio.verify == tiering::Verify::kOff) return OkStatus();
  Communicator& communicator = *parts.communicator;
  STRATA_RETURN_IF_ERROR(AgreeOn(
      communicator, saved.Check(communicator.rank(), communicator.world_size(),
                                [&](uint64_t done, uint64_t total) {
                                  parts.observer->OnProgress("checking the state", done, total);
                                })));
  saved.MarkChecked();
  return OkStatus();
}

Status WriteStores(const RunStateParts& parts, const StoreSet& set, SavedState& saved,
                   RunState& state) {
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, CreateStateStore(parts, set, state))
                             .With("the old state stays until the new one is whole"));
  const std::string what = "resharding " + Describe(parts, saved.record());
  STRATA_RETURN_IF_ERROR(
      AgreeOn(*parts.communicator, CopyState(parts, saved, what, *state.access)));
  state.progress = saved.record().progress;
  return CommitCopiedState(parts, state.progress, state);
}

// The run is as it was.
Status Undo(const RunStateParts& parts, const RunStores& before, const StoreSet& set,
            RunState& state, const Status& failure) {
  const bool has_store = state.store != nullptr;
  state = {};
  Status undone;
  if (has_store) {
    undone = BlockStore::Remove(set.directories, StoreIdOf(parts.directory->run_id(), set),
                                parts.communicator->rank());
  }
  undone = AgreeOn(*parts.communicator, undone);
  if (undone.ok()) undone = SaveStoresOfRun(parts, before);
  return undone.ok() ? failure : failure.With("(and cleaning up: " + undone.message() + ")");
}

// That are not the state that was moved.
uint64_t NumCheckpoints(const RunStateParts& parts, const StoreSet& set, uint64_t moved_step) {
  Result<std::vector<tiering::Generation>> generations =
      BlockStore::List(set.directories, StoreIdOf(parts.directory->run_id(), set), 0);
  if (!generations.ok()) return 0;
  return static_cast<uint64_t>(std::ranges::count_if(*generations, [&](const auto& generation) {
    Result<RunRecord> record = ParseRunRecord(generation.metadata);
    return record.ok() && record->is_checkpoint && record->step != moved_step;
  }));
}

// What stays behind if this fails is on the list, and the next resume tries again.
void RemoveOld(const RunStateParts& parts, const RunStores& stores, const std::string& moved) {
  const bool is_first = parts.communicator->rank() == 0;
  if (is_first) Log(Severity::kInfo, "train", "{}", moved);
  Status removed = RemoveLeftovers(parts, stores);
  if (!removed.ok() && is_first)
    Log(Severity::kWarning, "train", "removing what the state was moved from: {}",
        removed.message());
}

}  // namespace

Result<std::optional<RunState>> MoveState(const RunStateParts& parts, RunStores stores) {
  STRATA_ASSIGN_OR_RETURN(std::optional<OldState> old, OpenOld(parts, stores.current));
  if (!old) return std::optional<RunState>();
  const RunRecord record = old->saved->record();
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, CheckMayGoOn(parts, record)));
  const StoreSet next = NextStores(parts, stores);
  STRATA_RETURN_IF_ERROR(RemoveLeftovers(parts, std::exchange(stores, {stores.current})));
  STRATA_RETURN_IF_ERROR(CheckTogether(parts, *old->saved));

  STRATA_RETURN_IF_ERROR(SaveStoresOfRun(parts, {stores.current, {next}}));
  RunState state;
  Status written = WriteStores(parts, next, *old->saved, state);
  if (!written.ok()) {
    return Undo(parts, stores, next, state, written)
        .With(fmt::format("moving the state of step {} {}", record.step, Describe(parts, record)));
  }
  // Should this fail, either list is there, and each knows of both.
  STRATA_RETURN_IF_ERROR(SaveStoresOfRun(parts, {next, {stores.current}}));

  const std::string moved =
      fmt::format("moved the state of step {} {}; {} older checkpoints are not kept", record.step,
                  Describe(parts, record), NumCheckpoints(parts, stores.current, record.step));
  old.reset();
  // Until all have let go of the old stores.
  STRATA_RETURN_IF_ERROR(AgreeOn(*parts.communicator, OkStatus()));
  RemoveOld(parts, {next, {stores.current}}, moved);
  return std::optional(std::move(state));
}

}  // namespace strata::engine
