#include "tests/aio/torture/fault_queue.h"

#include <algorithm>
#include <cerrno>

#include "aio/internal/posix_engine.h"

namespace strata::aio {

using fakes::Fault;
using fakes::FaultKind;

void FaultQueue::Prepare(const IoTransfer& transfer, uint64_t tag) {
  faults_.erase(tag);
  auto decision = plan_->Decide(transfer);
  if (!decision) return real_->Prepare(transfer, tag);
  faults_[tag] = decision->fault;
  bool is_short = decision->fault.kind == FaultKind::kShort;
  real_->Prepare(is_short ? fakes::Shortened(transfer, decision->random) : transfer, tag);
}

// Interrupted one time in sixteen, and short of memory one in 64: nothing is handed over then.
int FaultQueue::SubmitAndWait(uint32_t wait_for) {
  random_ = fakes::MixBits(random_);
  if (random_ % 64 == 1) return -EAGAIN;
  if (random_ % 16 == 0) return -EINTR;
  return real_->SubmitAndWait(late_.empty() ? wait_for : 0);
}

size_t FaultQueue::Reap(std::span<KernelCompletion> completions) {
  size_t num_late = std::min(late_.size(), completions.size());
  std::copy_n(late_.begin(), num_late, completions.begin());
  late_.erase(late_.begin(), late_.begin() + static_cast<ptrdiff_t>(num_late));
  size_t count = num_late;
  for (KernelCompletion& found :
       completions.subspan(num_late, real_->Reap(completions.subspan(num_late)))) {
    KernelCompletion completion = found;
    auto fault = faults_.extract(completion.tag);
    bool fails = fault && fault.mapped().kind == FaultKind::kError;
    if (fails) completion.result = -fault.mapped().error_number;
    bool is_late = fault && fault.mapped().kind == FaultKind::kDelayed;
    is_late ? late_.push_back(completion) : void(completions[count++] = completion);
  }
  std::ranges::reverse(completions.first(count));
  return count;
}

int64_t TransferWithFaults(const IoTransfer& transfer, fakes::FaultPlan& plan) {
  auto decision = plan.Decide(transfer);
  if (!decision) return TransferBySystemCall(transfer);
  if (decision->fault.kind == FaultKind::kShort)
    return TransferBySystemCall(fakes::Shortened(transfer, decision->random));
  int64_t result = TransferBySystemCall(transfer);
  return decision->fault.kind == FaultKind::kError ? -decision->fault.error_number : result;
}

}  // namespace strata::aio
