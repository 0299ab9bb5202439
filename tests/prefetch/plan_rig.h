// A plan with everything it takes to run it: a cpu device, host memory, and a store in a directory
// of its own, whose I/O can be made to fail.
#pragma once

#include <memory>

#include "prefetch/executor.h"
#include "tests/fakes/fault_engine.h"
#include "tests/prefetch/trace_interpreter.h"
#include "tests/tiering/temp_dir.h"

namespace strata::prefetch {

class PlanRig {
 public:
  // Persistent blocks start with FillRandom(index), where they are at home. `run` stands in for the
  // ops, RunStandIn by default. Not primed yet.
  explicit PlanRig(StepPlan plan, const ExecutorOptions& options = {}, RunOp run = {},
                   const fakes::FaultOptions& faults = {});

  // Primes, then does `num_steps` steps, each committed.
  Status Run(int num_steps);

  // Where each persistent block is at home, and each cached copy; names the first that differs.
  Status CompareTo(const TraceInterpreter& expected);

  Executor& executor() { return *executor_; }
  const StepPlan& plan() const { return plan_; }
  const std::string& directory() const { return directory_.path(); }
  fakes::FaultEngine& engine() { return *engine_; }
  const Timeline& last_timeline() const { return last_timeline_; }

 private:
  void CreateStore();
  void FillHomes();
  std::span<std::byte> BytesOf(const Slot& slot, BlockId block);

  const StepPlan plan_;
  tiering::TempDir directory_;
  std::unique_ptr<fakes::FaultEngine> engine_;
  std::unique_ptr<tiering::Device> device_;
  std::unique_ptr<tiering::Arena> host_;
  std::unique_ptr<tiering::Arena> buffer_;  // for what the test itself reads and writes
  std::unique_ptr<tiering::BlockStore> store_;
  std::unique_ptr<Executor> executor_;
  Timeline last_timeline_;
};

}  // namespace strata::prefetch
