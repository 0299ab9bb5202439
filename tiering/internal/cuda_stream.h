// A stream of a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "tiering/device.h"
#include "tiering/internal/cuda_events.h"

namespace strata::tiering {

class CudaStream final : public DeviceStream {
 public:
  // `memory` is what the device has; `num_streams` is counted up while this lives.
  CudaStream(uint32_t gpu, const std::string& name, std::span<const std::byte> memory,
             std::shared_ptr<CudaEvents> events, std::atomic<int>* num_streams);
  ~CudaStream() override;

  void CopyIn(std::span<std::byte> device_to, std::span<const std::byte> host_from) override;
  void CopyOut(std::span<std::byte> host_to, std::span<const std::byte> device_from) override;
  void Launch(std::function<Status(const StreamContext&)> function) override;
  void WaitFor(const DeviceEvent& event) override;
  DeviceEvent Record() override;

 private:
  void Copy(std::span<std::byte> to, std::span<const std::byte> from, cudaMemcpyKind kind);
  // The first failure is the stream's.
  void Fail(const Status& status);

  const std::string name_;  // "cuda:0: stream 'compute'"
  const std::span<const std::byte> memory_;
  const std::shared_ptr<CudaEvents> events_;  // shared with events, which outlive streams
  std::atomic<int>* const num_streams_;
  cudaStream_t stream_ = nullptr;
  Status status_;
};

}  // namespace strata::tiering
