#include "aio/internal/uring_engine.h"

#include <algorithm>

#include "aio/base/log.h"

namespace strata::aio {

Result<std::unique_ptr<IoEngine>> UringEngine::Create(const IoEngineOptions& options) {
  std::unique_ptr<UringEngine> engine(new UringEngine(options));
  STRATA_RETURN_IF_ERROR(engine->StartWorkers());
  return std::unique_ptr<IoEngine>(std::move(engine));
}

UringEngine::UringEngine(const IoEngineOptions& options)
    : RequestEngine(options), feed_(options.block_size_bytes, options.thread_count) {}

Status UringEngine::StartWorkers() {
  for (uint32_t i = 0; i < options().thread_count; ++i) {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<RingWorker> worker,
                            RingWorker::Create(i, options(), feed_, *this));
    TakeNotes(*worker);
    workers_.push_back(std::move(worker));
  }
  return OkStatus();
}

// Rings of one engine mostly have the same to say.
void UringEngine::TakeNotes(const RingWorker& worker) {
  for (const std::string& note : worker.notes()) {
    if (std::find(notes_.begin(), notes_.end(), note) != notes_.end()) continue;
    notes_.push_back(note);
    if (note.starts_with("not registered")) Log(Severity::kWarning, "aio", "{}", note);
  }
}

UringEngine::~UringEngine() {
  feed_.Stop();
  for (const std::unique_ptr<RingWorker>& worker : workers_) worker->Wake();
}

void UringEngine::Enqueue(std::shared_ptr<IoRequest> request) {
  for (uint32_t ring : feed_.Push(std::move(request))) workers_[ring]->Wake();
}

}  // namespace strata::aio
