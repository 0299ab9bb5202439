// The collectives of this rank that are on a stream: begun by the thread that enqueues them, looked
// after by another one.
#pragma once

#include <cuda_runtime_api.h>

#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "aio/base/status.h"
#include "engine/comm/internal/board.h"

namespace strata::engine {

// Thread-safe; one thread at a time begins and ends. The CUDA device is current in every thread.
class Flights {
 public:
  Flights() = default;
  ~Flights();
  Flights(const Flights&) = delete;
  Flights& operator=(const Flights&) = delete;

  // What is put on the stream from here to End() is the collective. Gives it the next number.
  Result<Announcement> Begin(cudaStream_t stream, Announcement announcement);
  Status End(cudaStream_t stream);
  // Instead of End(), when it could not be enqueued.
  void GiveUp();

  // Looks which have started and ended since. Fails when the GPU has.
  Status Look();
  // The oldest that has started and not ended.
  std::optional<Announcement> waiting() const;
  // The last that has started; how many have ended.
  uint64_t num_started() const;
  uint64_t num_ended() const;

 private:
  struct Flight {
    Announcement announcement;
    cudaEvent_t start = nullptr;
    cudaEvent_t end = nullptr;
    bool is_enqueued = false;  // the end is recorded
    bool has_started = false;
  };

  Result<cudaEvent_t> TakeEvent();  // under the mutex
  void Land();                      // the oldest

  mutable std::mutex mutex_;
  std::deque<Flight> flights_;
  std::vector<cudaEvent_t> events_;  // that nobody uses
  uint32_t num_begun_ = 0;
  uint64_t num_started_ = 0;
  uint64_t num_ended_ = 0;
};

}  // namespace strata::engine
