#include "engine/train/checkpoint_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "engine/checkpoint/tensor_directory.h"
#include "engine/train/portable_checkpoint.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_stores.h"
#include "engine/train/saved_state.h"
#include "tiering/block_store.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

std::optional<std::chrono::sys_seconds> ModifiedAt(const std::string& path) {
  std::error_code error;
  const fs::file_time_type time = fs::last_write_time(path, error);
  if (error) return std::nullopt;
  return std::chrono::floor<std::chrono::seconds>(std::chrono::file_clock::to_sys(time));
}

// What is known of one step of a run.
struct Step {
  RunRecord record;
  bool is_kept = false;              // by any rank
  std::vector<uint64_t> ranks = {};  // that have it
};

struct RunSteps {
  std::map<uint64_t, Step> steps;
  std::vector<uint64_t> ranks_not_seen;
};

Result<RunSteps> StepsOf(const RunDirectory& directory, const StoreSet& stores) {
  RunSteps found;
  for (uint64_t rank = 0; rank < stores.world_size; ++rank) {
    Result<std::vector<tiering::Generation>> generations = tiering::BlockStore::List(
        stores.directories, StoreIdOf(directory.run_id(), stores), static_cast<uint32_t>(rank));
    if (generations.status().code() == Code::kNotFound) {
      found.ranks_not_seen.push_back(rank);
      continue;
    }
    STRATA_RETURN_IF_ERROR(generations.status());
    for (const tiering::Generation& generation : *generations) {
      STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
      Step& step = found.steps[record.step];
      step.is_kept |= generation.pinned && record.is_checkpoint;
      step.record = std::move(record);
      step.ranks.push_back(rank);
    }
  }
  return found;
}

std::string ProblemOf(const RunSteps& found, const Step& step, const StoreSet& stores) {
  if (step.ranks.size() == stores.world_size) return {};
  if (!found.ranks_not_seen.empty()) {
    return fmt::format("nothing is to be seen here of rank {}: look for rank-{}.manifest-* in {}",
                       fmt::join(found.ranks_not_seen, ", "), found.ranks_not_seen.front(),
                       fmt::join(stores.directories, ", "));
  }
  return fmt::format("only ranks {} of {} have it", fmt::join(step.ranks, ", "), stores.world_size);
}

CheckpointInfo InfoOf(const RunDirectory& directory, const RunConfig& config, const Step& step) {
  const StateLayout layout = SavedLayoutOf(config, step.record);
  return {.kind = step.is_kept ? CheckpointKind::kKept : CheckpointKind::kCommitted,
          .step = step.record.step,
          .path = directory.path(),
          .ranks = step.ranks.size(),
          .size_bytes = layout.size_bytes() * step.ranks.size(),
          .made_at = ModifiedAt(directory.CheckpointManifestPath(step.record.step)),
          .record = step.record};
}

// That checkpoints/ shows, and no rank has.
CheckpointInfo Vanished(const RunDirectory& directory, uint64_t step) {
  return {.kind = CheckpointKind::kKept,
          .step = step,
          .path = directory.path(),
          .made_at = ModifiedAt(directory.CheckpointManifestPath(step)),
          .problem = fmt::format("{} says that it is kept, but no rank has it",
                                 directory.CheckpointManifestPath(step))};
}

Result<std::vector<CheckpointInfo>> ListRun(const std::string& path) {
  STRATA_ASSIGN_OR_RETURN(RunDirectory directory, RunDirectory::Open(path));
  if (!directory.HasConfig()) return std::vector<CheckpointInfo>();  // it never had a state
  STRATA_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(directory.ConfigPath()));
  STRATA_ASSIGN_OR_RETURN(RunStores stores, LoadRunStores(directory));
  STRATA_ASSIGN_OR_RETURN(RunSteps found, StepsOf(directory, stores.current));
  if (found.steps.empty()) {
    return NotFound(
        fmt::format("{} is a run, but no committed state of it is to be seen in {}: is "
                    "a drive not mounted?",
                    path, fmt::join(stores.current.directories, ", ")));
  }
  STRATA_ASSIGN_OR_RETURN(std::set<uint64_t> shown, directory.CheckpointSteps());
  std::vector<CheckpointInfo> infos;
  for (const auto& [number, step] : found.steps) {
    infos.push_back(InfoOf(directory, config, step));
    infos.back().problem = ProblemOf(found, step, stores.current);
    shown.erase(number);
  }
  for (uint64_t step : shown) infos.push_back(Vanished(directory, step));
  return infos;
}

CheckpointInfo InfoOfPortable(const std::string& path) {
  CheckpointInfo info{.kind = CheckpointKind::kPortable,
                      .path = path,
                      .made_at = ModifiedAt(path + "/manifest.json")};
  Result<PortableRecord> portable = ReadPortableRecord(path);
  if (!portable.ok()) {
    info.problem = portable.status().message();
    return info;
  }
  info.step = portable->record.step;
  info.ranks = portable->ranks;
  info.size_bytes = portable->size_bytes;
  info.record = std::move(portable->record);
  info.problem = portable->problem;
  return info;
}

Result<std::vector<CheckpointInfo>> ListDirectory(const std::string& path) {
  std::vector<CheckpointInfo> infos;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    // One that is being written, or whose writer was killed.
    if (name.find(".partial-") != std::string::npos) continue;
    if (HoldsTensorDirectory(entry.path())) infos.push_back(InfoOfPortable(entry.path()));
  }
  if (error) return ErrnoStatus(error.value(), "list " + path);
  if (!infos.empty()) return infos;
  return NotFound(fmt::format(
      "{} holds neither a run (run_id), nor a portable checkpoint (manifest.json), nor "
      "directories of such: name a run's directory, or where 'strata checkpoint export' "
      "wrote to",
      path));
}

}  // namespace

std::string_view CheckpointKindName(CheckpointKind kind) {
  return kind == CheckpointKind::kKept        ? "kept"
         : kind == CheckpointKind::kCommitted ? "committed"
                                              : "portable";
}

Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& path) {
  Result<std::vector<CheckpointInfo>> infos = std::vector<CheckpointInfo>();
  if (RunDirectory::HoldsRun(path))
    infos = ListRun(path);
  else if (HoldsTensorDirectory(path))
    infos = std::vector<CheckpointInfo>{InfoOfPortable(path)};
  else
    infos = ListDirectory(path);
  if (infos.ok()) {
    std::ranges::sort(*infos, {},
                      [](const CheckpointInfo& info) { return std::pair(info.step, info.path); });
  }
  return infos;
}

}  // namespace strata::engine
