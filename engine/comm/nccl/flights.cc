#include "engine/comm/nccl/flights.h"

#include "tiering/cuda_status.h"

namespace strata::engine {
namespace {

// Ready, not ready, or why that will never be known.
Result<bool> IsReached(cudaEvent_t event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) return false;
  STRATA_RETURN_IF_ERROR(tiering::CudaStatus(error, "look after the collectives of the GPU"));
  return true;
}

}  // namespace

// Destroying an event does not wait for it; what it says of the GPU has been said before.
Flights::~Flights() {
  while (!flights_.empty()) Land();
  for (cudaEvent_t event : events_) static_cast<void>(cudaEventDestroy(event));
}

Result<cudaEvent_t> Flights::TakeEvent() {
  if (!events_.empty()) {
    cudaEvent_t event = events_.back();
    events_.pop_back();
    return event;
  }
  cudaEvent_t event = nullptr;
  STRATA_RETURN_IF_ERROR(tiering::CudaStatus(
      cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "create an event"));
  return event;
}

Result<Announcement> Flights::Begin(cudaStream_t stream, Announcement announcement) {
  std::lock_guard lock(mutex_);
  Flight flight;
  STRATA_ASSIGN_OR_RETURN(flight.start, TakeEvent());
  flight.announcement = announcement;
  flight.announcement.number = ++num_begun_;
  const Status recorded = tiering::CudaStatus(cudaEventRecord(flight.start, stream),
                                              "record where a collective starts");
  if (!recorded.ok()) {
    events_.push_back(flight.start);
    return recorded;
  }
  flights_.push_back(flight);
  return flight.announcement;
}

Status Flights::End(cudaStream_t stream) {
  std::lock_guard lock(mutex_);
  Flight& flight = flights_.back();
  STRATA_ASSIGN_OR_RETURN(flight.end, TakeEvent());
  STRATA_RETURN_IF_ERROR(
      tiering::CudaStatus(cudaEventRecord(flight.end, stream), "record where a collective ends"));
  flight.is_enqueued = true;
  return OkStatus();
}

void Flights::GiveUp() {
  std::lock_guard lock(mutex_);
  Flight& flight = flights_.back();
  for (cudaEvent_t event : {flight.start, flight.end})
    if (event != nullptr) events_.push_back(event);
  flights_.pop_back();
}

void Flights::Land() {
  for (cudaEvent_t event : {flights_.front().start, flights_.front().end})
    if (event != nullptr) events_.push_back(event);
  flights_.pop_front();
}

Status Flights::Look() {
  std::lock_guard lock(mutex_);
  for (auto flight = flights_.begin(); flight != flights_.end(); ++flight) {
    if (!flight->has_started) {
      STRATA_ASSIGN_OR_RETURN(flight->has_started, IsReached(flight->start));
      if (!flight->has_started) break;
      num_started_ = flight->announcement.number;
    }
  }
  while (!flights_.empty() && flights_.front().is_enqueued && flights_.front().has_started) {
    STRATA_ASSIGN_OR_RETURN(const bool has_ended, IsReached(flights_.front().end));
    if (!has_ended) break;
    ++num_ended_;
    Land();
  }
  return OkStatus();
}

std::optional<Announcement> Flights::waiting() const {
  std::lock_guard lock(mutex_);
  if (flights_.empty() || !flights_.front().has_started) return std::nullopt;
  return flights_.front().announcement;
}

uint64_t Flights::num_started() const {
  std::lock_guard lock(mutex_);
  return num_started_;
}

uint64_t Flights::num_ended() const {
  std::lock_guard lock(mutex_);
  return num_ended_;
}

}  // namespace strata::engine
