// One thread and its kernel queue.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "aio/internal/drain.h"
#include "aio/internal/kernel_queue.h"
#include "aio/internal/queue_feed.h"
#include "aio/internal/request_engine.h"

namespace strata::aio {

struct QueueTiming {
  // How much longer each pause is than the one before, while the kernel is short of memory.
  std::chrono::milliseconds pause_step{1};
  std::chrono::milliseconds drain_report_every = Drain::kReportEvery;
};

// The thread sleeps in the kernel until a piece completes or somebody wakes it. It ends when the
// feed stops and nothing is in flight, and tells `drain` so.
class QueueWorker {
 public:
  // `feed`, `engine` and `drain` outlive the worker.
  static Result<std::unique_ptr<QueueWorker>> Create(uint32_t index, const IoEngineOptions& options,
                                                     const QueueTiming& timing,
                                                     std::unique_ptr<KernelQueue> queue,
                                                     QueueFeed& feed, RequestEngine& engine,
                                                     Drain& drain);
  ~QueueWorker();  // after the feed was stopped and Wake() called: waits for the thread

  // Any thread.
  void Wake() { queue_->Wake(); }
  void DescribeOutstanding(std::vector<std::string>& descriptions);

  const std::vector<std::string>& notes() const { return queue_->notes(); }

 private:
  QueueWorker(uint32_t index, const IoEngineOptions& options, const QueueTiming& timing,
              std::unique_ptr<KernelQueue> queue, QueueFeed& feed, RequestEngine& engine,
              Drain& drain);

  // All below: the worker's thread.
  void Run();
  void Fill();
  void Start(IoPiece piece);
  void ArmWake();
  void Prepare(uint32_t slot);
  enum class Taken { kAll, kNotAll };
  Taken TrySubmit(uint32_t wait_for);
  void Submit(uint32_t wait_for);
  void PauseAndTakeBack();
  uint32_t CompletionsToWaitFor() const;
  void Reap();
  void OnWoken(int64_t result);
  void OnCompleted(uint32_t slot, int64_t result);

  const uint32_t index_;
  const IoEngineOptions options_;
  const QueueTiming timing_;
  const std::unique_ptr<KernelQueue> queue_;
  QueueFeed& feed_;
  RequestEngine& engine_;
  Drain& drain_;

  const uint32_t batch_;       // transfers in one call
  uint32_t num_prepared_ = 0;  // and not handed over yet
  bool wake_armed_ = false;
  // In the kernel, by the tag of their transfer. Only the worker's thread changes them, with the
  // lock; others look with the lock.
  std::vector<std::optional<IoPiece>> slots_;
  std::mutex slots_mutex_;
  std::vector<uint32_t> free_slots_;
  bool more_ = false;
  int num_pauses_ = 0;  // in a row
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace strata::aio
