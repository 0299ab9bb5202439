// The events of one GPU: made once and used again, and when they were reached by the host's clock.
//
// CUDA tells only the time between two events, as a float of milliseconds. So an event's time is
// that of an anchor, whose time on the host's clock is known, and what passed since. Anchors are
// renewed: of 4 s a float keeps 0.25 us, of an hour it would keep 0.25 ms, and clocks drift apart.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "aio/base/status.h"
#include "tiering/device.h"

namespace strata::tiering {

// Thread-safe. Whoever holds an event or an anchor of it keeps it alive.
class CudaEvents {
 public:
  struct Anchor {
    cudaEvent_t event = nullptr;
    Clock::time_point time;
    Clock::duration error;  // of the time, at most
  };

  static Result<std::shared_ptr<CudaEvents>> Create(
      int gpu, Clock::duration renew_after = std::chrono::seconds(2));
  ~CudaEvents();

  // Makes the GPU the calling thread's. To be called before any other call of CUDA: a thread that
  // has chosen none has GPU 0, and CUDA would take memory there for this process.
  cudaError_t MakeCurrent() const { return cudaSetDevice(gpu_); }

  Result<cudaEvent_t> Take();
  // May not have been reached yet: what waits for it on the device has its own place in time.
  void GiveBack(cudaEvent_t event);
  // One that was reached before this returned; not null.
  std::shared_ptr<const Anchor> RecentAnchor();

 private:
  CudaEvents(int gpu, Clock::duration renew_after) : gpu_(gpu), renew_after_(renew_after) {}
  void RenewAnchor();  // or keeps the one there is
  // Null where the GPU or this machine is too busy to say the time with so small an error.
  std::shared_ptr<const Anchor> NewAnchor(Clock::duration max_error);

  const int gpu_;
  const Clock::duration renew_after_;
  std::mutex mutex_;  // of what is free
  std::vector<cudaEvent_t> free_;
  std::mutex anchor_mutex_;
  cudaStream_t stream_ = nullptr;         // nothing else is on it, so an anchor is reached at once
  std::shared_ptr<const Anchor> anchor_;  // shared by the events that go by it
  Clock::time_point renew_at_;
};

}  // namespace strata::tiering
