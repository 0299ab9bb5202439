#include "tiering/internal/cuda_events.h"

#include <chrono>

#include "tiering/cuda_status.h"

namespace strata::tiering {

using namespace std::chrono_literals;

namespace {

// What an anchor may be wrong by, at most.
constexpr Clock::duration kPatience = 200us;

}  // namespace

Result<std::shared_ptr<CudaEvents>> CudaEvents::Create(int gpu, Clock::duration renew_after) {
  std::shared_ptr<CudaEvents> events(new CudaEvents(gpu, renew_after));
  STRATA_RETURN_IF_ERROR(CudaStatus(events->MakeCurrent(), "choosing the GPU"));
  STRATA_RETURN_IF_ERROR(CudaStatus(
      cudaStreamCreateWithFlags(&events->stream_, cudaStreamNonBlocking), "creating a stream"));
  events->anchor_ = events->NewAnchor(10s);  // the first work on a GPU takes longer
  if (events->anchor_ == nullptr)
    return Internal("a GPU on which nothing runs did not reach an event in 10 s");
  for (int i = 0; i < 20; ++i) {  // on a busy host, too
    auto anchor = events->NewAnchor(kPatience);
    if (anchor == nullptr) continue;
    events->anchor_ = std::move(anchor);
    break;
  }
  events->renew_at_ = events->anchor_->time + renew_after;
  return events;
}

CudaEvents::~CudaEvents() {
  (void)MakeCurrent();
  anchor_.reset();
  for (cudaEvent_t event : free_) (void)cudaEventDestroy(event);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Result<cudaEvent_t> CudaEvents::Take() {
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      cudaEvent_t event = free_.back();
      free_.pop_back();
      return event;
    }
  }
  cudaEvent_t event = nullptr;
  STRATA_RETURN_IF_ERROR(CudaStatus(MakeCurrent(), "choosing the GPU"));
  STRATA_RETURN_IF_ERROR(
      CudaStatus(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "creating an event"));
  return event;
}

void CudaEvents::GiveBack(cudaEvent_t event) {
  std::lock_guard lock(mutex_);
  free_.push_back(event);
}

std::shared_ptr<const CudaEvents::Anchor> CudaEvents::RecentAnchor() {
  std::lock_guard lock(anchor_mutex_);
  if (Clock::now() < renew_at_) return anchor_;
  if (auto anchor = NewAnchor(kPatience)) anchor_ = std::move(anchor);
  renew_at_ = Clock::now() + renew_after_;
  return anchor_;
}

std::shared_ptr<const CudaEvents::Anchor> CudaEvents::NewAnchor(Clock::duration patience) {
  Result<cudaEvent_t> event = Take();
  if (!event.ok()) return nullptr;
  // Whoever holds the anchor holds this object, too.
  std::shared_ptr<Anchor> anchor(new Anchor{*event, {}}, [this](Anchor* ended) {
    GiveBack(ended->event);
    delete ended;
  });
  const Clock::time_point before = Clock::now();
  cudaError_t error = cudaEventRecord(*event, stream_);
  while (error == cudaSuccess && (error = cudaEventQuery(*event)) == cudaErrorNotReady) {
    if (Clock::now() - before > patience) return nullptr;
    error = cudaSuccess;
  }
  if (error != cudaSuccess) return nullptr;
  anchor->time = before + (Clock::now() - before) / 2;
  return anchor;
}

}  // namespace strata::tiering
