// The kernel queue that is an io_uring.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/internal/kernel_queue.h"
#include "aio/internal/uring.h"
#include "aio/internal/wake_fd.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Woken through an eventfd that the ring itself reads.
class UringQueue final : public KernelQueue {
 public:
  // kUnavailable when the kernel refuses io_uring.
  static Result<std::unique_ptr<KernelQueue>> Create(const IoEngineOptions& options);

  void BindToThread() override { ring_->EnableHere(); }
  void Prepare(const IoTransfer& transfer, uint64_t tag) override;
  void PrepareWake() override;
  int SubmitAndWait(uint32_t wait_for) override;
  std::vector<uint64_t> TakeBack() override;
  size_t Reap(std::span<KernelCompletion> completions) override;
  void Wake() override { wake_->Signal(); }
  const std::vector<std::string>& notes() const override { return ring_->notes(); }

 private:
  UringQueue(std::unique_ptr<Uring> ring, std::unique_ptr<WakeFd> wake)
      : ring_(std::move(ring)), wake_(std::move(wake)) {}
  io_uring_sqe* NextEntry();

  std::unique_ptr<Uring> ring_;
  std::unique_ptr<WakeFd> wake_;
  uint64_t wake_value_ = 0;  // where the kernel puts what it reads from wake_
};

}  // namespace strata::aio
