#include "tiering/internal/cuda_events.h"

#include <algorithm>
#include <chrono>

#include "tiering/cuda_status.h"

namespace strata::tiering {

using namespace std::chrono_literals;

namespace {

// What an anchor may be wrong by, but on a machine that is too busy: there the best one counts, and
// others are tried soon.
constexpr Clock::duration kMaxError = 100us;
constexpr Clock::duration kTryAgainAfter = 10ms;

}  // namespace

Result<std::shared_ptr<CudaEvents>> CudaEvents::Create(int gpu, Clock::duration renew_after) {
  std::shared_ptr<CudaEvents> events(new CudaEvents(gpu, renew_after));
  STRATA_RETURN_IF_ERROR(CudaStatus(events->MakeCurrent(), "choosing the GPU"));
  STRATA_RETURN_IF_ERROR(CudaStatus(
      cudaStreamCreateWithFlags(&events->stream_, cudaStreamNonBlocking), "creating a stream"));
  events->anchor_ = events->NewAnchor(5s);  // the first work on a GPU takes longer
  if (events->anchor_ == nullptr)
    return Internal("a GPU on which nothing runs did not reach an event in 10 s");
  for (int i = 0; i < 20 && (i == 0 || events->anchor_->error > kMaxError); ++i)
    events->RenewAnchor();
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
  RenewAnchor();
  return anchor_;
}

void CudaEvents::RenewAnchor() {
  if (auto anchor = NewAnchor(std::max(kMaxError, anchor_->error))) anchor_ = std::move(anchor);
  const bool is_good = anchor_->error <= kMaxError;
  renew_at_ = Clock::now() + (is_good ? renew_after_ : std::min(renew_after_, kTryAgainAfter));
}

std::shared_ptr<const CudaEvents::Anchor> CudaEvents::NewAnchor(Clock::duration max_error) {
  Result<cudaEvent_t> event = Take();
  if (!event.ok()) return nullptr;
  // Whoever holds the anchor holds this object, too.
  std::shared_ptr<Anchor> anchor(new Anchor{*event, {}, {}}, [this](Anchor* ended) {
    GiveBack(ended->event);
    delete ended;
  });
  const Clock::time_point before = Clock::now();
  cudaError_t asked = cudaEventRecord(*event, stream_);
  if (asked == cudaSuccess) asked = cudaEventQuery(*event);
  while (asked == cudaErrorNotReady && Clock::now() - before <= 2 * max_error)
    asked = cudaEventQuery(*event);
  // Now, not when it was asked: this thread may have stood still in between.
  anchor->error = (Clock::now() - before) / 2;
  anchor->time = before + anchor->error;
  return asked == cudaSuccess && anchor->error <= max_error ? anchor : nullptr;
}

}  // namespace strata::tiering
