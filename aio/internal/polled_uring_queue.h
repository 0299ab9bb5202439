// An io_uring whose completions are asked for instead of announced ([aio] iopoll).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aio/internal/uring_queue.h"

namespace strata::aio {

// Such a ring moves blocks and does nothing else, so it cannot watch the eventfd: the thread waits
// there itself while nothing is in flight, and looks there after each batch of completions.
class PolledUringQueue final : public UringQueue {
 public:
  PolledUringQueue(const IoEngineOptions& options, std::unique_ptr<Uring> ring,
                   std::unique_ptr<WakeFd> wake)
      : UringQueue(options, std::move(ring), std::move(wake)) {}

  void Prepare(const IoTransfer& transfer, uint64_t tag) override;
  void PrepareWake() override { wake_wanted_ = true; }
  int SubmitAndWait(uint32_t wait_for) override;
  std::vector<uint64_t> TakeBack() override;
  size_t Reap(std::span<KernelCompletion> completions) override;

 private:
  void TakeWake();

  uint32_t in_ring_ = 0;
  bool wake_wanted_ = false;
  bool is_woken_ = false;
};

}  // namespace strata::aio
