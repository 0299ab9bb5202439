// The kernel queue that is a context of Linux's older asynchronous I/O.
#pragma once

#include <libaio.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/internal/kernel_queue.h"
#include "aio/internal/wake_fd.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Woken through an eventfd that the context itself polls. Asynchronous only for direct I/O: a
// transfer through the page cache is over when it has been submitted.
class LibaioQueue final : public KernelQueue {
 public:
  // kUnavailable when the kernel has no such context to give: refused, older than 4.19, or the
  // system's limit on them is reached.
  static Result<std::unique_ptr<KernelQueue>> Create(const IoEngineOptions& options);
  ~LibaioQueue() override;

  void BindToThread() override {}
  void Prepare(const IoTransfer& transfer, uint64_t tag) override;
  void PrepareWake() override;
  int SubmitAndWait(uint32_t wait_for) override;
  std::vector<uint64_t> TakeBack() override;
  size_t Reap(std::span<KernelCompletion> completions) override;
  void Wake() override { wake_->Signal(); }
  const std::vector<std::string>& notes() const override { return notes_; }

 private:
  LibaioQueue(uint32_t depth, std::unique_ptr<WakeFd> wake);
  Status SetUp();
  Status CheckWaking();
  iocb& ControlBlock(uint64_t tag);
  int Submit();
  int Wait(uint32_t wait_for);
  size_t ReapRefused(std::span<KernelCompletion> completions);
  KernelCompletion Judge(const io_event& event);

  const uint32_t depth_;
  const std::unique_ptr<WakeFd> wake_;
  const std::vector<std::string> notes_;
  io_context_t context_ = nullptr;
  std::vector<iocb> blocks_;               // by tag, the wake-up's last
  std::vector<iocb*> prepared_;            // oldest first
  std::vector<KernelCompletion> refused_;  // over before they began
  std::vector<io_event> events_;
  std::span<const io_event> unread_;  // of events_
};

}  // namespace strata::aio
