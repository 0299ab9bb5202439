#include "aio/internal/queue_engine.h"

namespace strata::aio {

Result<std::unique_ptr<RequestEngine>> QueueEngine::Create(const IoEngineOptions& options,
                                                           IoBackend backend,
                                                           const KernelQueueFactory& make_queue,
                                                           const QueueTiming& timing) {
  std::unique_ptr<QueueEngine> engine(new QueueEngine(options, backend, timing));
  STRATA_RETURN_IF_ERROR(engine->StartWorkers(make_queue, timing));
  return std::unique_ptr<RequestEngine>(std::move(engine));
}

QueueEngine::QueueEngine(const IoEngineOptions& options, IoBackend backend,
                         const QueueTiming& timing)
    : RequestEngine(options),
      backend_(backend),
      feed_(options.block_size_bytes, options.thread_count),
      drain_(timing.drain_report_every) {}

Status QueueEngine::StartWorkers(const KernelQueueFactory& make_queue, const QueueTiming& timing) {
  for (uint32_t i = 0; i < options().thread_count; ++i) {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<KernelQueue> queue, make_queue());
    STRATA_ASSIGN_OR_RETURN(
        std::unique_ptr<QueueWorker> worker,
        QueueWorker::Create(i, options(), timing, std::move(queue), feed_, *this, drain_));
    for (const std::string& note : worker->notes()) TakeNote(note);
    workers_.push_back(std::move(worker));
  }
  return OkStatus();
}

QueueEngine::~QueueEngine() {
  feed_.Stop();
  for (const std::unique_ptr<QueueWorker>& worker : workers_) worker->Wake();
  drain_.Wait(workers_.size(), [this] { return Outstanding(); });
}

std::vector<std::string> QueueEngine::Outstanding() {
  std::vector<std::string> outstanding;
  for (const std::unique_ptr<QueueWorker>& worker : workers_)
    worker->DescribeOutstanding(outstanding);
  return outstanding;
}

void QueueEngine::Enqueue(std::shared_ptr<IoRequest> request) {
  for (uint32_t queue : feed_.Push(std::move(request))) workers_[queue]->Wake();
}

}  // namespace strata::aio
