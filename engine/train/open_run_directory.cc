#include "engine/train/open_run_directory.h"

#include <string>
#include <utility>

#include "engine/train/ranks.h"
#include "engine/train/remove_run.h"
#include "engine/train/run_stores.h"

namespace strata::engine {
namespace {

using Start = SessionOptions::Start;

// Rank 0's directory knows where the run's blocks are, on all machines.
Status RemoveOld(const RunConfig& config, Communicator& communicator) {
  RunStores known;
  if (communicator.rank() == 0) known.leftovers = AllStoresOf(config);
  STRATA_ASSIGN_OR_RETURN(std::string text, FromRankZero(communicator, ToJson(known)));
  STRATA_ASSIGN_OR_RETURN(known, ParseRunStores(text));
  return OnEachMachine(communicator, [&] { return RemoveRun(config, known.leftovers); });
}

// The first rank's.
Result<OpenedRunDirectory> CreateOrOpen(const std::string& path, Start start) {
  const bool is_new = start != Start::kResume || !RunDirectory::HoldsRun(path);
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory,
                          is_new ? RunDirectory::Create(path) : RunDirectory::Open(path));
  return OpenedRunDirectory{std::move(directory), is_new};
}

}  // namespace

Result<OpenedRunDirectory> OpenRunDirectory(const RunConfig& config, Start start,
                                            Communicator& communicator) {
  const std::string& path = config.train.run_dir;
  if (start == Start::kOverwrite) STRATA_RETURN_IF_ERROR(RemoveOld(config, communicator));
  if (communicator.rank() == 0) {
    Result<OpenedRunDirectory> first = CreateOrOpen(path, start);
    STRATA_RETURN_IF_ERROR(AgreeOn(communicator, first.status()));
    STRATA_RETURN_IF_ERROR(OnAnyRank(communicator, first->is_new).status());
    STRATA_RETURN_IF_ERROR(FromRankZero(communicator, first->directory.run_id()).status());
    STRATA_RETURN_IF_ERROR(AgreeOn(communicator, OkStatus()));
    return first;
  }
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator, OkStatus()));
  STRATA_ASSIGN_OR_RETURN(const bool is_new, OnAnyRank(communicator, false));
  STRATA_ASSIGN_OR_RETURN(std::string run_id, FromRankZero(communicator, ""));
  Result<RunDirectory> directory = RunDirectory::OpenOrAdopt(path, run_id);
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator, directory.status()));
  return OpenedRunDirectory{std::move(directory).value(), is_new};
}

}  // namespace strata::engine
