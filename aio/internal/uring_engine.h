// The io_uring backend: as many rings as thread_count says, fed from one queue.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aio/internal/request_engine.h"
#include "aio/internal/ring_feed.h"
#include "aio/internal/ring_worker.h"

namespace strata::aio {

class UringEngine final : public RequestEngine {
 public:
  static Result<std::unique_ptr<IoEngine>> Create(const IoEngineOptions& options);
  ~UringEngine() override;

  IoBackend backend() const override { return IoBackend::kIoUring; }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  explicit UringEngine(const IoEngineOptions& options);
  Status StartWorkers();
  void TakeNotes(const RingWorker& worker);
  void Enqueue(std::shared_ptr<IoRequest> request) override;

  RingFeed feed_;
  std::vector<std::unique_ptr<RingWorker>> workers_;
  std::vector<std::string> notes_;
};

}  // namespace strata::aio
