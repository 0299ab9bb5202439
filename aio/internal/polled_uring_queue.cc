#include "aio/internal/polled_uring_queue.h"

#include <algorithm>

namespace strata::aio {

void PolledUringQueue::Prepare(const IoTransfer& transfer, uint64_t tag) {
  UringQueue::Prepare(transfer, tag);
  ++in_ring_;
}

int PolledUringQueue::SubmitAndWait(uint32_t wait_for) {
  int result = 0;
  if (in_ring_ > 0) result = UringQueue::SubmitAndWait(std::min(wait_for, in_ring_));
  bool may_sleep = in_ring_ == 0 && wait_for > 0;
  if (wake_wanted_ && (may_sleep || wake().IsSignalled())) TakeWake();
  return result;
}

void PolledUringQueue::TakeWake() {
  wake().Clear();
  wake_wanted_ = false;
  is_woken_ = true;
}

std::vector<uint64_t> PolledUringQueue::TakeBack() {
  std::vector<uint64_t> tags = UringQueue::TakeBack();
  in_ring_ -= static_cast<uint32_t>(tags.size());
  return tags;
}

size_t PolledUringQueue::Reap(std::span<KernelCompletion> completions) {
  if (is_woken_) {
    is_woken_ = false;
    completions[0] = {.tag = kWakeTag, .result = 0};
    return 1;
  }
  size_t count = UringQueue::Reap(completions);
  in_ring_ -= static_cast<uint32_t>(count);
  return count;
}

}  // namespace strata::aio
