// The backend that runs anywhere: threads that call pread and pwrite.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "aio/internal/drain.h"
#include "aio/internal/piece_queue.h"
#include "aio/internal/request_engine.h"

namespace strata::aio {

// Moves bytes; returns how many, or a negative errno. Called by many threads at once.
using TransferFunction = std::function<int64_t(const IoTransfer&)>;
int64_t TransferBySystemCall(const IoTransfer& transfer);

class PosixEngine final : public RequestEngine {
 public:
  static constexpr uint32_t kMaxWorkers = 64;

  static Result<std::unique_ptr<RequestEngine>> Create(
      const IoEngineOptions& options, TransferFunction transfer = TransferBySystemCall,
      std::chrono::milliseconds drain_report_every = Drain::kReportEvery);
  ~PosixEngine() override;

  IoBackend backend() const override { return IoBackend::kPosix; }

 private:
  PosixEngine(const IoEngineOptions& options, TransferFunction transfer,
              std::chrono::milliseconds drain_report_every);
  Status StartWorkers();
  void Enqueue(std::shared_ptr<IoRequest> request) override;
  void Work(size_t worker);
  // Puts the worker's next piece in the place of its last. False once the engine stops.
  bool WaitForPiece(size_t worker, std::optional<IoPiece>& piece);
  std::vector<std::string> Outstanding();

  const TransferFunction transfer_;
  std::mutex mutex_;
  std::condition_variable has_work_;
  PieceQueue queue_;
  bool stopping_ = false;
  std::vector<const IoPiece*> working_on_;  // by worker
  Drain drain_;
  std::vector<std::jthread> workers_;
};

}  // namespace strata::aio
