// The kernel queue that is an io_uring.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/internal/kernel_queue.h"
#include "aio/internal/registered_files.h"
#include "aio/internal/uring.h"
#include "aio/internal/wake_fd.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Woken through an eventfd that the ring itself reads.
class UringQueue : public KernelQueue {
 public:
  // kUnavailable when the kernel refuses io_uring.
  static Result<std::unique_ptr<KernelQueue>> Create(const IoEngineOptions& options);

  void BindToThread() override { ring_->EnableHere(); }
  void Prepare(const IoTransfer& transfer, uint64_t tag) override;
  void PrepareWake() override;
  int SubmitAndWait(uint32_t wait_for) override;
  std::vector<uint64_t> TakeBack() override;
  size_t Reap(std::span<KernelCompletion> completions) override;
  void OnIdle() override;
  void Wake() override { wake_->Signal(); }
  const std::vector<std::string>& notes() const override { return notes_; }

 protected:
  UringQueue(const IoEngineOptions& options, std::unique_ptr<Uring> ring,
             std::unique_ptr<WakeFd> wake);
  WakeFd& wake() { return *wake_; }

 private:
  io_uring_sqe* NextEntry();
  void UseRegisteredFile(io_uring_sqe* entry, const IoTransfer& transfer);

  const bool is_sqpoll_;
  const std::unique_ptr<Uring> ring_;
  const std::unique_ptr<WakeFd> wake_;
  std::unique_ptr<RegisteredFiles> files_;  // null without
  std::vector<std::string> notes_;
  uint64_t wake_value_ = 0;  // where the kernel puts what it reads from wake_
};

}  // namespace strata::aio
