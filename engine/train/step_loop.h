// The steps of a run, from the state that it begins with to its last commit and its summary.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/data/dataset.h"
#include "engine/optimizer/numa_threads.h"
#include "engine/train/checkpointer.h"
#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_state.h"
#include "engine/train/session.h"
#include "engine/train/step_driver.h"
#include "engine/train/step_report.h"
#include "engine/train/step_runner.h"
#include "engine/train/step_trace.h"
#include "engine/train/watchdog.h"
#include "tiering/arena.h"
#include "tiering/block_store.h"
#include "tiering/device.h"

namespace strata::engine {

struct StepLoopParts {
  const RunConfig* config = nullptr;
  const PlannedRun* run = nullptr;
  Communicator* communicator = nullptr;
  Watchdog* watchdog = nullptr;
  SessionObserver* observer = nullptr;
  const Dataset* dataset = nullptr;
  const RunDirectory* directory = nullptr;
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  RunState* state = nullptr;
  const NumaThreads* numa = nullptr;  // of the optimizer's lane
};

// Thread-compatible. The parts outlive it.
class StepLoop {
 public:
  // Brings the run's checkpoints in order and gets ready for the first step.
  static Result<std::unique_ptr<StepLoop>> Create(const StepLoopParts& parts);
  StepLoop(const StepLoop&) = delete;
  StepLoop& operator=(const StepLoop&) = delete;

  // Once; TrainingSession::Run says what it does. The caller tells the other ranks of an error.
  Result<SessionSummary> Run(const std::atomic<bool>& stop);

 private:
  explicit StepLoop(const StepLoopParts& parts)
      : parts_(parts), trace_(parts.config->train.trace_steps) {}

  Status Prepare();
  Status PrepareStep();
  Result<StepReport> RunStep();
  StepReport MakeReport(const DrivenStep& step);
  void CountTraffic(StepReport* report);
  Status CommitStep(Checkpointer::Force force);
  Status FinishRun();
  Result<SessionSummary> Summarise(bool stopped);
  bool is_first() const { return parts_.communicator->rank() == 0; }

  StepLoopParts parts_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<StepDriver> driver_;
  double commit_s_ = 0;             // of the last commit
  double change_s_ = 0;             // before this step: flushing, changing plans
  tiering::StoreCounters counted_;  // when the last step was reported
  Traffic sent_;                    // the same of collectives
  std::vector<double> step_seconds_;
  double seconds_ = 0;
  StepTrace trace_;
};

}  // namespace strata::engine
