// One run of training on this rank: from a configuration to the last step.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/comm/communicator.h"
#include "engine/config/run_config.h"
#include "engine/train/planning.h"
#include "engine/train/step_driver.h"
#include "engine/train/step_report.h"

namespace strata::engine {

// Told what goes on; called on the thread that runs the session.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  // Long work before the first step: "reading text", "initialising /nvme", "writing weights".
  virtual void OnProgress(const std::string& what, uint64_t done_bytes, uint64_t total_bytes) = 0;
  virtual void OnPlanned(const PlannedRun& run) = 0;
  virtual void OnStarted(uint64_t first_step, const std::string& where_from) = 0;
  virtual void OnStep(const StepReport& report) = 0;
};

struct SessionOptions {
  enum class Start : uint8_t {
    kNew,        // kAlreadyExists when run_dir holds a run
    kResume,     // go on from the newest committed state; from the beginning when there is none
    kOverwrite,  // remove the run in run_dir and its blocks on nvme, then start anew
  };
  Start start = Start::kNew;
  // A portable checkpoint: a run that begins anew begins with its state, at its step, where it
  // stood in the data. Empty: with random weights, or those that [model] names.
  std::string from = {};
  // Measure this machine's rates before planning, instead of taking [hardware] or the defaults.
  bool measure = false;
  // What makes the engine of the run's I/O. Another one may stand in, with drives of its own.
  std::function<Result<std::unique_ptr<aio::IoEngine>>(const aio::IoEngineOptions&)> create_engine =
      aio::IoEngine::Create;
  // This rank's place among the job's; outlives the session. Null: the environment says it.
  Communicator* communicator = nullptr;
  // Called on a thread of its own, once at most, when nothing of this rank has got on for [train]
  // stall_timeout_s; the other ranks know by then. What hangs may never end, and the session not
  // either: end the process, without destroying anything. Null: nobody watches.
  std::function<void(const Status&)> on_stall = {};
};

struct SessionSummary {
  uint64_t steps_done = 0;
  bool stopped = false;       // by the caller's flag, before the last step
  uint64_t weights_hash = 0;  // of weights and masters; equal hashes, equal bits. 0 when stopped
  uint64_t state_hash = 0;    // and of m and v; both of all ranks
  double seconds = 0;         // of steps and commits
  StepCounts counts;
  uint64_t nvme_bytes_read = 0;  // of this rank, as what follows
  uint64_t nvme_bytes_written = 0;
  TrafficByCollective traffic;
  uint64_t peak_rss_bytes = 0;
  double median_step_s = 0;
};

// Thread-compatible.
class TrainingSession {
 public:
  // Everything up to the first step. `observer` outlives the session.
  static Result<std::unique_ptr<TrainingSession>> Start(const RunConfig& config,
                                                        const SessionOptions& options,
                                                        SessionObserver& observer);
  virtual ~TrainingSession() = default;

  // Once. All remaining steps, or until `stop` is set: then the step under way ends, its state is
  // committed, and the summary says so. On an error nothing of the failed step is committed.
  virtual Result<SessionSummary> Run(const std::atomic<bool>& stop) = 0;
  virtual const PlannedRun& planned() const = 0;
};

}  // namespace strata::engine
