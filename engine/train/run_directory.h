// A run's directory: what is written where (DESIGN.md §9).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata::engine {

// Thread-compatible.
class RunDirectory {
 public:
  // Makes the directory. kAlreadyExists when it holds a run already.
  static Result<RunDirectory> Create(const std::string& path);
  // kNotFound when there is no run in it.
  static Result<RunDirectory> Open(const std::string& path);
  // For the other ranks of a run that rank 0 has opened: that directory, or on a machine that does
  // not see it one of its own. kFailedPrecondition when another run is there.
  static Result<RunDirectory> OpenOrAdopt(const std::string& path, const std::string& run_id);
  static bool HoldsRun(const std::string& path);
  // kAlreadyExists, with what to do, when the directory holds a run.
  static Status CheckFree(const std::string& path);

  const std::string& path() const { return path_; }
  // Names the run's files on nvme; the same for the run's whole life.
  const std::string& run_id() const { return run_id_; }

  // The resolved configuration; there once the run has its first state.
  std::string ConfigPath() const { return path_ + "/config.toml"; }
  bool HasConfig() const;
  // Which block stores are the run's (run_stores.h).
  std::string StoresPath() const { return path_ + "/stores.json"; }
  Status WriteConfig(std::string_view toml) const;
  Status WritePlan(std::string_view json) const;
  Status WriteTrace(std::string_view chrome_trace_json) const;
  // One JSON object, one line.
  Status AppendMetrics(std::string_view json_line) const;
  // After a resume: forgets the lines of steps > `step`, which will be made again.
  Status TruncateMetrics(uint64_t step) const;
  // checkpoints/step-000100/manifest.json
  Status WriteCheckpoint(uint64_t step, std::string_view json) const;
  std::string CheckpointManifestPath(uint64_t step) const;
  Status RemoveCheckpoint(uint64_t step) const;
  Result<std::set<uint64_t>> CheckpointSteps() const;
  // What a run writes here, run_id last: until then it is a run. Anything else is not ours.
  Status RemoveFiles() const;

 private:
  RunDirectory(std::string path, std::string run_id)
      : path_(std::move(path)), run_id_(std::move(run_id)) {}
  std::string CheckpointPath(uint64_t step) const;

  std::string path_;
  std::string run_id_;
};

}  // namespace strata::engine
