// Does the operations of a step program: the callback that the executor runs.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/data/dataset.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_pool.h"
#include "engine/model/llama.h"
#include "engine/optimizer/adam.h"
#include "engine/optimizer/device_adam.h"
#include "engine/optimizer/numa_threads.h"
#include "engine/train/write_behind.h"
#include "engine/zero/step_program.h"
#include "prefetch/executor.h"

namespace strata::engine {

struct StepRunnerOptions {
  AdamHyperparameters adam;
  bool decays_norms = false;      // weight decay on RMSNorm weights, too
  double gradient_clipping = 0;   // the largest global norm; 0: no clipping
  uint64_t train_batch_size = 0;  // sequences of one step over all ranks and micro-batches
  uint32_t threads = 1;           // for the optimizer's lane
};

struct StepResult {
  double loss = 0;  // mean over the tokens of the whole batch, before the update
  double gradient_norm = 0;
  bool clipped = false;
  // Of steps that keep their gradients, and of fp16: why those must not be applied. Other steps
  // fail at once.
  Status not_finite;
};

// What one run of a program is about. Steps count from 0.
struct StepInputs {
  const StepProgram* program = nullptr;
  uint64_t step = 0;         // whose batch is read
  uint64_t update = 0;       // which one it is of the updates that the run makes
  double learning_rate = 0;  // of that update
  double loss_scale = 1;     // of this step's gradients
};

struct StepRunnerParts {
  const StateLayout* layout = nullptr;
  const LlamaModel* model = nullptr;
  Kernels* kernels = nullptr;
  const Dataset* dataset = nullptr;
  Communicator* communicator = nullptr;
  // Asked before each op whether what it overwrites is written; null: all is.
  WriteBehind* behind = nullptr;
  const NumaThreads* numa = nullptr;  // where the optimizer's threads stay; may be null
  DeviceAdam* device_adam = nullptr;  // null: no update is on the device
};

// Run() may be called by one thread per lane at a time: ops of one lane never overlap, and what two
// lanes share goes through the blocks. The parts outlive it.
class StepRunner {
 public:
  // kResourceExhausted where the threads of its pool cannot be started.
  static Result<StepRunner> Create(const StepRunnerParts& parts, const StepRunnerOptions& options);

  // Between steps.
  void BeginStep(const StepInputs& inputs);
  Status Run(prefetch::OpId op, const prefetch::Operands& operands,
             const tiering::StreamContext& stream);
  // After the step.
  const StepResult& result() const { return result_; }

 private:
  using Blocks = std::span<const std::span<std::byte>>;

  StepRunner(const StepRunnerParts& parts, const StepRunnerOptions& options, ThreadPool pool)
      : parts_(parts), options_(options), pool_(std::move(pool)) {}

  Status LoadBatch(const OpPayload& payload, Blocks blocks) const;
  Status RunForward(const OpPayload& payload, const prefetch::Operands& operands,
                    const tiering::StreamContext& stream) const;
  Status RunHead(const OpPayload& payload, const prefetch::Operands& operands,
                 const tiering::StreamContext& stream) const;
  Status RunBackward(const OpPayload& payload, const prefetch::Operands& operands,
                     const tiering::StreamContext& stream) const;
  Status PackGradient(const OpPayload& payload, Blocks blocks,
                      const tiering::StreamContext& stream) const;
  Status TakeOwn(Blocks blocks, const tiering::StreamContext& stream) const;
  ElementRange OwnGradient(uint32_t unit, uint64_t num_elements) const;
  Status RoundGradient(const OpPayload& payload, const prefetch::Operands& operands,
                       const tiering::StreamContext& stream) const;
  Status AddNorm(const OpPayload& payload, const prefetch::Operands& operands,
                 const tiering::StreamContext& stream) const;
  double SquaredNorm(std::span<const double> norms) const;
  Status Clip(Blocks blocks) const;
  Status Update(const OpPayload& payload, Blocks blocks, const tiering::StreamContext& stream);
  Status UpdateOnHost(const AdamScalars& scalars, const AdamSlices& slices, const double* scale);
  Status Report(Blocks blocks);
  // What of the step is not: the unit where backward met it first, or the loss.
  Status NotFinite(std::span<const double> norms) const;
  std::span<std::byte> Inputs(std::span<std::byte> tokens) const;
  std::span<std::byte> Targets(std::span<std::byte> tokens) const;
  // A gradient that is not finite costs the step's update, not the run: fp16, and where nothing of
  // the step is in the state yet.
  bool survives_not_finite() const {
    return parts_.layout->options.precision == DType::kF16 || KeepsGradients(inputs_.program->kind);
  }

  StepRunnerParts parts_;
  StepRunnerOptions options_;
  ThreadPool pool_;  // of the optimizer's lane, which is not the device's
  StepInputs inputs_;
  StepResult result_;
};

}  // namespace strata::engine
