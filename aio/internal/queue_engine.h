// The backends with a queue in the kernel: as many queues as thread_count says, each with its
// thread, fed from one queue of requests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aio/internal/drain.h"
#include "aio/internal/kernel_queue.h"
#include "aio/internal/queue_feed.h"
#include "aio/internal/queue_worker.h"
#include "aio/internal/request_engine.h"

namespace strata::aio {

class QueueEngine final : public RequestEngine {
 public:
  // `make_queue` makes queues of the kind that `backend` names.
  static Result<std::unique_ptr<RequestEngine>> Create(const IoEngineOptions& options,
                                                       IoBackend backend,
                                                       const KernelQueueFactory& make_queue,
                                                       const QueueTiming& timing = {});
  ~QueueEngine() override;

  IoBackend backend() const override { return backend_; }

 private:
  QueueEngine(const IoEngineOptions& options, IoBackend backend, const QueueTiming& timing);
  Status StartWorkers(const KernelQueueFactory& make_queue, const QueueTiming& timing);
  void Enqueue(std::shared_ptr<IoRequest> request) override;

  std::vector<std::string> Outstanding();

  const IoBackend backend_;
  QueueFeed feed_;
  Drain drain_;
  std::vector<std::unique_ptr<QueueWorker>> workers_;
};

}  // namespace strata::aio
