// Faults below an engine: a queue of the kernel, and system calls, that have bad days.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aio/internal/kernel_queue.h"
#include "tests/fakes/fault_plan.h"

namespace strata::aio {

// Stops transfers short, says of others that they failed (which by then may be done), answers late
// and in another order, and is interrupted. What a plan asks for beyond that is not for here.
class FaultQueue final : public KernelQueue {
 public:
  FaultQueue(std::unique_ptr<KernelQueue> real, std::shared_ptr<fakes::FaultPlan> plan,
             uint64_t seed)
      : real_(std::move(real)), plan_(std::move(plan)), random_(seed) {}

  void BindToThread() override { real_->BindToThread(); }
  void Prepare(const IoTransfer& transfer, uint64_t tag) override;
  void PrepareWake() override { real_->PrepareWake(); }
  int SubmitAndWait(uint32_t wait_for) override;
  std::vector<uint64_t> TakeBack() override { return real_->TakeBack(); }
  size_t Reap(std::span<KernelCompletion> completions) override;
  void OnIdle() override { real_->OnIdle(); }
  void Wake() override { real_->Wake(); }
  const std::vector<std::string>& notes() const override { return real_->notes(); }

 private:
  const std::unique_ptr<KernelQueue> real_;
  const std::shared_ptr<fakes::FaultPlan> plan_;  // with the other queues of the engine
  uint64_t random_;
  std::map<uint64_t, fakes::Fault> faults_;  // by tag, of those that are in the kernel
  std::vector<KernelCompletion> late_;       // to be answered next time
};

// The same for a backend that calls: of a call's result.
int64_t TransferWithFaults(const IoTransfer& transfer, fakes::FaultPlan& plan);

}  // namespace strata::aio
