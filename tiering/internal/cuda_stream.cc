#include "tiering/internal/cuda_stream.h"

#include <fmt/format.h>

#include <utility>

#include "aio/base/units.h"
#include "tiering/cuda_status.h"

namespace strata::tiering {
namespace {

bool Contains(std::span<const std::byte> outer, std::span<const std::byte> inner) {
  auto begin = reinterpret_cast<uintptr_t>(outer.data());
  auto at = reinterpret_cast<uintptr_t>(inner.data());
  return at >= begin && inner.size() <= outer.size() && at - begin <= outer.size() - inner.size();
}

class CudaEvent final : public DeviceEvent::State {
 public:
  // `before`: how the stream was when it was recorded. `event` may be null if that is a failure.
  CudaEvent(std::shared_ptr<CudaEvents> events, cudaEvent_t event, std::string stream,
            Status before)
      : events_(std::move(events)),
        anchor_(events_->RecentAnchor()),
        event_(event),
        stream_(std::move(stream)),
        before_(std::move(before)) {}
  ~CudaEvent() override {
    if (event_ != nullptr) events_->GiveBack(event_);
  }

  cudaEvent_t native() const { return event_; }
  const Status& before() const { return before_; }

  bool Done() const override {
    if (event_ == nullptr) return true;
    (void)events_->MakeCurrent();
    return cudaEventQuery(event_) != cudaErrorNotReady;
  }

  Status Wait() override {
    (void)events_->MakeCurrent();
    const cudaError_t error = event_ == nullptr ? cudaSuccess : cudaEventSynchronize(event_);
    if (!before_.ok()) return before_;
    if (error == cudaSuccess) return OkStatus();
    return CudaStatus(error, fmt::format("{}: work on the GPU failed ('dmesg | grep -i xid' may "
                                         "say more)",
                                         stream_));
  }

  Clock::time_point Time() const override {
    STRATA_CHECK(Done());
    float since_anchor_ms = 0;
    const bool told = event_ != nullptr &&
                      cudaEventElapsedTime(&since_anchor_ms, anchor_->event, event_) == cudaSuccess;
    if (!told) return Clock::now();  // it failed: no stream has reached it
    return anchor_->time + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double, std::milli>(since_anchor_ms));
  }

 private:
  const std::shared_ptr<CudaEvents> events_;  // shared: events outlive their stream
  const std::shared_ptr<const CudaEvents::Anchor> anchor_;
  const cudaEvent_t event_;
  const std::string stream_;
  const Status before_;
};

}  // namespace

CudaStream::CudaStream(uint32_t gpu, const std::string& name, std::span<const std::byte> memory,
                       std::shared_ptr<CudaEvents> events, std::atomic<int>* num_streams)
    : name_(fmt::format("cuda:{}: stream '{}'", gpu, name)),
      memory_(memory),
      events_(std::move(events)),
      num_streams_(num_streams) {
  num_streams_->fetch_add(1);
  cudaError_t error = events_->MakeCurrent();
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  Fail(CudaStatus(error, name_));
}

CudaStream::~CudaStream() {
  if (stream_ != nullptr) {
    (void)events_->MakeCurrent();
    (void)cudaStreamSynchronize(stream_);  // its events tell of failures
    (void)cudaStreamDestroy(stream_);
  }
  num_streams_->fetch_sub(1);
}

void CudaStream::Fail(const Status& status) {
  if (status_.ok()) status_ = status;
}

void CudaStream::CopyIn(std::span<std::byte> device_to, std::span<const std::byte> host_from) {
  const std::span<const std::byte> device_side = device_to, host_side = host_from;
  STRATA_CHECK(Contains(memory_, device_side));
  STRATA_CHECK(host_side.empty() || !Contains(memory_, host_side));
  Copy(device_to, host_from, cudaMemcpyHostToDevice);
}

void CudaStream::CopyOut(std::span<std::byte> host_to, std::span<const std::byte> device_from) {
  const std::span<const std::byte> device_side = device_from, host_side = host_to;
  STRATA_CHECK(Contains(memory_, device_side));
  STRATA_CHECK(host_side.empty() || !Contains(memory_, host_side));
  Copy(host_to, device_from, cudaMemcpyDeviceToHost);
}

void CudaStream::Copy(std::span<std::byte> to, std::span<const std::byte> from,
                      cudaMemcpyKind kind) {
  STRATA_CHECK(to.size() == from.size());
  if (!status_.ok() || to.empty()) return;
  cudaError_t error = events_->MakeCurrent();
  if (error == cudaSuccess)
    error = cudaMemcpyAsync(to.data(), from.data(), to.size(), kind, stream_);
  if (error == cudaSuccess) return;
  Fail(CudaStatus(error,
                  fmt::format("{}: cudaMemcpyAsync of {} {} the GPU", name_, FormatBytes(to.size()),
                              kind == cudaMemcpyHostToDevice ? "to" : "from")));
}

void CudaStream::Launch(std::function<Status(const StreamContext&)> function) {
  if (!status_.ok()) return;
  Fail(CudaStatus(events_->MakeCurrent(), name_));
  if (status_.ok()) Fail(function({.native_stream = stream_}));
}

void CudaStream::WaitFor(const DeviceEvent& event) {
  if (event.state() == nullptr || !status_.ok()) return;
  auto* on_gpu = dynamic_cast<CudaEvent*>(event.state());
  if (on_gpu == nullptr) return Fail(event.Wait());  // of another kind of device: the host waits
  Fail(on_gpu->before());
  if (!status_.ok()) return;
  cudaError_t error = events_->MakeCurrent();
  if (error == cudaSuccess)
    error = cudaStreamWaitEvent(stream_, on_gpu->native(), cudaEventWaitDefault);
  Fail(CudaStatus(error, name_ + ": cudaStreamWaitEvent"));
}

// Of a stream that has failed, too: the event is done when what was put on it before is over.
DeviceEvent CudaStream::Record() {
  cudaEvent_t native = nullptr;
  if (stream_ != nullptr) {
    Result<cudaEvent_t> event = events_->Take();
    Fail(event.status().With(name_));
    if (event.ok()) {
      cudaError_t error = events_->MakeCurrent();
      if (error == cudaSuccess) error = cudaEventRecord(*event, stream_);
      Fail(CudaStatus(error, name_ + ": cudaEventRecord"));
      if (error == cudaSuccess)
        native = *event;
      else
        events_->GiveBack(*event);
    }
  }
  return DeviceEvent(std::make_shared<CudaEvent>(events_, native, name_, status_));
}

}  // namespace strata::tiering
