// One thread and its ring.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "aio/internal/request_engine.h"
#include "aio/internal/ring_feed.h"
#include "aio/internal/uring.h"

namespace strata::aio {

// The thread sleeps in the kernel until a piece completes or somebody wakes it: the ring itself
// reads the eventfd that Wake() writes. It ends when the feed stops and nothing is in flight.
class RingWorker {
 public:
  // `feed` and `engine` outlive the worker.
  static Result<std::unique_ptr<RingWorker>> Create(uint32_t index, const IoEngineOptions& options,
                                                    RingFeed& feed, RequestEngine& engine);
  ~RingWorker();  // after the feed was stopped and Wake() called: waits for the thread

  void Wake();  // any thread
  const std::vector<std::string>& notes() const { return ring_->notes(); }

 private:
  RingWorker(uint32_t index, const IoEngineOptions& options, RingFeed& feed, RequestEngine& engine)
      : index_(index), options_(options), feed_(feed), engine_(engine) {}
  Status Init();

  // All below: the worker's thread.
  void Run();
  void Fill();
  void ArmWake();
  void Prepare(uint32_t slot);
  void Submit(uint32_t wait_for);
  uint32_t CompletionsToWaitFor() const;
  void Reap();
  void OnWoken(int result);
  void OnCompleted(uint32_t slot, int result);

  const uint32_t index_;
  const IoEngineOptions options_;
  RingFeed& feed_;
  RequestEngine& engine_;

  std::unique_ptr<Uring> ring_;
  int wake_fd_ = -1;
  uint64_t wake_value_ = 0;  // where the kernel puts what it reads from wake_fd_
  bool wake_armed_ = false;
  std::vector<std::optional<IoPiece>> slots_;  // in the kernel, by the tag of their submission
  std::vector<uint32_t> free_slots_;
  bool more_ = false;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace strata::aio
